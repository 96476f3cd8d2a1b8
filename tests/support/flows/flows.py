"""Small definitions and histories that many tests use."""

from uuid import UUID, uuid4

from chem_persistence import (
    Artifact,
    FlowCompleted,
    FlowDefinition,
    FlowEventKind,
    FlowInitialized,
    StepDefinition,
    StepFinished,
    StepKind,
    StepStarted,
)

DEFINITION = FlowDefinition(
    (
        StepDefinition("acquire", StepKind.SOURCE),
        StepDefinition("compute", StepKind.TRANSFORM, params={"force_field": "MMFF94"}),
        StepDefinition("report", StepKind.SINK),
    )
)


def new_flow_id() -> UUID:
    return uuid4()


def initialized(definition: FlowDefinition = DEFINITION) -> FlowInitialized:
    return FlowInitialized(definition.definition_hash, len(definition.steps))


def whole_history(
    artifact: Artifact, definition: FlowDefinition = DEFINITION
) -> list[FlowEventKind]:
    """Return the events of a flow in which each step produced the same artifact."""
    kinds: list[FlowEventKind] = [initialized(definition)]
    for index, step in enumerate(definition.steps):
        kinds += [
            StepStarted(index, step.id),
            StepFinished(index, step.id, (artifact.hash,), "f" * 64),
        ]
    return [*kinds, FlowCompleted("e" * 64)]
