"""Steps that compute in a child process leave the same events in the log as other steps."""

import asyncio
from typing import Any

import pytest

from chem_persistence import (
    BlockingStep,
    FlowEngine,
    StepContext,
    StepError,
    StepFailed,
    StepRaised,
    StepSignal,
)
from tests.support.flows.flows import new_flow_id
from tests.support.flows.process_steps import Act, Both, Lines, Multiply, OwnError, Task
from tests.support.servers.backends import Backend


def engine_of(backend: Backend, step: Any) -> FlowEngine[Any]:
    return FlowEngine.builder(backend.store, backend.repository).first_step(step).build()


async def failure(backend: Backend, engine: FlowEngine[Any], act: str) -> tuple[StepError, Any]:
    """Run a flow that fails; return the error in the log, and the one that was raised."""
    flow_id = new_flow_id()
    with pytest.raises(StepRaised) as raised:
        await engine.run_to_end(flow_id, Task(act))
    assert await engine.event_trace(flow_id) == ["I", "S", "X"]
    last = (await backend.store.list(flow_id))[-1].kind
    assert isinstance(last, StepFailed)
    return last.error, raised.value.__cause__


class ActInThread(BlockingStep[Task, Lines]):
    """The same work in a thread."""

    id = "act"

    def compute(self, given: Task, context: StepContext) -> Lines:
        return Act().compute(given, context)


@pytest.mark.parametrize(
    "act",
    [
        "key error",
        "own error",
        "group",
        "local error",
        "exit",
        "cancelled",
        "decode error",
        "file error",
        "no memory",
        "wrong class",
        "wrong field",
    ],
)
async def test_an_exception_is_described_as_if_it_was_raised_in_a_thread(
    backend: Backend, act: str
) -> None:
    there, _ = await failure(backend, engine_of(backend, Act()), act)
    here, _ = await failure(backend, engine_of(backend, ActInThread()), act)
    assert (there.error_class, there.message) == (here.error_class, here.message)
    assert there.traceback is not None
    assert there.traceback.splitlines()[-1] == (here.traceback or "").splitlines()[-1]


@pytest.mark.parametrize(
    ("act", "error_class"),
    [("interrupt", "builtins.KeyboardInterrupt"), ("stop iteration", "builtins.StopIteration")],
)
async def test_an_exception_that_a_thread_cannot_raise_is_a_failure(
    backend: Backend, act: str, error_class: str
) -> None:
    described, _ = await failure(backend, engine_of(backend, Act()), act)
    assert described.error_class == error_class


@pytest.mark.parametrize(
    ("act", "message"),
    [
        ("os._exit 0", "ended with exit code 0 before it returned"),
        ("os._exit 7", "ended with exit code 7 before it returned"),
        ("segfault", "was killed by SIGSEGV"),
        ("abort", "was killed by SIGABRT"),
        ("SIGINT", "was killed by SIGINT"),
        ("SIGKILL", "was killed by SIGKILL, perhaps because memory ran out"),
    ],
)
async def test_the_death_of_the_process_is_a_failure_that_a_retry_mends(
    backend: Backend, act: str, message: str
) -> None:
    described, cause = await failure(backend, engine_of(backend, Act()), act)
    assert described.error_class == "chem_persistence.ProcessDied"
    assert described.message == f"the process of step 'act' {message}"
    assert cause.step_id == "act"


async def test_the_exception_has_its_class_and_its_attributes(backend: Backend) -> None:
    _, cause = await failure(backend, engine_of(backend, Act()), "own error")
    assert isinstance(cause, OwnError)
    assert (cause.code, cause.hint, str(cause)) == (7, "try again", "code 7: try again")
    assert "process_steps.py" in str(cause.__cause__)


async def test_the_context_reaches_the_store(backend: Backend) -> None:
    store, engine = backend.store, engine_of(backend, Act())
    earlier = await engine.run_to_end(input=Task("tell", text="given"))
    known = (await engine.load(earlier)).input
    assert known is not None
    flow_id = await engine.run_to_end(input=Task("context", path=known, text="content"))
    assert await engine.event_trace(flow_id) == ["I", "S", "G", "F", "C"]
    (slot,) = (await engine.load(flow_id)).steps
    output, binary, json = [await store.get_artifact(name) for name in slot.outputs]
    assert output.payload["lines"] == [
        slot.fingerprint,
        str(flow_id),
        "act",
        binary.hash,
        "given",
        "ArtifactNotFound 0000",
        "InvalidPayload $.data",
        "InvalidPayload $",
        "InvalidPayload $",
    ]
    assert (binary.content, binary.kind, binary.media_type) == (b"content", "k", "text/plain")
    assert (json.payload, dict(json.metadata)) == ({"a": [1], "b": 1.0}, {"z": 1})
    signal = (await store.list(flow_id))[2].kind
    assert isinstance(signal, StepSignal)
    assert signal.data == {"attempt": 1, "energy": 1e19, "count": 2}
    assert isinstance(signal.data["energy"], float)


class MultiplyHere(BlockingStep[Both, Both]):
    id = "multiply"
    version = "3"

    def __init__(self, by: float) -> None:
        self._step = Multiply(by)
        self.params = self._step.params

    def compute(self, given: Both, context: StepContext) -> Both:
        return self._step.compute(given, context)


@pytest.mark.parametrize(
    "given",
    [
        Both(1.0),
        Both(1e19, {"doping": 1e19, "small": 1e-300, "zero": -0.0}),
        Both(0.1, [2**53 - 1, -1, 1.5, "水", None, True, {"b": 1, "a": 2.0}], 2**53 - 2),
    ],
)
async def test_values_and_fingerprints_are_those_of_a_thread(backend: Backend, given: Both) -> None:
    there, here = engine_of(backend, Multiply(2.0)), engine_of(backend, MultiplyHere(2.0))
    assert there.definition.definition_hash == here.definition.definition_hash
    ids = [await engine.run_to_end(input=given) for engine in (there, here)]
    first, second = [(await there.load(flow_id)).steps[0] for flow_id in ids]
    assert (first.outputs, first.fingerprint) == (second.outputs, second.fingerprint)
    assert await there.flow_fingerprint(ids[0]) == await here.flow_fingerprint(ids[1])


async def test_thirty_flows_at_once_share_the_processes_that_the_limit_allows(
    backend: Backend,
) -> None:
    engine = engine_of(backend, Act())
    flow_ids = await asyncio.gather(
        *(engine.run_to_end(input=Task("tell", text=str(number))) for number in range(30))
    )
    pids, texts = set(), []
    for flow_id in flow_ids:
        (slot,) = (await engine.load(flow_id)).steps
        pid, session, text = (await backend.store.get_artifact(slot.outputs[0])).payload["lines"]
        assert session == pid
        pids.add(pid)
        texts.append(text)
    assert texts == [str(number) for number in range(30)]
    assert len(pids) <= 3
