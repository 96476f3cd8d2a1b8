"""A process that archives a flow, and kills itself at one of its steps.

    python -m tests.support.archive_process URL FLOW DIRECTORY STEP

A step is a statement, or what is done to a file: a part of the bundle is begun, is written to the
disk, takes its name. At the step with the number the process kills itself, a statement having been
sent. What the process does without being killed has fewer steps.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg

from chem_persistence import PgEventStore, PoolProvider, archive_flows, build_pool
from chem_persistence.bundles.archive import ArchiveWriter

__all__: list[str] = []


class Steps:
    """Counts the steps; kills the process at the one that it was told."""

    def __init__(self, number: int) -> None:
        self._left = number

    def killed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function of which each call is a step."""

        def counted(*arguments: Any, **options: Any) -> Any:
            self._left -= 1
            if self._left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return counted

    def killed_when_sent(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Return a function that sends a statement, each of which is a step."""

        async def counted(*arguments: Any, **options: Any) -> Any:
            self._left -= 1
            sending = asyncio.ensure_future(function(*arguments, **options))
            if self._left == 0:
                await asyncio.wait([sending], timeout=0.001)  # it was sent; maybe it is answered
                os.kill(os.getpid(), signal.SIGKILL)
            return await sending

        return counted


async def archive(url: str, flow_id: UUID, directory: Path, steps: Steps) -> None:
    async with await build_pool(url, min_size=1, max_size=2) as pool:
        store = PgEventStore(PoolProvider(pool))
        asyncpg.Connection.fetch = steps.killed_when_sent(asyncpg.Connection.fetch)  # type: ignore[method-assign]
        ArchiveWriter.begin = steps.killed(ArchiveWriter.begin)  # type: ignore[method-assign]
        Path.replace = steps.killed(Path.replace)  # type: ignore[method-assign]
        os.fsync = steps.killed(os.fsync)
        await archive_flows(store, [flow_id], directory, actor="Ada")
        await store.aclose()


def main() -> int:
    url, flow_id, directory, number = sys.argv[1:]
    asyncio.run(archive(url, UUID(flow_id), Path(directory), Steps(int(number))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
