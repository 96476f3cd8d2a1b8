"""A blocking step reads artifacts from its worker thread."""

from concurrent.futures import ThreadPoolExecutor

import msgspec
import pytest

from chem_persistence import (
    Artifact,
    ArtifactNotFound,
    BlockingStep,
    FlowEngine,
    InvalidArgument,
    Step,
    StepContext,
    StepRaised,
)
from tests.support.servers.backends import Backend


class Named(msgspec.Struct):
    artifact: str


class Total(msgspec.Struct):
    total: int


class Grid(Step[None, Named]):
    id = "grid"

    def __init__(self, payload: object = (1, 2, 3)) -> None:
        self.payload = payload

    async def run(self, _nothing: None, context: StepContext) -> Named:
        artifact = (
            Artifact.from_content(kind="grid", content=self.payload, media_type="x/y")
            if isinstance(self.payload, bytes)
            else Artifact.from_payload(kind="grid", payload=self.payload)
        )
        return Named(context.add_artifact(artifact))


class Sum(BlockingStep[Named, Total]):
    id = "sum"

    def compute(self, named: Named, context: StepContext) -> Total:
        artifact = context.get_artifact_blocking(named.artifact)
        return Total(sum(artifact.payload if artifact.content is None else artifact.content))


class SumInAnotherThread(Sum):
    def compute(self, named: Named, context: StepContext) -> Total:
        with ThreadPoolExecutor(1) as threads:
            return threads.submit(super().compute, named, context).result()


class Lost(Sum):
    def compute(self, _named: Named, context: StepContext) -> Total:
        context.get_artifact_blocking("0" * 64)
        raise AssertionError("it was found")


class InTheLoop(Step[Named, Total]):
    id = "loop"

    async def run(self, named: Named, context: StepContext) -> Total:
        context.get_artifact_blocking(named.artifact)
        raise AssertionError("it blocked the loop")


@pytest.mark.parametrize("payload", [(1, 2, 3), b"\x01\x02\x03", list(range(4))])
@pytest.mark.parametrize("step", [Sum(), SumInAnotherThread()])
async def test_14_a_blocking_step_reads_an_artifact(
    backend: Backend, payload: object, step: Sum
) -> None:
    builder = FlowEngine.builder(backend.store, backend.repository)
    engine = builder.first_step(Grid(payload)).add_step(step).build()
    await engine.run_to_end()
    (_, slot) = (await engine.load()).steps
    assert (await backend.store.get_artifact(slot.outputs[0])).payload == {"total": 6}


@pytest.mark.parametrize(
    ("step", "error"), [(Lost(), ArtifactNotFound), (InTheLoop(), InvalidArgument)]
)
async def test_14_a_blocking_read_that_fails_raises_in_the_step(
    backend: Backend, step: Step[Named, Total], error: type[Exception]
) -> None:
    builder = FlowEngine.builder(backend.store, backend.repository)
    engine = builder.first_step(Grid()).add_step(step).build()
    with pytest.raises(StepRaised) as caught:
        await engine.run_to_end()
    assert isinstance(caught.value.__cause__, error)
