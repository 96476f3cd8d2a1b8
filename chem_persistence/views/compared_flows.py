"""Where two flows part: the first step that differs, why, and the values that its output has."""

from collections.abc import Sequence
from typing import Any

import msgspec

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.definition import FlowDefinition, definition_differences
from chem_persistence.domain.instance import FlowInstance
from chem_persistence.errors import ArtifactCorrupt, ArtifactNotFound, ArtifactTooLarge
from chem_persistence.store.ports import EventStore
from chem_persistence.views.agreement import Agreement, Tolerance, compare_artifacts

__all__ = ["FirstDifference", "OutputDifference", "compare_outputs", "first_difference"]

UNEXPLAINED = "nothing that is recorded"
"""Equal step, input and answer have given another output: the step is not deterministic."""


class FirstDifference(msgspec.Struct, frozen=True):
    """The first step that differs between two flows, and what of its fingerprint does.

    `because` names `input`, `answer`, and what differs between the definitions of the step, such as
    `version` or `params.seed`; or it says that nothing that is recorded does.
    """

    step: int
    step_id: str | None
    because: tuple[str, ...]


class OutputDifference(msgspec.Struct, frozen=True):
    """A value that differs between the outputs of a step; what is missing is UNSET.

    `output` is the index of the output among those of the step. `path`, `left` and `right` are None
    if the outputs cannot be compared: they are not JSON, only one flow has this one, or one cannot
    be read.
    """

    step: int
    output: int
    path: str | None
    left: Any = msgspec.UNSET
    right: Any = msgspec.UNSET
    is_close: bool = False


def first_difference(
    left: FlowInstance,
    right: FlowInstance,
    definitions: tuple[FlowDefinition | None, FlowDefinition | None],
) -> FirstDifference | None:
    """Return the first step whose fingerprint or outputs differ, or None.

    Steps that one of the flows has not finished are not compared.
    """
    before = left.input, right.input
    for index, (own, other) in enumerate(zip(left.steps, right.steps, strict=False)):
        if None in {own.fingerprint, other.fingerprint}:
            return None
        if (own.fingerprint, own.outputs) != (other.fingerprint, other.outputs):
            because = ["input"] if before[0] != before[1] else []
            if _hash(own.answer) != _hash(other.answer):
                because.append("answer")
            because += _of_definitions(index, definitions)
            return FirstDifference(index, own.step_id or None, tuple(because) or (UNEXPLAINED,))
        before = next(iter(own.outputs), None), next(iter(other.outputs), None)
    return None


def _hash(answer: Any) -> str | None:
    return None if answer is None else answer.decision_hash


def _of_definitions(
    index: int, definitions: tuple[FlowDefinition | None, FlowDefinition | None]
) -> list[str]:
    """Return what differs between the definitions of the steps at one index."""
    old, new = definitions
    if old is None or new is None:
        return []
    step_id = old.steps[index].id
    if step_id != new.steps[index].id:
        return ["id"]
    return [each.what for each in definition_differences(old, new) if each.step == step_id]


async def compare_outputs(
    store: EventStore, left: FlowInstance, right: FlowInstance, tolerance: Tolerance
) -> list[OutputDifference]:
    """Return the values that differ between the outputs of the steps that both have finished."""
    found: list[OutputDifference] = []
    for index, (own, other) in enumerate(zip(left.steps, right.steps, strict=False)):
        if not own.outputs or not other.outputs:
            continue
        for output in range(max(len(own.outputs), len(other.outputs))):
            pair = own.outputs[output : output + 1], other.outputs[output : output + 1]
            if pair[0] != pair[1]:
                found += await _compared(store, index, output, pair, tolerance)
    return found


async def _compared(
    store: EventStore,
    index: int,
    output: int,
    pair: tuple[Sequence[str], Sequence[str]],
    tolerance: Tolerance,
) -> list[OutputDifference]:
    unknown = [OutputDifference(index, output, None, None, None)]
    if not all(pair):
        return unknown
    own, other = [await _read(store, hashes[0]) for hashes in pair]
    if own is None or other is None:
        return unknown
    agreement, differences = compare_artifacts(own, other, tolerance)
    if agreement is Agreement.DIFFERENT and not differences:
        return unknown
    return [
        OutputDifference(index, output, each.path, each.left, each.right, each.is_close)
        for each in differences
    ]


async def _read(store: EventStore, artifact_hash: str) -> Artifact | None:
    try:
        return await store.get_artifact(artifact_hash)
    except (ArtifactNotFound, ArtifactCorrupt, ArtifactTooLarge):
        return None
