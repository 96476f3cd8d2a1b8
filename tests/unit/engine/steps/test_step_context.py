"""What a step's context accepts."""

import pytest

from chem_persistence import (
    Artifact,
    InMemoryEventStore,
    InvalidPayload,
    StepContext,
    StepFinished,
    content_hash,
)
from chem_persistence.engine.steps.context import MAX_SIGNAL_BYTES, MOST_ARTIFACTS
from chem_persistence.store.checks import MAX_EVENT_BYTES
from tests.support.flows.flows import new_flow_id


def context() -> StepContext:
    return StepContext(
        store=InMemoryEventStore(),
        flow_id=new_flow_id(),
        step_index=0,
        step_id="talk",
        attempt=1,
        fingerprint="f" * 64,
    )


def test_signals_that_no_append_holds_together_are_refused_at_once() -> None:
    talk, data = context(), "x" * (MAX_EVENT_BYTES - 1_000)
    fitting = MAX_SIGNAL_BYTES // MAX_EVENT_BYTES
    for _ in range(fitting):
        talk.signal("said", data)
    with pytest.raises(InvalidPayload, match="together"):
        talk.signal("said", data)
    talk.signal("said", "short")
    assert len(talk.signals) == fitting + 1


async def test_21_more_artifacts_than_an_event_can_name_are_refused_at_once() -> None:
    talk, artifact = context(), Artifact.from_payload(kind="Value", payload=1)
    talk.artifacts = [artifact] * (MOST_ARTIFACTS - 1)
    talk.add_artifact(artifact)
    with pytest.raises(InvalidPayload, match="as many as its event can name"):
        talk.add_artifact(artifact)
    outputs = tuple(added.hash for added in [artifact, *talk.artifacts])
    finished = StepFinished(0, "talk", outputs, "f" * 64)
    await InMemoryEventStore().append_kind(new_flow_id(), finished, artifacts=[artifact])


def test_21_artifacts_are_counted_by_the_last_size_of_each_content() -> None:
    talk = context()
    for metadata in ({"a": "x" * 100}, {}, {"a": "x" * 50}):
        for number in range(3):
            talk.add_artifact(Artifact.from_payload(kind="n", payload=number, metadata=metadata))
    assert talk._artifact_bytes == sum(talk._artifact_sizes.values())
    assert len(talk._artifact_sizes) == 3


def test_a_refused_artifact_is_not_kept() -> None:
    talk = context()
    with pytest.raises(InvalidPayload):
        talk.add_artifact(
            Artifact(hash=content_hash(1), kind="Value", payload=1, metadata={"v": float("nan")})
        )
    assert talk.artifacts == []


def test_a_store_that_has_no_limit_to_look_at_decides_itself() -> None:
    class Wrapped:
        pass

    talk = StepContext(
        store=Wrapped(),  # type: ignore[arg-type]
        flow_id=new_flow_id(),
        step_index=0,
        step_id="talk",
        attempt=1,
        fingerprint="f" * 64,
    )
    large = Artifact.from_content(kind="Grid", content=bytes(65 * 2**20), media_type="x/y")
    assert talk.add_artifact(large) == large.hash
