"""The library's classes satisfy its ports; checked by `mypy --strict`, never run."""

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID

from chem_persistence import (
    BatchEventStore,
    Clock,
    ConnectionProvider,
    EventFeed,
    EventReader,
    EventStore,
    EventTransaction,
    FlowRepository,
    InMemoryEventStore,
    InMemoryFlowRepository,
    InMemoryLeases,
    InMemoryTransaction,
    Leases,
    LeasingEventStore,
    PgEventStore,
    PgFlowRepository,
    PgLeases,
    PgTransaction,
    PoolProvider,
    StreamingEventStore,
    SystemClock,
    TransferStore,
)
from chem_persistence.postgres.connection.ports import Connection
from chem_persistence.store.ports import ArtifactLister, ArtifactReader
from chem_persistence.store.reuse.results import ResultReader

if TYPE_CHECKING:
    import asyncpg


class FixedClock:
    def now(self) -> datetime:
        return datetime(2026, 1, 1, tzinfo=UTC)


class StoppedClock:
    now = datetime(2026, 1, 1, tzinfo=UTC)


def stores(provider: ConnectionProvider) -> list[EventStore]:
    return [
        InMemoryEventStore(),
        PgEventStore(provider),
        PgEventStore(provider, clock=FixedClock()),
    ]


def readers(provider: ConnectionProvider) -> list[EventReader]:
    return [InMemoryEventStore(), PgEventStore(provider)]


def artifact_readers(provider: ConnectionProvider) -> list[ArtifactReader]:
    return [PgEventStore(provider)]


def artifact_listers(provider: ConnectionProvider) -> list[ArtifactLister]:
    return [InMemoryEventStore(), PgEventStore(provider)]


def result_readers(provider: ConnectionProvider) -> list[ResultReader]:
    return [InMemoryEventStore(), PgEventStore(provider)]


def leasing_stores(provider: ConnectionProvider) -> list[LeasingEventStore]:
    return [InMemoryEventStore(), PgEventStore(provider)]


def leases(provider: ConnectionProvider) -> list[Leases]:
    return [InMemoryLeases(InMemoryEventStore()), PgLeases(provider)]


def feeds(provider: ConnectionProvider) -> list[EventFeed]:
    return [InMemoryEventStore(), PgEventStore(provider)]


def streaming_stores(provider: ConnectionProvider) -> list[StreamingEventStore]:
    return [InMemoryEventStore(), PgEventStore(provider)]


def transfer_stores(provider: ConnectionProvider) -> list[TransferStore]:
    return [InMemoryEventStore(), PgEventStore(provider)]


def batch_stores(provider: ConnectionProvider) -> list[BatchEventStore]:
    return [InMemoryEventStore(), PgEventStore(provider)]


def transactions(memory: InMemoryTransaction, postgres: PgTransaction) -> list[EventTransaction]:
    return [memory, postgres]


def repositories(provider: ConnectionProvider) -> list[FlowRepository]:
    return [InMemoryFlowRepository(InMemoryEventStore()), PgFlowRepository(provider)]


def providers(pool: "asyncpg.Pool[asyncpg.Record]") -> ConnectionProvider:
    return PoolProvider(pool)


def connections(connection: "asyncpg.Connection[asyncpg.Record]") -> Connection:
    return connection


def clocks() -> list[Clock]:
    return [SystemClock(), FixedClock()]


def a_pool_itself_will_do(pool: "asyncpg.Pool[asyncpg.Record]") -> ConnectionProvider:
    return pool


def wrong(connection: "asyncpg.Connection[asyncpg.Record]") -> None:
    PgEventStore(connection)  # type: ignore[arg-type]
    PgFlowRepository(InMemoryEventStore())  # type: ignore[arg-type]
    InMemoryEventStore(clock=StoppedClock())  # type: ignore[arg-type]


async def wrong_appends(store: EventStore, flow_id: UUID) -> None:
    await store.append_kind(flow_id, "flowinitialized")  # type: ignore[arg-type]
    await store.append_kind(flow_id, [])  # type: ignore[arg-type]
    await store.list(str(flow_id))  # type: ignore[arg-type]
