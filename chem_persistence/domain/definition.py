"""A flow's definition: its steps, in order, as values that can be hashed."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Any

import msgspec

from chem_persistence.domain.canonical_json.encode import canonical_json, content_hash, read_json
from chem_persistence.errors import InvalidDefinition

__all__ = ["FlowDefinition", "StepDefinition", "StepKind"]


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
        params = read_json(canonical_json(self.params))
        identity = {"id": self.id, "kind": self.kind, "version": self.version, "params": params}
        msgspec.structs.force_setattr(self, "params", params)
        msgspec.structs.force_setattr(self, "definition_hash", content_hash(identity))


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
        hashes = [step.definition_hash for step in self.steps]
        msgspec.structs.force_setattr(self, "definition_hash", content_hash({"steps": hashes}))


def _first_repeated(ids: Iterable[str]) -> str | None:
    seen: set[str] = set()
    for step_id in ids:
        if step_id in seen:
            return step_id
        seen.add(step_id)
    return None
