"""LangGraph's AsyncPostgresSaver: a checkpoint and the writes that belong to it."""

from uuid import uuid4

from langgraph.checkpoint.base import empty_checkpoint
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from benchmarks.contestants.load import Append, Load, Slice, drive
from benchmarks.data.history import ROWS_OF_TEN

__all__ = ["SaverAFlow", "SharedSaver"]

_CONNECTIONS = 20
"""As in LangGraph's own documentation."""


class SharedSaver:
    """One saver on a pool for all flows; it has a single lock."""

    async def open(self, url: str) -> None:
        """Open the pool as LangGraph's documentation says, and create the tables."""
        settings = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}
        self._pool = AsyncConnectionPool(url, max_size=_CONNECTIONS, open=False, kwargs=settings)
        await self._pool.open()
        self._saver = AsyncPostgresSaver(self._pool)
        await self._saver.setup()

    async def run(self, load: Load) -> Slice:
        """Run a slice."""
        return await drive([_flow(self._saver_of_flow()) for _ in range(load.flows)], load)

    async def close(self) -> None:
        """Close the pool."""
        await self._pool.close()

    def _saver_of_flow(self) -> AsyncPostgresSaver:
        return self._saver


class SaverAFlow(SharedSaver):
    """A saver for each flow, on the same pool, so that no flow waits for another one's lock."""

    def _saver_of_flow(self) -> AsyncPostgresSaver:
        return AsyncPostgresSaver(self._pool)


def _flow(saver: AsyncPostgresSaver) -> Append:
    """Append one checkpoint with its writes per call: threads of ten checkpoints."""
    config = {"configurable": {"thread_id": "", "checkpoint_ns": ""}}
    number = 0

    async def append() -> int:
        nonlocal config, number
        if number % 10 == 0:
            config = {"configurable": {"thread_id": str(uuid4()), "checkpoint_ns": ""}}
        _, payload = ROWS_OF_TEN[number % 10]
        number += 1
        checkpoint = empty_checkpoint()
        checkpoint["channel_values"] = {"step": {"payload": payload}}
        checkpoint["channel_versions"] = {"step": number}
        metadata = {"source": "loop", "step": number, "parents": {}}
        config = await saver.aput(config, checkpoint, metadata, {"step": number})
        await saver.aput_writes(config, [("step", {"payload": payload})], str(uuid4()))
        return 1

    return append
