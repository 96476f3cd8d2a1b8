"""What a client reads of a flow before it speaks to a step: its question, and its index."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.canonical_json.encode import canonical_json, read_json
from chem_persistence.domain.events import FlowEvent, UserInteractionRequested
from chem_persistence.domain.instance import StepStatus
from chem_persistence.errors import InvalidArgument, InvalidPayload, NotWaiting
from chem_persistence.store.definitions import read_definition
from chem_persistence.store.ports import EventStore
from chem_persistence.views.observed_flow import replay_observed

__all__ = ["answer_artifact", "open_question", "step_index"]

NAMELESS = "answer"
"""The kind of the artifact of an answer whose schema does not name its class."""


def open_question(
    flow_id: UUID, step_id: str, events: Sequence[FlowEvent]
) -> UserInteractionRequested:
    """Return the question with which a step of a flow with these events waits for a person.

    Raises:
        NotWaiting: the step does not wait for a person.
        UnreplayableEvent: the log of the flow is damaged.
    """
    observed = replay_observed(flow_id, events)
    instance, question = observed.instance, None
    for event in events:
        if isinstance(event.kind, UserInteractionRequested) and event.kind.step_id == step_id:
            question = event.kind
    is_over = instance.completed or instance.cancelled is not None
    if question is None or is_over:
        raise NotWaiting(flow_id, step_id, observed.state)
    status = instance.steps[question.step_index].status
    if status is not StepStatus.AWAITING_USER_INPUT:
        raise NotWaiting(flow_id, step_id, status)
    return question


def answer_artifact(question: UserInteractionRequested, value: Any) -> Artifact:
    """Return an answer as an artifact; its kind is the name of the class that the schema describes.

    The schema is one of JSON Schema 2020-12 unless it says otherwise by `$schema`; it is checked as
    far as it stands in the event, and nothing is fetched for it.

    Raises:
        InvalidPayload: the answer is not I-JSON, or does not fit the schema of the question; or
            that is no JSON Schema.
    """
    payload, schema = read_json(canonical_json(value)), question.schema
    if schema is None:
        return Artifact.from_payload(kind=NAMELESS, payload=payload)
    # its import takes longer than that of this package, and few programs need it
    import jsonschema  # noqa: PLC0415
    import referencing  # noqa: PLC0415
    from referencing.exceptions import Unresolvable  # noqa: PLC0415

    validator = jsonschema.validators.validator_for(schema, jsonschema.Draft202012Validator)
    try:
        validator.check_schema(schema)
        errors = validator(schema, registry=referencing.Registry()).iter_errors(payload)
        found = jsonschema.exceptions.best_match(errors)
    except (jsonschema.SchemaError, Unresolvable, RecursionError) as error:
        raise InvalidPayload(
            "$", f"step {question.step_id!r} asks with a schema that cannot be used: {error}"
        ) from error
    if found is not None:
        raise InvalidPayload(
            found.json_path,
            f"the answer does not fit the question of step {question.step_id!r}: {found.message}",
        )
    return Artifact.from_payload(kind=_name(schema), payload=payload)


def _name(schema: Any) -> str:
    """Return the name of the class from which msgspec made a schema."""
    reference = schema.get("$ref", "") if isinstance(schema, dict) else ""
    name = reference.removeprefix("#/$defs/") if isinstance(reference, str) else ""
    return name if name.isidentifier() else NAMELESS


async def step_index(
    store: EventStore, flow_id: UUID, events: Sequence[FlowEvent], step_id: str
) -> int:
    """Return the index of a step, by the events of its flow or else by the stored definition.

    Raises what `read_definition` raises, and:
        InvalidArgument: the flow has no such step, as far as is known.
        UnreplayableEvent: the log of the flow is damaged.
    """
    observed = replay_observed(flow_id, events)
    named = [slot.step_id for slot in observed.instance.steps]
    if step_id not in named:
        definition = await read_definition(store, observed.definition_hash)
        named = [] if definition is None else [step.id for step in definition.steps]
    if step_id not in named:
        raise InvalidArgument("step_id", f"flow {flow_id} has no step {step_id!r}")
    return named.index(step_id)
