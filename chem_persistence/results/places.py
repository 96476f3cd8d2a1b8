"""Where the rows of a run are: in the run itself, or in the children of one of its maps."""

from collections.abc import Iterator, Mapping

import msgspec

from chem_persistence.domain.definition import FlowDefinition, StepDefinition
from chem_persistence.store.leasing.children import CHILDREN

__all__ = ["Place", "maps_of", "place_of", "step_ids"]


class Place(msgspec.Struct, frozen=True):
    """The step whose output a row has, None for the last one, of the run or of the map's children.

    `map_index` is the index of the map in the run's steps, None if a row is a run.
    """

    map_index: int | None
    step: str | None


def maps_of(definition: FlowDefinition) -> Iterator[tuple[int, str]]:
    """Yield the index of each map among the steps, and the hash of the definition that it runs."""
    for index, step in enumerate(definition.steps):
        params = step.params
        if isinstance(params, Mapping) and params.get("combinator") == "map":
            for child in params.get(CHILDREN, ()):
                yield index, child


def place_of(
    definition: FlowDefinition, children: Mapping[str, FlowDefinition], step: str | None
) -> Place | None:
    """Return where the rows of a run with this definition are, None if no flow has the step.

    `children` are the definitions that its maps run, by hash, as far as they are stored. A map
    stands for its children; without `step` the last map counts if there is one.
    """
    maps = list(maps_of(definition))
    if step is None:
        return Place(maps[-1][0] if maps else None, None)
    for index, own in enumerate(definition.steps):
        if own.id == step:
            return (
                Place(index, None)
                if any(index == of_map for of_map, _ in maps)
                else Place(None, step)
            )
    for index, child in reversed(maps):
        if child in children and any(inner.id == step for inner in children[child].steps):
            return Place(index, step)
    return None


def step_ids(definition: FlowDefinition, children: Mapping[str, FlowDefinition]) -> str:
    """Return the ids of the steps that may be asked for, as a list in words."""

    def listed(steps: tuple[StepDefinition, ...]) -> str:
        return ", ".join(step.id for step in steps)

    own = listed(definition.steps)
    return "; ".join([own, *(f"of the items: {listed(each.steps)}" for each in children.values())])
