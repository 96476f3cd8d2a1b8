"""A flow's definition: its steps, in order, as values that can be hashed, stored and compared.

A definition is stored as artifacts, one for the flow and one for each step. Their content is what
the definition's hashes are the hashes of, so an artifact's hash is the definition's.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import Any

import msgspec

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.canonical_json.encode import canonical_json, content_hash, read_json
from chem_persistence.errors import InvalidDefinition

__all__ = [
    "BATCH_JOB",
    "DEFINITION_KINDS",
    "Difference",
    "FlowDefinition",
    "StepDefinition",
    "StepKind",
    "assembled_definition",
    "definition_artifacts",
    "definition_differences",
    "described_definition",
    "listed_steps",
]

FLOW_KIND, STEP_KIND = "chem_persistence.FlowDefinition", "chem_persistence.StepDefinition"
DEFINITION_KINDS = frozenset({FLOW_KIND, STEP_KIND})
"""The kinds of the artifacts of definitions; the kind of a step's output has no such prefix."""

BATCH_JOB = "batch_job"
"""The parameter by which a definition says that its step submits jobs to a batch queue, and the key
under which such a step keeps what it knows of its job (`StepWaits`)."""

MOST_METADATA = 2**18
"""The bytes that the definitions of steps may have to be described in the flow's metadata."""

MOST_TEXT = 200
"""The number of characters that are shown of a parameter's value."""


class StepKind(StrEnum):
    """A step's role for the data: it brings data in, changes it, or takes it out."""

    SOURCE = "source"
    TRANSFORM = "transform"
    SINK = "sink"


class StepDefinition(msgspec.Struct, frozen=True):
    """One step's identity: `definition_hash` is the content hash of {id, kind, version, params}.

    `params` is JSON or a struct; `version` changes when the step's code returns other results.

    Raises:
        InvalidDefinition: the id is empty.
        InvalidPayload: the params are not I-JSON.
    """

    id: str
    kind: StepKind = StepKind.TRANSFORM
    version: str = "1"
    params: Any = None
    definition_hash: str = ""

    def __post_init__(self) -> None:
        if not self.id:
            raise InvalidDefinition("a step's id is empty")
        msgspec.structs.force_setattr(self, "params", read_json(canonical_json(self.params)))
        msgspec.structs.force_setattr(self, "definition_hash", content_hash(self.identity()))

    def identity(self) -> Mapping[str, Any]:
        """Return what is hashed: {id, kind, version, params}."""
        return {"id": self.id, "kind": self.kind, "version": self.version, "params": self.params}


class FlowDefinition(msgspec.Struct, frozen=True):
    """The steps of a flow; `definition_hash` is the content hash of {steps: [their hashes]}.

    Raises:
        InvalidDefinition: there are no steps, or two share an id.
    """

    steps: tuple[StepDefinition, ...]
    definition_hash: str = ""

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "steps", tuple(self.steps))
        if not self.steps:
            raise InvalidDefinition("a flow needs at least one step")
        if twice := _first_repeated(step.id for step in self.steps):
            raise InvalidDefinition(f"two steps have the id {twice!r}")
        msgspec.structs.force_setattr(self, "definition_hash", content_hash(self.identity()))

    def identity(self) -> Mapping[str, Any]:
        """Return what is hashed: {steps: [their hashes]}."""
        return {"steps": [step.definition_hash for step in self.steps]}

    def hashes(self) -> frozenset[str]:
        """Return the hashes of the definition and of its steps."""
        return frozenset([self.definition_hash, *(step.definition_hash for step in self.steps)])


class Difference(msgspec.Struct, frozen=True):
    """A difference between two definitions, in the step with this id, or in the flow if None.

    `what` is `step` (only one has it), `order`, `kind`, `version`, or the path of a parameter, such
    as `params.method`. The values are JSON; None if there is none.
    """

    step: str | None
    what: str
    left: str | None
    right: str | None

    def __str__(self) -> str:
        """Return the difference in words, as from an earlier definition to a later one."""
        match self.what, self.left, self.right:
            case "step", None, _:
                return f"step {self.step!r} was added"
            case "step", _, None:
                return f"step {self.step!r} was removed"
            case "order", _, _:
                return f"the order of the steps was {self.left}, and is {self.right}"
            case _:
                was, becomes = self.left or "absent", self.right or "absent"
                return f"step {self.step!r}: {self.what} was {was}, and is {becomes}"


def _first_repeated(ids: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for step_id in ids:
        if step_id in seen:
            return step_id
        seen.add(step_id)
    return None


def definition_artifacts(definition: FlowDefinition) -> tuple[Artifact, ...]:
    """Return the artifacts of a definition: the flow's, and those of its steps, in order.

    The content of the flow's lists the hashes of the steps. Its metadata describes the steps unless
    they are large, so that one artifact is read for most definitions.
    """
    identities = [step.identity() for step in definition.steps]
    steps = [Artifact.from_payload(kind=STEP_KIND, payload=identity) for identity in identities]
    is_small = sum(len(step.encoded()) for step in steps) <= MOST_METADATA
    flow = Artifact.from_payload(
        kind=FLOW_KIND,
        payload=definition.identity(),
        metadata={"steps": identities} if is_small else None,
    )
    return flow, *steps


def described_definition(
    definition_hash: str, metadata: Mapping[str, Any]
) -> FlowDefinition | None:
    """Return the definition that the metadata of a flow definition's artifact describes.

    None if it describes none, or one that does not have this hash.
    """
    return _definition(definition_hash, metadata.get("steps"))


def assembled_definition(
    artifact: Artifact, steps: Mapping[str, Artifact]
) -> FlowDefinition | None:
    """Return the definition that is stored as these artifacts; those of the steps by their hash.

    None if one is missing, or they are not the artifacts of a definition.
    """
    hashes = listed_steps(artifact)
    if not all(name in steps for name in hashes):
        return None
    return _definition(artifact.hash, [steps[name].payload for name in hashes])


def listed_steps(artifact: Artifact) -> Sequence[str]:
    """Return the hashes of the steps that the artifact of a flow's definition lists.

    None are listed if it is another artifact.
    """
    steps = artifact.payload.get("steps") if isinstance(artifact.payload, dict) else None
    if isinstance(steps, list) and all(isinstance(step, str) for step in steps):
        return steps
    return ()


def _definition(definition_hash: str, steps: Any) -> FlowDefinition | None:
    try:
        definition = FlowDefinition(tuple(msgspec.convert(steps, list[StepDefinition])))
    except ValueError:
        return None
    return definition if definition.definition_hash == definition_hash else None


def definition_differences(left: FlowDefinition, right: FlowDefinition) -> list[Difference]:
    """Return what differs between two definitions: steps, their order, versions and parameters.

    Steps are compared by their ids, parameters by their paths.
    """
    old = {step.id: step for step in left.steps}
    new = {step.id: step for step in right.steps}
    found = [
        Difference(
            step_id,
            "step",
            _text(step_id) if step_id in old else None,
            _text(step_id) if step_id in new else None,
        )
        for step_id in dict.fromkeys([*old, *new])
        if step_id not in old or step_id not in new
    ]
    before = [step_id for step_id in old if step_id in new]
    after = [step_id for step_id in new if step_id in old]
    if before != after:
        found.append(Difference(None, "order", _text(before), _text(after)))
    for step_id in before:
        found += _step_differences(old[step_id], new[step_id])
    return found


def _step_differences(old: StepDefinition, new: StepDefinition) -> Iterator[Difference]:
    for what in ("kind", "version"):
        if getattr(old, what) != getattr(new, what):
            yield Difference(old.id, what, _text(getattr(old, what)), _text(getattr(new, what)))
    for path, earlier, later in _unequal(old.params, new.params, "params"):
        yield Difference(old.id, path, earlier, later)


def _unequal(old: Any, new: Any, path: str) -> Iterator[tuple[str, str | None, str | None]]:
    """Yield the paths at which two JSON values differ, and what is there in either, or None."""
    if not (isinstance(old, dict) and isinstance(new, dict)):
        if canonical_json(old) != canonical_json(new):  # in Python 1 == True
            yield path, _text(old), _text(new)
        return
    for key in dict.fromkeys([*old, *new]):
        if key in old and key in new:
            yield from _unequal(old[key], new[key], f"{path}.{key}")
        else:
            there = _text(old[key] if key in old else new[key])
            yield f"{path}.{key}", *((there, None) if key in old else (None, there))


def _text(value: Any) -> str:
    """Return a value as JSON, shortened."""
    text = canonical_json(value).decode()
    return text if len(text) <= MOST_TEXT else f"{text[: MOST_TEXT - 3]}..."
