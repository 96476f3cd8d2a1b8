"""Steps that run some flows side by side on the same input: one (`call`), or two to four."""

from collections.abc import Sequence
from typing import Any, Literal, TypeVar

import msgspec

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.engine.children.family import Family
from chem_persistence.engine.children.step import (
    ChildrenStep,
    TypedFlow,
    check_children,
    takes_all,
    types_of,
    with_types,
)
from chem_persistence.engine.children.values import Gathered2, Gathered3, Gathered4
from chem_persistence.engine.steps.step import Step
from chem_persistence.engine.steps.step_types import type_name
from chem_persistence.engine.watching import Look
from chem_persistence.errors import InvalidDefinition
from chem_persistence.store.leasing.children import ChildState

__all__ = ["call_step", "gather_step"]

Input_contra = TypeVar("Input_contra", contravariant=True)
Output_co = TypeVar("Output_co", covariant=True)

_GATHERED: dict[int, Any] = {2: Gathered2, 3: Gathered3, 4: Gathered4}


class _CallParams(msgspec.Struct, frozen=True):
    """What is hashed of a call or a gather: its flows."""

    children: tuple[str, ...]
    combinator: str


class _SideBySide(ChildrenStep[Input_contra, Output_co]):
    """Runs all of `flows` on the step's own input."""

    async def count(self, _: Look, /) -> int:
        """Return the number of the flows."""
        return len(self.flows)

    async def go_on(self, look: Look, family: Family, count: int, /) -> Artifact | None:
        """Submit the flows, or collect their outputs."""
        states = await family.states(range(count))
        await check_children(self, family, states)
        absent = [item for item in range(count) if item not in states]
        if absent:
            given = await look.input()
            await family.submit([(item, self.flows[item], given) for item in absent])
        elif ChildState.RUNNING not in states.values():
            return self.collected(await family.outputs(range(count)))
        return None

    def collected(self, outputs: Sequence[Artifact]) -> Artifact:
        """Return the step's output, made of those of the flows."""
        raise NotImplementedError


class _Call(_SideBySide[Input_contra, Output_co]):
    """Runs a flow, whose output is the step's."""

    def collected(self, outputs: Sequence[Artifact]) -> Artifact:
        """Return the output of the flow."""
        return outputs[0]


class _Gather(_SideBySide[Input_contra, Output_co]):
    """Runs flows side by side; the output has their outputs as its fields."""

    def collected(self, outputs: Sequence[Artifact]) -> Artifact:
        """Return the outputs of the flows as the fields of one value."""
        gathered = _GATHERED[len(outputs)]
        fields = gathered.__struct_fields__
        payload = dict(zip(fields, (output.payload for output in outputs), strict=True))
        return Artifact.from_payload(kind=gathered.__qualname__, payload=payload)


def call_step(
    flow: TypedFlow,
    *,
    id: str,  # noqa: A002
    reuse: Literal["never", "any"] = "never",
) -> Step[Any, Any]:
    """Return the step of `Flow.call`."""
    step: _Call[Any, Any] = with_types(_Call, *types_of(flow))()
    step.id, step.flows, step.reuse = id or flow.name, (flow,), reuse
    step.params = _CallParams((flow.definition_hash,), "call")
    return step


def gather_step(
    flows: Sequence[TypedFlow],
    *,
    id: str,  # noqa: A002
    reuse: Literal["never", "any"] = "never",
) -> Step[Any, Any]:
    """Return the step of `Flow.gather`.

    Raises:
        InvalidDefinition: there are fewer than two flows, or more than four; or they do not take
            the same.
    """
    if len(flows) not in _GATHERED:
        raise InvalidDefinition(f"gather takes two to four flows, not {len(flows)}")
    taken = [types_of(flow)[0] for flow in flows]
    takes = next((each for each in taken if all(takes_all(other, each) for other in taken)), None)
    if takes is None:
        raise InvalidDefinition(
            f"gather needs flows that take the same, not {', '.join(map(type_name, taken))}"
        )
    gives = _GATHERED[len(flows)][tuple(types_of(flow)[1] for flow in flows)]
    step: _Gather[Any, Any] = with_types(_Gather, takes, gives)()
    step.id, step.flows, step.reuse = id or "gather", tuple(flows), reuse
    step.params = _CallParams(tuple(flow.definition_hash for flow in flows), "gather")
    return step
