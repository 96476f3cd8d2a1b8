"""The stores that the contract is tested on."""

import os
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

import asyncpg
import msgspec

from chem_persistence import (
    Clock,
    EventFeed,
    EventReader,
    InMemoryEventStore,
    InMemoryFlowRepository,
    PgEventStore,
    PgFlowRepository,
    PoolProvider,
    StreamingEventStore,
    build_pool,
)
from chem_persistence.postgres.connection.pool import open_pool
from tests.support.servers.pgbouncer import pgbouncer_before

SMALL_ARTIFACT_LIMIT = 2 * 2**20


class Store(StreamingEventStore, EventReader, EventFeed, Protocol):
    """The ports that the library's own stores implement."""


class Backend(msgspec.Struct, frozen=True):
    """A store and its repository; `reconnected` opens the same data as a new process would."""

    name: str
    store: Store
    repository: InMemoryFlowRepository | PgFlowRepository
    reconnected: "Callable[[], AbstractAsyncContextManager[Backend]]"


def memory_backend(clock: Clock | None = None) -> Backend:
    store = InMemoryEventStore(clock=clock, max_artifact_bytes=SMALL_ARTIFACT_LIMIT)

    @asynccontextmanager
    async def same() -> AsyncIterator[Backend]:
        yield backend

    backend = Backend("memory", store, InMemoryFlowRepository(store), same)
    return backend


@asynccontextmanager
async def postgres_backend(url: str, clock: Clock | None = None) -> AsyncIterator[Backend]:
    async with await migrated_pool(url, max_size=8) as pool:
        provider = PoolProvider(pool)
        store = PgEventStore(provider, clock=clock, max_artifact_bytes=SMALL_ARTIFACT_LIMIT)
        yield Backend(
            "postgres", store, PgFlowRepository(provider), lambda: postgres_backend(url, clock)
        )


@asynccontextmanager
async def way_to(url: str) -> AsyncIterator[str]:
    """Yield the URL by which stores reach a database: CHEM_TEST_PGBOUNCER puts PgBouncer before."""
    if not os.environ.get("CHEM_TEST_PGBOUNCER"):
        yield url
        return
    async with pgbouncer_before(url) as pooled:
        yield pooled


async def migrated_pool(url: str, *, max_size: int) -> "asyncpg.Pool[asyncpg.Record]":
    """Open a pool on a database with the tables; to look at them takes another session.

    On Citus that session finds out what the others need.
    """
    if os.environ.get("CHEM_TEST_PGBOUNCER"):
        return await build_pool(url, max_size=max_size, transaction_pooling=True)
    opened = build_pool if os.environ.get("CHEM_TEST_CITUS") else open_pool
    return await opened(url, max_size=max_size)
