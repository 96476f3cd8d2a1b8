"""A step that runs one of several flows, chosen by the step's input."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeVar

import msgspec

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.engine.attempt import decoded_input
from chem_persistence.engine.children.family import Family
from chem_persistence.engine.children.step import (
    ChildrenStep,
    TypedFlow,
    check_children,
    types_of,
    with_types,
)
from chem_persistence.engine.steps.step import Step
from chem_persistence.engine.steps.step_types import members
from chem_persistence.engine.watching import Look
from chem_persistence.errors import InvalidArgument, InvalidDefinition
from chem_persistence.store.leasing.children import ChildState

__all__ = ["choose_step"]

Input_contra = TypeVar("Input_contra", contravariant=True)
Output_co = TypeVar("Output_co", covariant=True)


class _ChooseParams(msgspec.Struct, frozen=True):
    """What is hashed of a choice: the flows by the names of the branches."""

    children: dict[str, str]
    combinator: str = "choose"


class _Choose(ChildrenStep[Input_contra, Output_co]):
    """Runs the flow that `branch` names for the input; the child that exists is the choice."""

    branch: Callable[[Any], str]
    branches: Mapping[str, TypedFlow]

    async def count(self, _: Look, /) -> int:
        """Return that there is one child."""
        return 1

    async def go_on(self, look: Look, family: Family, count: int, /) -> Artifact | None:
        """Choose and submit a flow, or return its output."""
        states = await family.states(range(count))
        await check_children(self, family, states)
        if not states:
            given = await look.input()
            name = type(self).branch(decoded_input(self, given))
            if name not in self.branches:
                raise InvalidArgument(
                    "branch",
                    f"of step {self.id!r} returned {name!r}: its flows are "
                    f"{', '.join(map(repr, self.branches))}",
                )
            await family.submit([(0, self.branches[name], given)])
        elif states[0] is ChildState.COMPLETED:
            return (await family.outputs([0]))[0]
        return None


def choose_step(
    branch: Callable[[Any], str],
    flows: Mapping[str, TypedFlow],
    *,
    id: str,  # noqa: A002
    version: str,
    reuse: Literal["never", "any"] = "never",
) -> Step[Any, Any]:
    """Return the step of `Flow.choose`.

    Raises:
        InvalidDefinition: there is no flow.
    """
    if not flows:
        raise InvalidDefinition("choose needs at least one flow")
    types = [types_of(flow) for flow in flows.values()]
    gives = tuple(dict.fromkeys(member for _, given in types for member in members(given)))
    step: _Choose[Any, Any] = with_types(_Choose, types[0][0], _union(gives))()
    type(step).branch = staticmethod(branch)
    step.id, step.version, step.reuse = id or "choose", version, reuse
    step.flows, step.branches = tuple(flows.values()), dict(flows)
    step.params = _ChooseParams({name: flow.definition_hash for name, flow in flows.items()})
    return step


def _union(types: tuple[Any, ...]) -> Any:
    joined = types[0]
    for other in types[1:]:
        joined = joined | other
    return joined
