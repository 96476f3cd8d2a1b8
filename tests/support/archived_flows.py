"""Flows that are archived by hand, and connections between whose statements something happens."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias, cast
from uuid import UUID

from chem_persistence.postgres.connection.ports import Connection, ConnectionProvider

if TYPE_CHECKING:
    import asyncpg

__all__ = ["BUNDLE", "Meanwhile", "archive", "forget"]

Owner: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

BUNDLE = "b" * 64
"""The SHA-256 of the bundle that the register names."""

_REGISTER = """
    INSERT INTO archived_flows
        (flow_id, version, chain_hash, first_seq, last_seq, bundle_sha256, consumers, actor)
    SELECT last.flow_id, last.version + 1, last.chain_hash,
        (SELECT min(seq) FROM event_log WHERE flow_id = $1), last.seq, $2, '{}', 'Ada'
    FROM event_log AS last
    WHERE last.flow_id = $1
    ORDER BY last.version DESC
    LIMIT 1
"""
_PAST_TRIGGERS = (
    "SET LOCAL citus.propagate_set_commands = 'local'",
    "SET LOCAL session_replication_role = replica",
)
"""On Citus the triggers are those of the shards; plain PostgreSQL accepts the first, too."""

_TABLES = ("flow_snapshots", "workflow_step_executions", "workflow_step_artifacts", "event_log")


async def archive(owner: Owner, *flow_ids: UUID, bundle: str = BUNDLE) -> None:
    """Register flows, and delete what they have, as the superuser, past the triggers."""
    async with owner.transaction():
        for setting in _PAST_TRIGGERS:
            await owner.execute(setting)
        for flow_id in flow_ids:
            await owner.execute(_REGISTER, flow_id, bundle)
            for table in _TABLES:
                await owner.execute(f"DELETE FROM {table} WHERE flow_id = $1", flow_id)


async def forget(owner: Owner, flow_id: UUID, version: int) -> None:
    """Delete the events of a flow from a version on, as if the log had gone back."""
    async with owner.transaction():
        for setting in _PAST_TRIGGERS:
            await owner.execute(setting)
        await owner.execute(
            "DELETE FROM event_log WHERE flow_id = $1 AND version >= $2", flow_id, version
        )


class Meanwhile:
    """A provider on whose connections `work` is done before the statement with a number."""

    def __init__(
        self, provider: ConnectionProvider, number: int, work: Callable[[], Awaitable[object]]
    ) -> None:
        self.left = number
        self._provider = provider
        self._work = work

    @property
    def is_done(self) -> bool:
        """Whether the work was done."""
        return self.left < 0

    def acquire(self) -> AbstractAsyncContextManager[Connection]:
        return self._acquire()

    @asynccontextmanager
    async def _acquire(self) -> AsyncIterator[Connection]:
        async with self._provider.acquire() as connection:
            yield cast("Connection", _Watched(connection, self))

    async def pass_by(self) -> None:
        self.left -= 1
        if self.left == -1:
            await self._work()


class _Watched:
    def __init__(self, connection: Connection, meanwhile: Meanwhile) -> None:
        self._connection = connection
        self._meanwhile = meanwhile

    async def fetch(self, query: str, *args: Any, **options: Any) -> list[Any]:
        await self._meanwhile.pass_by()
        return await self._connection.fetch(query, *args, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)
