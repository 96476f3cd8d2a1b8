"""A step that runs one flow for each item of a list."""

import math
from typing import Any, Literal, TypeVar

import msgspec

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.canonical_json.encode import outweighs
from chem_persistence.engine.attempt import decoded_input
from chem_persistence.engine.children.family import Family
from chem_persistence.engine.children.progress import forget_progress, progress_of
from chem_persistence.engine.children.step import (
    ChildrenStep,
    TypedFlow,
    check_children,
    types_of,
    with_types,
)
from chem_persistence.engine.children.values import Many
from chem_persistence.engine.steps.step import Step
from chem_persistence.engine.watching import Look
from chem_persistence.errors import InvalidDefinition

__all__ = ["map_step"]

Input_contra = TypeVar("Input_contra", contravariant=True)
Output_co = TypeVar("Output_co", covariant=True)


MOST_KEPT_BYTES = 2**20
"""The items of a map are kept between two looks if their artifact is not larger (1 MiB)."""


class _MapParams(msgspec.Struct, frozen=True):
    """What is hashed of a map: its flow, and the share of the items that may fail."""

    children: tuple[str, ...]
    failures: float
    combinator: str = "map"


class _Map(ChildrenStep[Input_contra, Output_co]):
    """Runs a flow for each item, `at_once` of them at the same time."""

    params: _MapParams
    at_once: int

    async def count(self, look: Look, /) -> int:
        """Return the number of the items."""
        return len(await self._items(look))

    async def go_on(self, look: Look, family: Family, count: int, /) -> Artifact | None:
        """Submit the next items, or collect the outputs in the order of the items."""
        progress = progress_of(look)
        family.ids = progress.ids
        absent = await progress.read(family, count, self.at_once)
        states = progress.states
        tolerated = math.floor(self.params.failures * count + 1e-9)
        missing = await check_children(self, family, states, tolerated)
        if len(states) == count and not progress.running:
            left = set(range(count)).difference(missing)
            outputs = await family.outputs(sorted(left))
            forget_progress(look)
            payload = {"items": [output.payload for output in outputs], "missing": missing}
            return Artifact.from_payload(kind=Many.__qualname__, payload=payload)
        if absent:
            items = await self._items(look)
            (flow,) = self.flows
            await family.submit([(item, flow, flow.input_artifact(items[item])) for item in absent])
            progress.submitted(absent)
        return None

    async def _items(self, look: Look) -> tuple[Any, ...]:
        progress = progress_of(look)
        if progress.items is not None:
            return progress.items
        given = await look.input()
        many: Many[Any] = decoded_input(self, given)
        if given is not None and not outweighs(given.payload, MOST_KEPT_BYTES):
            progress.items = many.items
        return many.items


def map_step(
    flow: TypedFlow,
    *,
    id: str,  # noqa: A002
    at_once: int,
    failures: float,
    reuse: Literal["never", "any"] = "never",
) -> Step[Any, Any]:
    """Return the step of `Flow.map`.

    Raises:
        InvalidDefinition: `at_once` is less than 1, or `failures` is not from 0 to 1.
    """
    if at_once < 1:
        raise InvalidDefinition(f"step {id!r}: at_once must be at least 1, not {at_once}")
    if not 0 <= failures <= 1:
        raise InvalidDefinition(f"step {id!r}: failures must be from 0 to 1, not {failures}")
    many: Any = Many
    takes, gives = types_of(flow)
    step: _Map[Any, Any] = with_types(_Map, many[takes], many[gives])()
    step.id, step.flows, step.at_once = id or flow.name, (flow,), at_once
    step.reuse = reuse
    step.params = _MapParams((flow.definition_hash,), float(failures))
    return step
