"""Two concurrent runs of a flow that no lease locks: which loses, and how its attempt is shown.

That is a flow whose first event was appended by hand, or by a version of the library that took no
lease.
"""

import asyncio
import logging
from typing import Literal
from uuid import UUID

import msgspec
import pytest

from chem_persistence import (
    ConcurrencyConflict,
    FlowEngine,
    FlowInitialized,
    Step,
    StepContext,
    StepFinished,
    StepSignal,
    StepStarted,
    flow_page,
)
from chem_persistence.domain.events import FlowEventKind
from chem_persistence.views.attempts import FlowAttempts
from chem_persistence.views.flow_view import AttemptOutcome, PageLimits
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.pages.read_page import read_page
from tests.support.servers.backends import Backend

SUPERSEDED, OPEN = AttemptOutcome.SUPERSEDED, AttemptOutcome.OPEN
FINISHED = AttemptOutcome.FINISHED


class Weight(msgspec.Struct):
    by: int


class Weigh(Step[None, Weight]):
    """Work until the test ends the work of this run."""

    id = "weigh"

    def __init__(self, number: int, *, raises: bool = False) -> None:
        self.begun, self.may_end = asyncio.Event(), asyncio.Event()
        self._number, self._raises = number, raises

    async def run(self, _nothing: None, context: StepContext) -> Weight:
        self.begun.set()
        await self.may_end.wait()
        context.signal("weighed")
        if self._raises:
            raise ValueError("the balance is not level")
        return Weight(self._number)


class Run:
    """A run of a flow, as by a process of its own."""

    def __init__(self, backend: Backend, number: int, *, raises: bool = False) -> None:
        self._step = Weigh(number, raises=raises)
        self._engine = (
            FlowEngine.builder(backend.store, backend.repository).first_step(self._step).build()
        )

    async def append_first_event(self, backend: Backend, flow_id: UUID) -> None:
        begins = FlowInitialized(self._engine.definition.definition_hash, 1)
        await backend.store.append_kind(flow_id, begins, expected_version=0)

    async def begin(self, flow_id: UUID) -> None:
        self._task = asyncio.ensure_future(self._engine.run_to_end(flow_id))
        await self._step.begun.wait()

    async def end(self) -> None:
        self._step.may_end.set()
        await self._task

    async def die(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


async def outcomes(backend: Backend, flow_id: UUID) -> list[AttemptOutcome]:
    attempts = FlowAttempts(PageLimits())
    for event in await backend.store.list(flow_id):
        attempts.take(event)
    return [attempt.outcome for step in attempts.steps() for attempt in step.attempts]


async def trace(backend: Backend, flow_id: UUID) -> str:
    return "".join(event.variant for event in await backend.store.list(flow_id))


@pytest.mark.parametrize("runs", [2, 3, 5])
@pytest.mark.parametrize("older", ["finish", "fail", "die"])
async def test_the_run_that_started_the_step_last_stores_its_outcome(
    backend: Backend, runs: int, older: Literal["finish", "fail", "die"]
) -> None:
    flow_id = new_flow_id()
    overtaken = [Run(backend, number, raises=older == "fail") for number in range(1, runs)]
    last = Run(backend, runs)
    await last.append_first_event(backend, flow_id)
    for run in (*overtaken, last):
        await run.begin(flow_id)
    for run in overtaken:
        if older == "die":
            await run.die()
            continue
        with pytest.raises(ConcurrencyConflict) as caught:
            await run.end()
        assert caught.value.flow_id == flow_id
    assert await outcomes(backend, flow_id) == [*[SUPERSEDED] * len(overtaken), OPEN]
    await last.end()
    assert await trace(backend, flow_id) == "I" + "S" * runs + "GFC", "one outcome, one signal"
    assert await outcomes(backend, flow_id) == [*[SUPERSEDED] * len(overtaken), FINISHED]
    (finished,) = [
        event.kind
        for event in await backend.store.list(flow_id)
        if isinstance(event.kind, StepFinished)
    ]
    assert (await backend.store.get_artifact(finished.outputs[0])).payload == {"by": runs}


async def test_a_run_that_loses_logs_the_attempt_whose_outcome_is_not_stored(
    backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    flow_id, older, newer = new_flow_id(), Run(backend, 1), Run(backend, 2)
    await older.append_first_event(backend, flow_id)
    await older.begin(flow_id)
    await newer.begin(flow_id)
    with caplog.at_level(logging.WARNING, "chem_persistence.engine"):
        with pytest.raises(ConcurrencyConflict):
            await older.end()
        await newer.end()
    logged = [vars(record) for record in caplog.records if vars(record).get("flow_id")]
    assert [(record["step_id"], record["attempt"]) for record in logged] == [("weigh", 1)]
    assert "is not stored" in caplog.text


STEP = (0, "acquire")
START, SIGNAL = StepStarted(*STEP), StepSignal(*STEP, "progress")
FINISH = StepFinished(*STEP, (), "f" * 64)


@pytest.mark.parametrize(
    ("facts", "called"),
    [
        ([START, START], ["superseded", "not ended"]),
        ([START, SIGNAL, START, FINISH], ["superseded", "finished"]),
        ([START, START, START, FINISH], ["superseded", "superseded", "finished"]),
        ([START, SIGNAL], ["not ended"]),
    ],
)
async def test_a_page_calls_an_attempt_that_another_start_followed_superseded(
    backend: Backend, facts: list[FlowEventKind], called: list[str]
) -> None:
    flow_id = new_flow_id()
    for fact in [initialized(), *facts]:
        await backend.store.append_kind(flow_id, fact)
    page = read_page(await flow_page(backend.store, flow_id))
    classes = {"superseded": "superseded", "not ended": "open", "finished": "finished"}
    bars = [attributes.get("class") for tag, attributes in page.elements if tag == "rect"]
    attempts = [bar for bar in bars if bar != "bar pause"]
    assert attempts == [f"bar {classes[name]}" for name in called]
    assert "interrupted" not in page.text()
    assert ("superseded" in page.text()) is ("superseded" in called)
