"""What a step may store besides its output is limited as it is added, on every store."""

import msgspec
import pytest

from chem_persistence import (
    Artifact,
    ArtifactTooLarge,
    FlowEngine,
    InvalidPayload,
    Step,
    StepContext,
    StepRaised,
)
from chem_persistence.store.checks import MAX_APPEND_BYTES
from tests.support.flows.flows import new_flow_id
from tests.support.servers.backends import SMALL_ARTIFACT_LIMIT, Backend


class Done(msgspec.Struct):
    artifacts: int


class Collect(Step[None, Done]):
    """Add the artifacts one after another, and count those that were accepted."""

    id = "collect"

    def __init__(self, *artifacts: Artifact) -> None:
        self._artifacts = artifacts
        self.accepted = 0

    async def run(self, _nothing: None, context: StepContext) -> Done:
        for artifact in self._artifacts:
            context.add_artifact(artifact)
            self.accepted += 1
        return Done(self.accepted)


def content(size: int, mark: int = 0) -> Artifact:
    data = mark.to_bytes(4) + bytes(size - 4)
    return Artifact.from_content(kind="Grid", content=data, media_type="x/y")


@pytest.mark.parametrize(
    "large",
    [
        content(SMALL_ARTIFACT_LIMIT + 1),
        Artifact.from_payload(kind="Text", payload="x" * SMALL_ARTIFACT_LIMIT),
        Artifact.from_payload(kind="List", payload=[0.5] * (SMALL_ARTIFACT_LIMIT // 4)),
    ],
    ids=["content", "text", "list"],
)
async def test_an_artifact_above_the_limit_is_refused_at_once(
    backend: Backend, large: Artifact
) -> None:
    step, flow_id = Collect(content(10), large, content(20)), new_flow_id()
    engine = FlowEngine.builder(backend.store, backend.repository).first_step(step).build()
    with pytest.raises(StepRaised) as caught:
        await engine.run_to_end(flow_id)
    assert isinstance(caught.value.__cause__, ArtifactTooLarge)
    assert step.accepted == 1
    assert await engine.event_trace(flow_id) == list("ISX")


async def test_artifacts_that_no_append_holds_together_are_refused_at_once(
    backend: Backend,
) -> None:
    fitting = MAX_APPEND_BYTES // SMALL_ARTIFACT_LIMIT - 1
    step = Collect(*(content(SMALL_ARTIFACT_LIMIT, mark) for mark in range(fitting + 2)))
    engine, flow_id = (
        FlowEngine.builder(backend.store, backend.repository).first_step(step).build(),
        new_flow_id(),
    )
    with pytest.raises(StepRaised) as caught:
        await engine.run_to_end(flow_id)
    assert isinstance(caught.value.__cause__, InvalidPayload)
    assert "put_stream" in str(caught.value.__cause__)
    assert step.accepted == fitting
    assert await engine.event_trace(flow_id) == list("ISX")


async def test_an_artifact_that_is_added_again_counts_once(backend: Backend) -> None:
    same = content(SMALL_ARTIFACT_LIMIT)
    step = Collect(*[same] * (MAX_APPEND_BYTES // SMALL_ARTIFACT_LIMIT + 2))
    engine = FlowEngine.builder(backend.store, backend.repository).first_step(step).build()
    flow_id = await engine.run_to_end()
    assert await engine.event_trace(flow_id) == list("ISFC")
