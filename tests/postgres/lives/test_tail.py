"""`tail --follow` ends with an error when the database comes back without what was printed."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from chem_persistence import FlowEvent, PgEventStore, PoolProvider, StepSignal, build_pool
from tests.support.commands import FORKED, command_environment
from tests.support.flows.flows import new_flow_id
from tests.support.forks import ForkedProcess
from tests.support.servers.lives import Life, Promotion, Switchover

PATIENCE_SECONDS = 60.0
FLOW = new_flow_id()
SIGNAL = StepSignal(0, "acquire", "progress")
OF_THE_LOG_AND_OF_A_FLOW = pytest.mark.parametrize(
    "arguments",
    [
        pytest.param((), id="the log", marks=pytest.mark.slow),
        pytest.param((str(FLOW),), id="a flow"),
    ],
)


class Tail:
    """A running `tail --follow --json`."""

    def __init__(self, process: ForkedProcess) -> None:
        self._process = process

    async def event_id(self) -> str:
        """Wait for the next event that it prints."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            event_id: str = json.loads(await self._process.stdout.readline())["event_id"]
        return event_id

    async def end(self) -> tuple[int | None, list[str]]:
        """Wait until it ends by itself; return its exit code and its messages."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            _, errors = await self._process.communicate()
        return self._process.returncode, errors.decode().splitlines()

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)


@asynccontextmanager
async def tail(*arguments: str) -> AsyncIterator[Tail]:
    given = ["tail", "--follow", "--json", "--interval", "0.05", *arguments]
    process = await FORKED.process(given, variables=command_environment())
    try:
        yield Tail(process)
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def append(life: Life) -> FlowEvent:
    async with await build_pool(life.url, max_size=1) as pool:
        return await PgEventStore(PoolProvider(pool)).append_kind(FLOW, SIGNAL)


@pytest.mark.parametrize("kind", [Promotion], indirect=True)
@OF_THE_LOG_AND_OF_A_FLOW
async def test_it_ends_when_the_log_went_back(life: Life, arguments: tuple[str, ...]) -> None:
    kept = await append(life)
    await life.keep()
    async with tail(*arguments, "--database-url", life.url) as watched:
        assert await watched.event_id() == str(kept.event_id)
        lost = await append(life)
        assert await watched.event_id() == str(lost.event_id)
        await life.go_back()
        code, errors = await watched.end()
    assert code == 1
    assert errors[-1].startswith("error: ")
    assert str(FLOW) in errors[-1]


@pytest.mark.slow
@pytest.mark.parametrize("kind", [Switchover], indirect=True)
@OF_THE_LOG_AND_OF_A_FLOW
async def test_it_goes_on_after_a_clean_switchover(life: Life, arguments: tuple[str, ...]) -> None:
    before = await append(life)
    await life.keep()
    async with tail(*arguments, "--database-url", life.url) as watched:
        assert await watched.event_id() == str(before.event_id)
        await life.go_back()
        event = await append(life)
        assert await watched.event_id() == str(event.event_id)
        watched.interrupt()
        code, _ = await watched.end()
    assert code == 130
