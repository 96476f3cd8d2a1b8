"""Flows of trivial steps under a steady load: the steps that run within a window are counted."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from benchmarks.contestants.load import Load, Slice, Window

__all__ = ["STEPS", "Tally", "drive_flows"]

STEPS = 8
"""The steps of each flow."""

WAITING = 4
"""How many flows are submitted and not over, for each that runs at once; so nobody runs short."""

SECONDS_BETWEEN_LOOKS = 0.005
"""How long it takes at most to notice that a step has run."""


class Tally:
    """Counts the steps that have run in this process, and knows when a flow's last one has."""

    def __init__(self) -> None:
        self.steps = 0
        self._numbers = itertools.count()
        self._ends: dict[int, asyncio.Future[None]] = {}

    def step_ran(self, flow: int, step: int) -> None:
        """Count a step, numbered from 0; the last one ends its flow."""
        self.steps += 1
        if step == STEPS - 1 and (end := self._ends.pop(flow, None)) is not None:
            end.get_loop().call_soon_threadsafe(end.set_result, None)

    async def pass_by(self, steps: int) -> None:
        """Wait until more than so many steps have run."""
        while self.steps <= steps:  # noqa: ASYNC110  # a step may run in another thread
            await asyncio.sleep(SECONDS_BETWEEN_LOOKS)

    def expect(self) -> tuple[int, asyncio.Future[None]]:
        """Return the number of a new flow, and the future of its end."""
        number = next(self._numbers)
        self._ends[number] = end = asyncio.get_running_loop().create_future()
        return number, end


async def drive_flows(
    submit: Callable[[Sequence[int]], Awaitable[object]],
    tally: Tally,
    load: Load,
    *,
    together: int = 1,
    waiting: int = WAITING,
) -> Slice:
    """Keep `waiting` times the flows of the load submitted, and count their steps.

    `submit` is called with the numbers of flows, `together` of them at a time. An event of the
    slice is a step, its latencies are those of whole flows, from the submission to the last step.
    The flows that are under way when the window closes are run to their ends.
    """
    window, counted = Window(load), [0, 0]

    async def feed() -> None:
        while not window.over:
            begun = window.now()
            flows = [tally.expect() for _ in range(together)]
            await submit([number for number, _ in flows])
            for _, end in flows:
                await end
                window.call_ended(begun, STEPS)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(waiting * load.flows // together):
            tasks.create_task(feed())
        await asyncio.sleep(load.warmup)
        await tally.pass_by(tally.steps)  # a queue may not have begun yet
        window.open()
        counted[0] = tally.steps
        await asyncio.sleep(load.seconds)
        await tally.pass_by(counted[0])
        counted[1] = tally.steps
        window.close()
    return msgspec.structs.replace(window.result(), events=counted[1] - counted[0])
