"""Workers that die at any of their calls to the store."""

import asyncio
from collections.abc import Coroutine, Sequence
from datetime import timedelta
from typing import Any

import pytest

from chem_persistence import Flow, Worker
from chem_persistence.engine.leases import leased_run
from tests.support.faults.mortal_store import Life, MortalStore
from tests.support.leases.desk import Desk

__all__ = ["worked_until_death"]


async def worked_until_death(
    desk: Desk,
    flows: Sequence[Flow[Any, Any]],
    life: Life,
    reached: Coroutine[Any, Any, Any],
    **options: Any,
) -> bool:
    """Run a worker until it dies, or what is waited for has come; return whether it has died.

    The store of a dead worker takes no outcome, however long that waits.
    """
    given: dict[str, Any] = {"poll_interval": 0.01, "grace": timedelta(milliseconds=10)}
    worker = Worker(MortalStore(desk.store, life), flows, **given | options)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(leased_run, "STORE_PAUSE", 0.001)
        running = asyncio.create_task(worker.run())
        waits = [asyncio.create_task(life.over.wait()), asyncio.create_task(reached)]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        died = life.over.is_set()
        life.left = 0
        worker.stop()
        await running
        for task in waits:
            task.cancel()
        await asyncio.wait(waits)
    return died
