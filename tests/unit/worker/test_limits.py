"""The resources that the steps of a process share."""

import asyncio
from contextlib import AsyncExitStack
from types import SimpleNamespace
from typing import Any

import pytest

from chem_persistence import InvalidArgument
from chem_persistence.worker.limits import Limits


def step(**uses: int) -> Any:
    return SimpleNamespace(id="step", uses=uses)


async def test_a_step_waits_until_all_that_it_uses_is_free() -> None:
    limits, order = Limits({"cores": 2, "gpu": 1}), []

    async def use(name: str, **uses: int) -> None:
        async with limits.around(step(**uses)):
            order.append(name)

    async with AsyncExitStack() as held:
        await held.enter_async_context(limits.around(step(cores=2)))
        both = asyncio.create_task(use("both", cores=1, gpu=1))
        await asyncio.sleep(0)
        gpu = asyncio.create_task(use("gpu", gpu=1))
        await asyncio.sleep(0)
        assert order == []
    await asyncio.gather(both, gpu)
    assert order == ["both", "gpu"]


async def test_what_is_not_limited_is_not_waited_for() -> None:
    limits = Limits({"cores": 1})
    async with limits.around(step(cores=1)), limits.around(step(licences=9)):
        pass


async def test_a_cancelled_wait_takes_nothing() -> None:
    limits = Limits({"cores": 1})

    async def use() -> None:
        async with limits.around(step(cores=1)):
            await asyncio.Event().wait()

    first, second, third = (asyncio.create_task(use()) for _ in range(3))
    await asyncio.sleep(0)
    second.cancel()
    first.cancel()
    await asyncio.wait([first, second])
    third.cancel()
    await asyncio.wait([third])
    async with limits.around(step(cores=1)):
        pass


async def test_a_wait_that_is_cancelled_in_the_moment_it_is_granted_gives_back() -> None:
    limits = Limits({"cores": 1})
    async with AsyncExitStack() as held:
        await held.enter_async_context(limits.around(step(cores=1)))

        async def use() -> None:
            async with limits.around(step(cores=1)):
                await asyncio.Event().wait()

        waiting = asyncio.create_task(use())
        await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait([waiting])
    async with limits.around(step(cores=1)):
        pass


def test_a_limit_below_one_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="cores"):
        Limits({"cores": 0})
