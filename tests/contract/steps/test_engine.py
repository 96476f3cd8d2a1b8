"""What flows do on every store, from the first event to the last."""

import asyncio
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec
import pytest

from chem_persistence import (
    Artifact,
    ArtifactNotFound,
    BlockingStep,
    DefinitionMismatch,
    FlowAlreadyCompleted,
    FlowAwaitsUser,
    FlowEngine,
    FlowHasFailed,
    FlowNotCompleted,
    InvalidArgument,
    InvalidDefinition,
    InvalidPayload,
    Step,
    StepContext,
    StepFailed,
    StepFinished,
    StepKind,
    StepRaised,
    StepSignal,
    StepStarted,
    StepStatus,
    UserInteractionProvided,
    UserInteractionRequested,
    content_hash,
)
from tests.support.flows.flows import new_flow_id
from tests.support.servers.backends import SMALL_ARTIFACT_LIMIT, Backend, memory_backend


class Mixture(msgspec.Struct):
    smiles: str


class Molecules(msgspec.Struct):
    smiles: list[str]


class Count(msgspec.Struct):
    molecules: int


class Energy(msgspec.Struct):
    hartree: float
    method: str = ""


class SeedStep(Step[None, Mixture]):
    id = "seed"
    kind = StepKind.SOURCE

    async def run(self, _nothing: None, _context: StepContext) -> Mixture:
        return Mixture("CCO.c1ccccc1")


class SplitStep(Step[Mixture, Molecules]):
    id = "split"

    async def run(self, mixture: Mixture, _context: StepContext) -> Molecules:
        return Molecules(mixture.smiles.split("."))


class CountStep(Step[Molecules, Count]):
    id = "count"
    kind = StepKind.SINK

    async def run(self, molecules: Molecules, _context: StepContext) -> Count:
        return Count(len(molecules.smiles))


class Scripted(Step[Mixture, Molecules]):
    """Split, after an action of the test at each run, in order; afterwards do nothing more."""

    id = "split"

    def __init__(self, *acts: Callable[[StepContext], Any]) -> None:
        self._acts = list(acts)
        self.runs: list[int] = []

    async def run(self, mixture: Mixture, context: StepContext) -> Molecules:
        self.runs.append(context.attempt)
        if self._acts:
            act = self._acts.pop(0)(context)
            if isinstance(act, asyncio.Event):
                await act.wait()
            elif act is not None:
                return act  # type: ignore[no-any-return]
        return Molecules(mixture.smiles.split("."))


def raising(error: Exception) -> Callable[[StepContext], Any]:
    def act(_context: StepContext) -> None:
        raise error

    return act


def engine_of(backend: Backend, middle: Step[Mixture, Molecules] | None = None) -> FlowEngine[None]:
    builder = FlowEngine.builder(backend.store, backend.repository).first_step(SeedStep())
    return builder.add_step(middle or SplitStep()).add_step(CountStep()).build()


def engine_with_input(backend: Backend) -> FlowEngine[Mixture]:
    builder = FlowEngine.builder(backend.store, backend.repository)
    return builder.first_step(SplitStep()).add_step(CountStep()).build()


async def test_a_flow_runs_to_its_end(backend: Backend) -> None:
    engine = engine_of(backend)
    flow_id = await engine.run_to_end()
    assert await engine.event_variants() == ["I", "S", "F", "C"]
    assert await engine.event_trace() == list("ISFSFSFC")
    instance = await engine.load()
    assert (instance.id, instance.completed, instance.cursor, instance.version) == (
        flow_id,
        True,
        3,
        8,
    )
    assert {slot.status for slot in instance.steps} == {StepStatus.FINISHED}
    assert [slot.attempts for slot in instance.steps] == [1, 1, 1]
    result = await backend.store.get_artifact(instance.steps[-1].outputs[0])
    assert (result.kind, result.payload) == ("Count", {"molecules": 2})


async def test_the_fingerprint_is_the_same_in_every_run_and_in_memory(backend: Backend) -> None:
    engine, in_memory = engine_of(backend), engine_of(memory_backend())
    fingerprints = set()
    for _ in range(2):
        await engine.run_to_end()
        fingerprints.add(await engine.flow_fingerprint())
    await in_memory.run_to_end()
    assert fingerprints == {await in_memory.flow_fingerprint()}


async def test_the_fingerprint_is_the_one_in_the_last_event(backend: Backend) -> None:
    engine = engine_of(backend)
    flow_id = await engine.run_to_end()
    last = (await backend.store.list(flow_id))[-1]
    assert getattr(last.kind, "flow_fingerprint", None) == await engine.flow_fingerprint()


async def test_one_step_at_a_time_ends_with_the_same_fingerprint(backend: Backend) -> None:
    engine, flow_id = engine_of(backend), new_flow_id()
    cursors = [(await engine.run_step(flow_id)).cursor for _ in range(3)]
    assert cursors == [1, 2, 3]
    assert await engine.event_trace(flow_id) == list("ISFSFSFC")
    stepped = await engine.flow_fingerprint(flow_id)
    await engine.run_to_end()
    assert stepped == await engine.flow_fingerprint()


async def test_the_state_that_run_step_gives_is_the_one_that_is_loaded(backend: Backend) -> None:
    engine, flow_id = engine_of(backend), new_flow_id()
    for _ in range(3):
        assert await engine.run_step(flow_id) == await engine.load(flow_id)


async def test_a_flow_begun_step_by_step_is_run_to_its_end_by_another_engine(
    backend: Backend,
) -> None:
    flow_id, first = new_flow_id(), Scripted()
    await engine_of(backend, first).run_step(flow_id)
    await engine_of(backend, first).run_step(flow_id)
    async with backend.reconnected() as again:
        engine = engine_of(again, second := Scripted())
        await engine.run_to_end(flow_id)
        assert await engine.event_trace(flow_id) == list("ISFSFSFC")
    assert (first.runs, second.runs) == ([1], [])


async def test_no_fingerprint_before_the_end(backend: Backend) -> None:
    engine, flow_id = engine_of(backend), new_flow_id()
    await engine.run_step(flow_id)
    with pytest.raises(FlowNotCompleted):
        await engine.flow_fingerprint(flow_id)


async def test_an_engine_that_ran_nothing_has_no_last_flow(backend: Backend) -> None:
    engine = engine_of(backend)
    for ask in (engine.load, engine.event_trace, engine.event_variants, engine.flow_fingerprint):
        with pytest.raises(InvalidArgument, match="flow_id"):
            await ask()


async def test_a_completed_flow_cannot_be_run_again(backend: Backend) -> None:
    engine = engine_of(backend)
    flow_id = await engine.run_to_end()
    for run in (engine.run_to_end, engine.run_step):
        with pytest.raises(FlowAlreadyCompleted):
            await run(flow_id)
    assert len(await engine.event_trace(flow_id)) == 8


async def test_an_input_is_an_artifact_and_the_first_steps_input(backend: Backend) -> None:
    engine, given = engine_with_input(backend), Mixture("C.N.O")
    flow_id = await engine.run_to_end(input=given)
    instance = await engine.load()
    assert instance.input == content_hash(given)
    stored = await backend.store.get_artifact(content_hash(given))
    assert (stored.kind, stored.payload) == ("Mixture", {"smiles": "C.N.O"})
    result = await backend.store.get_artifact(instance.steps[-1].outputs[0])
    assert result.payload == {"molecules": 3}
    assert (await backend.store.list(flow_id))[0].variant == "I"


async def test_other_inputs_have_other_fingerprints_and_the_same_definition(
    backend: Backend,
) -> None:
    engine = engine_with_input(backend)
    fingerprints = []
    for smiles in ("C", "N", "C"):
        await engine.run_to_end(input=Mixture(smiles))
        fingerprints.append(await engine.flow_fingerprint())
    assert fingerprints[0] == fingerprints[2] != fingerprints[1]


@pytest.mark.parametrize("given", [None, Molecules(["C"]), {"smiles": "C"}, "C", object()])
async def test_an_input_that_the_first_step_does_not_take_starts_no_flow(
    backend: Backend, given: Any
) -> None:
    engine, flow_id = engine_with_input(backend), new_flow_id()
    with pytest.raises(InvalidArgument, match="input"):
        await engine.run_to_end(flow_id, given)
    assert await backend.store.list(flow_id) == []


async def test_an_input_to_a_flow_that_takes_none_is_refused(backend: Backend) -> None:
    flow_id = new_flow_id()
    with pytest.raises(InvalidArgument, match="input"):
        await engine_of(backend).run_to_end(flow_id, Mixture("C"))  # type: ignore[arg-type]
    assert await backend.store.list(flow_id) == []


async def test_an_input_above_the_limit_starts_no_flow(backend: Backend) -> None:
    flow_id = new_flow_id()
    with pytest.raises(InvalidPayload, match="limit"):
        await engine_with_input(backend).run_to_end(flow_id, Mixture("C" * SMALL_ARTIFACT_LIMIT))
    assert await backend.store.list(flow_id) == []


async def test_an_input_may_be_repeated_or_left_out_when_going_on_but_not_changed(
    backend: Backend,
) -> None:
    engine, flow_id = engine_with_input(backend), new_flow_id()
    await engine.run_step(flow_id, Mixture("C.N"))
    with pytest.raises(InvalidArgument, match="another input"):
        await engine.run_to_end(flow_id, Mixture("C"))
    with pytest.raises(InvalidArgument, match="input"):
        await engine.run_to_end(flow_id, object())  # type: ignore[arg-type]
    await engine.run_to_end(flow_id, Mixture("C.N"))
    other = new_flow_id()
    await engine.run_step(other, Mixture("C.N"))
    await engine.run_to_end(other)
    assert await engine.flow_fingerprint(flow_id) == await engine.flow_fingerprint(other)


async def test_a_step_that_raises_is_a_failed_step(backend: Backend) -> None:
    error = ValueError("no \ud800 valence \0")
    engine, flow_id = engine_of(backend, Scripted(raising(error))), new_flow_id()
    with pytest.raises(StepRaised) as caught:
        await engine.run_to_end(flow_id)
    assert caught.value.__cause__ is error
    assert (caught.value.flow_id, caught.value.step_id) == (flow_id, "split")
    failed = (await backend.store.list(flow_id))[-1].kind
    assert isinstance(failed, StepFailed)
    assert failed.error.error_class == "builtins.ValueError"
    assert failed.error.message == "no \\ud800 valence \\0"
    assert "ValueError" in failed.error.traceback
    assert "in run" in failed.error.traceback
    slot = (await engine.load(flow_id)).steps[1]
    assert (slot.status, slot.error, slot.attempts) == (StepStatus.FAILED, failed.error, 1)
    assert await engine.event_trace(flow_id) == list("ISFSX")


async def test_an_exception_that_cannot_describe_itself_is_a_failed_step(backend: Backend) -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    engine, flow_id = engine_of(backend, Scripted(raising(Mute()))), new_flow_id()
    with pytest.raises(StepRaised):
        await engine.run_to_end(flow_id)
    failed = (await backend.store.list(flow_id))[-1].kind
    assert isinstance(failed, StepFailed)
    assert failed.error.error_class.endswith("Mute")


async def test_a_failed_flow_stands_still_until_a_retry_is_scheduled(backend: Backend) -> None:
    step = Scripted(raising(ValueError("once")), raising(ValueError("twice")))
    engine, flow_id = engine_of(backend, step), new_flow_id()
    with pytest.raises(StepRaised):
        await engine.run_to_end(flow_id)
    for run in (engine.run_to_end, engine.run_step):
        with pytest.raises(FlowHasFailed) as caught:
            await run(flow_id)
        assert caught.value.step_id == "split"
    pending = (await engine.schedule_retry(flow_id, reason="other solvent")).steps[1]
    assert (pending.status, pending.retry_count, pending.attempts) == (StepStatus.PENDING, 1, 1)
    with pytest.raises(StepRaised):
        await engine.run_to_end(flow_id)
    await engine.schedule_retry(flow_id, reason="more memory")
    await engine.run_to_end(flow_id)
    slot = (await engine.load(flow_id)).steps[1]
    assert (slot.status, slot.retry_count, slot.attempts) == (StepStatus.FINISHED, 2, 3)
    assert step.runs == [1, 2, 3]
    assert await engine.event_trace(flow_id) == list("ISFSXRSXRSFSFC")


async def test_a_retried_flow_has_the_undisturbed_fingerprint(backend: Backend) -> None:
    engine, flow_id = engine_of(backend, Scripted(raising(ValueError("once")))), new_flow_id()
    with pytest.raises(StepRaised):
        await engine.run_to_end(flow_id)
    await engine.schedule_retry(flow_id, reason="again")
    await engine.run_to_end(flow_id)
    undisturbed = engine_of(backend)
    await undisturbed.run_to_end()
    assert await engine.flow_fingerprint(flow_id) == await undisturbed.flow_fingerprint()


async def test_a_retry_of_a_flow_that_has_not_failed_is_refused(backend: Backend) -> None:
    engine = engine_of(backend)
    flow_id = await engine.run_to_end()
    with pytest.raises(InvalidArgument, match="no step"):
        await engine.schedule_retry(flow_id, reason="for luck")


class BadStep(Step[Mixture, Energy]):
    """Return what the test gives it, whatever the type."""

    id = "bad"

    def __init__(self, output: Any, extra: Artifact | None = None) -> None:
        self._output = output
        self._extra = extra

    async def run(self, _mixture: Mixture, context: StepContext) -> Energy:
        context.signal("computed")
        if self._extra is not None:
            context.add_artifact(self._extra)
        return self._output  # type: ignore[no-any-return]


BIG = Artifact.from_content(kind="Grid", content=bytes(SMALL_ARTIFACT_LIMIT + 1), media_type="x/y")


@pytest.mark.parametrize(
    ("step", "error_class"),
    [
        (BadStep(Energy(float("nan"))), "InvalidPayload"),
        (BadStep(Energy(float("-inf"))), "InvalidPayload"),
        (BadStep(Energy("\ud800")), "InvalidPayload"),  # type: ignore[arg-type]
        (BadStep(Count(1)), "TypeError"),
        (BadStep(None), "TypeError"),
        (BadStep({"hartree": 1.0}), "TypeError"),
        (BadStep(Energy(1.0, "x" * SMALL_ARTIFACT_LIMIT)), "ArtifactTooLarge"),
        (BadStep(Energy(1.0), BIG), "ArtifactTooLarge"),
    ],
)
async def test_an_output_that_cannot_be_stored_fails_the_step(
    backend: Backend, step: BadStep, error_class: str
) -> None:
    builder = FlowEngine.builder(backend.store, backend.repository).first_step(SeedStep())
    engine, flow_id = builder.add_step(step).build(), new_flow_id()
    with pytest.raises(StepRaised) as caught:
        await engine.run_to_end(flow_id)
    assert type(caught.value.__cause__).__name__ == error_class
    slot = (await engine.load(flow_id)).steps[1]
    assert slot.status is StepStatus.FAILED
    assert slot.error is not None
    assert slot.error.error_class.endswith(error_class)
    assert slot.outputs == ()
    assert await engine.event_trace(flow_id) == list("ISFSGX")


class TalkativeStep(Step[Mixture, Molecules]):
    id = "split"

    async def run(self, mixture: Mixture, context: StepContext) -> Molecules:
        context.signal("progress", {"percent": 50})
        report = Artifact.from_content(kind="Report", content=b"fine", media_type="text/plain")
        context.signal("report", context.add_artifact(report))
        return Molecules(mixture.smiles.split("."))


async def test_signals_and_extra_artifacts_are_stored_with_the_outcome(backend: Backend) -> None:
    engine, flow_id = engine_of(backend, TalkativeStep()), new_flow_id()
    await engine.run_step(flow_id)
    instance = await engine.run_step(flow_id)
    report = Artifact.from_content(kind="Report", content=b"fine", media_type="text/plain")
    assert await engine.event_trace(flow_id) == list("ISFSGGF")
    *_, progress, said, finished = await backend.store.list(flow_id)
    assert progress.kind == StepSignal(1, "split", "progress", {"percent": 50})
    assert said.kind == StepSignal(1, "split", "report", report.hash)
    assert isinstance(finished.kind, StepFinished)
    assert finished.kind.outputs == (content_hash(Molecules(["CCO", "c1ccccc1"])), report.hash)
    assert progress.ts == said.ts == finished.ts  # one append
    assert await backend.store.get_artifact(report.hash) == report
    assert instance.steps[1].outputs == finished.kind.outputs


async def test_a_failed_attempt_keeps_its_signals_and_none_of_its_artifacts(
    backend: Backend,
) -> None:
    report = Artifact.from_content(kind="Report", content=b"half", media_type="text/plain")

    def act(context: StepContext) -> None:
        context.signal("progress", 10)
        context.add_artifact(report)
        raise OSError

    engine, flow_id = engine_of(backend, Scripted(act)), new_flow_id()
    with pytest.raises(StepRaised):
        await engine.run_to_end(flow_id)
    assert await engine.event_trace(flow_id) == list("ISFSGX")
    with pytest.raises(ArtifactNotFound):
        await backend.store.get_artifact(report.hash)


@pytest.mark.parametrize(
    ("name", "data"),
    [("nan", float("nan")), ("big", "x" * (17 * 2**20)), (7, None), ("lone \ud800", None)],
    ids=["nan", "too large", "no name", "lone surrogate"],
)
async def test_a_signal_that_cannot_be_stored_fails_the_step(
    backend: Backend, name: Any, data: object
) -> None:
    engine = engine_of(backend, Scripted(lambda context: context.signal(name, data)))
    flow_id = new_flow_id()
    with pytest.raises(StepRaised) as caught:
        await engine.run_to_end(flow_id)
    assert isinstance(caught.value.__cause__, InvalidPayload)
    assert await engine.event_trace(flow_id) == list("ISFSX")


class ReadingStep(Step[Molecules, Count]):
    id = "read"

    async def run(self, molecules: Molecules, context: StepContext) -> Count:
        artifact = await context.get_artifact(content_hash(molecules))
        return Count(len(artifact.payload["smiles"]))


async def test_a_step_reads_artifacts_by_hash(backend: Backend) -> None:
    builder = FlowEngine.builder(backend.store, backend.repository).first_step(SeedStep())
    engine = builder.add_step(SplitStep()).add_step(ReadingStep()).build()
    await engine.run_to_end()
    assert (await engine.load()).completed


class ThreadStep(BlockingStep[Mixture, Molecules]):
    id = "split"

    def __init__(self) -> None:
        self.threads: list[str] = []

    def compute(self, mixture: Mixture, context: StepContext) -> Molecules:
        self.threads.append(threading.current_thread().name)
        context.signal("computed")
        if context.attempt == 1:
            raise ValueError(mixture.smiles)
        return Molecules(mixture.smiles.split("."))


async def test_a_blocking_step_runs_in_a_worker_thread(backend: Backend) -> None:
    step = ThreadStep()
    engine, flow_id = engine_of(backend, step), new_flow_id()
    with pytest.raises(StepRaised) as caught:
        await engine.run_to_end(flow_id)
    assert isinstance(caught.value.__cause__, ValueError)
    await engine.schedule_retry(flow_id, reason="again")
    await engine.run_to_end(flow_id)
    assert threading.current_thread().name not in step.threads
    assert await engine.event_trace(flow_id) == list("ISFSGXRSGFSFC")


async def test_a_flow_that_waits_for_a_person_goes_on_after_the_answer(backend: Backend) -> None:
    engine, flow_id = engine_of(backend), new_flow_id()
    version = (await engine.run_step(flow_id)).version
    request = UserInteractionRequested(1, "split", {"type": "boolean"}, "Go on?")
    await backend.store.append_kind(flow_id, request, expected_version=version)
    for run in (engine.run_to_end, engine.run_step):
        with pytest.raises(FlowAwaitsUser) as caught:
            await run(flow_id)
        assert caught.value.step_id == "split"
    assert (await engine.load(flow_id)).steps[1].status is StepStatus.AWAITING_USER_INPUT
    answer = UserInteractionProvided(1, "split", provided=True, decision_hash=content_hash(True))
    await backend.store.append_kind(flow_id, answer)
    await engine.run_to_end(flow_id)
    assert await engine.event_trace(flow_id) == list("ISFUVSFSFC")


async def test_a_running_flow_does_not_start_a_step_that_waits_for_a_person(
    backend: Backend,
) -> None:
    engine, flow_id = engine_of(backend), new_flow_id()
    version = (await engine.run_step(flow_id)).version
    await backend.store.append_kind(
        flow_id, UserInteractionRequested(2, "count"), expected_version=version
    )
    with pytest.raises(FlowAwaitsUser):
        await engine.run_to_end(flow_id)
    assert await engine.event_trace(flow_id) == list("ISFUSF")


async def copied(source: Backend, target: Backend, flow_id: UUID, events: int) -> None:
    """Copy the beginning of a flow into another store, as a process that died would leave it."""
    for event in await source.store.list(flow_id, limit=events):
        hashes = event.kind.outputs if isinstance(event.kind, StepFinished) else ()
        artifacts = [await source.store.get_artifact(artifact_hash) for artifact_hash in hashes]
        await target.store.append_kind(flow_id, event.kind, artifacts=artifacts)


@pytest.mark.parametrize("events", range(1, 8))
async def test_a_flow_goes_on_from_any_of_its_events(backend: Backend, events: int) -> None:
    source = memory_backend()
    original = engine_of(source)
    flow_id = await original.run_to_end()
    await copied(source, backend, flow_id, events)
    step = Scripted()
    engine = engine_of(backend, step)
    before = await engine.load(flow_id)
    await engine.run_to_end(flow_id)
    after = await engine.load(flow_id)
    assert await engine.flow_fingerprint(flow_id) == await original.flow_fingerprint()
    running = [slot.status is StepStatus.RUNNING for slot in before.steps]
    assert [slot.attempts for slot in after.steps] == [1 + again for again in running]
    assert len(step.runs) == (before.steps[1].status is not StepStatus.FINISHED)
    assert (await engine.event_trace(flow_id)).count("C") == 1


async def test_a_flow_without_its_last_event_gets_it_and_runs_nothing(backend: Backend) -> None:
    source = memory_backend()
    flow_id = await engine_of(source).run_to_end()
    await copied(source, backend, flow_id, 7)
    engine = engine_of(backend, Scripted(raising(AssertionError("must not run"))))
    assert (await engine.run_step(flow_id)).completed
    assert await engine.event_trace(flow_id) == list("ISFSFSFC")


async def test_a_flow_of_another_definition_is_refused(backend: Backend) -> None:
    flow_id = await engine_of(backend).run_to_end()
    other = engine_with_input(backend)
    with pytest.raises(DefinitionMismatch) as caught:
        await other.run_to_end(flow_id)
    assert caught.value.expected == other.definition.definition_hash
    with pytest.raises(DefinitionMismatch):
        await other.load(flow_id)


async def test_50_flows_run_at_once_on_one_engine(backend: Backend) -> None:
    engine = engine_with_input(backend)
    inputs = [Mixture(".".join("C" * (1 + n % 5))) for n in range(50)]
    flow_ids = await asyncio.gather(*(engine.run_to_end(input=given) for given in inputs))
    assert len(set(flow_ids)) == 50
    fingerprints: dict[str, set[str]] = {}
    for flow_id, given in zip(flow_ids, inputs, strict=True):
        assert await engine.event_trace(flow_id) == list("ISFSFC")
        fingerprints.setdefault(given.smiles, set()).add(await engine.flow_fingerprint(flow_id))
    assert [len(same) for same in fingerprints.values()] == [1] * 5
    assert len(set.union(*fingerprints.values())) == 5


async def test_two_runs_of_one_flow_leave_one_legal_history(backend: Backend) -> None:
    engine, flow_id = engine_of(backend), new_flow_id()
    outcomes = await asyncio.gather(
        *(engine.run_to_end(flow_id) for _ in range(4)), return_exceptions=True
    )
    names = Counter(type(outcome).__name__ for outcome in outcomes)
    assert names["UUID"] == 1
    assert set(names) <= {"UUID", "FlowIsRunning", "FlowAlreadyCompleted"}
    assert await engine.event_trace(flow_id) == list("ISFSFSFC"), "no step was run twice"
    assert (await engine.load(flow_id)).completed


async def test_a_step_that_is_cancelled_has_not_failed(backend: Backend) -> None:
    reached = asyncio.Event()

    def hold(_context: StepContext) -> asyncio.Event:
        reached.set()
        return asyncio.Event()

    engine, flow_id = engine_of(backend, step := Scripted(hold)), new_flow_id()
    running = asyncio.create_task(engine.run_to_end(flow_id))
    await reached.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await engine.event_trace(flow_id) == list("ISFS")
    assert (await engine.load(flow_id)).steps[1].status is StepStatus.RUNNING
    await engine.run_to_end(flow_id)
    assert step.runs == [1, 2]
    assert await engine.event_trace(flow_id) == list("ISFSSFSFC")


class Silent(Step[Molecules, None]):
    """Return no output, only a report beside it."""

    id = "silent"

    async def run(self, molecules: Molecules, context: StepContext) -> None:
        context.add_artifact(Artifact.from_payload(kind="Report", payload=len(molecules.smiles)))


class Afterwards(Step[None, Count]):
    id = "afterwards"

    async def run(self, nothing: None, _context: StepContext) -> Count:
        assert nothing is None
        return Count(0)


class Perhaps(Step[Molecules, Molecules | None]):
    id = "perhaps"

    async def run(self, molecules: Molecules, context: StepContext) -> Molecules | None:
        context.add_artifact(Artifact.from_payload(kind="Report", payload={"smiles": []}))
        return molecules if len(molecules.smiles) > 2 else None


class AfterPerhaps(Step[Molecules | None, Count]):
    id = "after"

    async def run(self, molecules: Molecules | None, _context: StepContext) -> Count:
        return Count(-1 if molecules is None else len(molecules.smiles))


async def test_a_step_after_one_without_output_gets_none_and_not_the_report(
    backend: Backend,
) -> None:
    builder = FlowEngine.builder(backend.store, backend.repository).first_step(SplitStep())
    engine = builder.add_step(Silent()).add_step(Afterwards()).build()
    await engine.run_to_end(input=Mixture("C"))
    assert (await engine.load()).completed


@pytest.mark.parametrize(("smiles", "count"), [("C.N.O", 3), ("C", -1)])
async def test_a_step_after_one_that_may_have_no_output_gets_what_it_gave(
    backend: Backend, smiles: str, count: int
) -> None:
    builder = FlowEngine.builder(backend.store, backend.repository).first_step(SplitStep())
    engine = builder.add_step(Perhaps()).add_step(AfterPerhaps()).build()
    flow_id = new_flow_id()
    while not (instance := await engine.run_step(flow_id, Mixture(smiles))).completed:
        pass
    result = await backend.store.get_artifact(instance.steps[-1].outputs[0])
    assert result.payload == {"molecules": count}


async def test_a_step_may_start_again_where_only_the_start_is_in_the_log(backend: Backend) -> None:
    engine, flow_id = engine_of(backend), new_flow_id()
    version = (await engine.run_step(flow_id)).version
    await backend.store.append_kind(flow_id, StepStarted(1, "split"), expected_version=version)
    instance = await engine.run_step(flow_id)
    assert instance.steps[1].attempts == 2


class LateSource(Step[Mixture, Mixture]):
    id = "late"
    kind = StepKind.SOURCE

    async def run(self, mixture: Mixture, _context: StepContext) -> Mixture:
        return mixture


class AfterSink(Step[Count, Count]):
    id = "after"

    async def run(self, count: Count, _context: StepContext) -> Count:
        return count


class Untyped(Step):  # type: ignore[type-arg]
    id = "untyped"

    async def run(self, value: Any, _context: StepContext) -> Any:
        return value


class OfInts(Step[int, int]):
    id = "ints"

    async def run(self, value: int, _context: StepContext) -> int:
        return value


class Nameless(Step[Mixture, Mixture]):
    id = ""

    async def run(self, mixture: Mixture, _context: StepContext) -> Mixture:
        return mixture


def test_steps_that_make_no_flow_are_refused_when_they_are_added() -> None:
    backend = memory_backend()
    builder = FlowEngine.builder(backend.store, backend.repository)
    seeded: Any = builder.first_step(SeedStep())
    with pytest.raises(
        InvalidDefinition, match="'count' takes Molecules, but step 'seed' returns Mixture"
    ):
        seeded.add_step(CountStep())
    with pytest.raises(InvalidDefinition, match="two steps have the id 'split'"):
        seeded.add_step(SplitStep()).add_step(RenamedSplit())
    with pytest.raises(InvalidDefinition, match="'late' is a source but follows step 'seed'"):
        seeded.add_step(LateSource())
    with pytest.raises(InvalidDefinition, match="'after' follows the sink 'count'"):
        seeded.add_step(SplitStep()).add_step(CountStep()).add_step(AfterSink())
    with pytest.raises(InvalidDefinition, match="Untyped must derive from Step"):
        seeded.add_step(Untyped())
    with pytest.raises(InvalidDefinition, match="OfInts must derive from Step"):
        builder.first_step(OfInts())
    with pytest.raises(InvalidDefinition, match="Nameless has no id"):
        seeded.add_step(Nameless())


class RenamedSplit(Step[Molecules, Molecules]):
    id = "split"

    async def run(self, molecules: Molecules, _context: StepContext) -> Molecules:
        return molecules
