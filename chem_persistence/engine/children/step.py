"""A step that runs other flows as its children, and waits until they have ended."""

import types
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from datetime import UTC, timedelta
from typing import Any, NoReturn, Protocol, TypeVar, final

import msgspec

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.instance import StepSlot
from chem_persistence.engine.children.family import ChildFlow, Family
from chem_persistence.engine.steps.retry_policy import RetryPolicy
from chem_persistence.engine.steps.step import Step, Wait
from chem_persistence.engine.steps.step_types import accepts, members, step_types
from chem_persistence.engine.watching import Later, Look, Looked, WatchingStep
from chem_persistence.errors import ChildrenFailed, InvalidDefinition
from chem_persistence.store.leasing.children import CHILDREN, ChildState, child_count

__all__ = [
    "ChildrenStep",
    "TypedFlow",
    "check_children",
    "later",
    "takes_all",
    "types_of",
    "with_types",
]

Input_contra = TypeVar("Input_contra", contravariant=True)
Output_co = TypeVar("Output_co", covariant=True)

FIRST_LOOK, LONGEST_LOOK = timedelta(seconds=1), timedelta(seconds=30)
"""After how long a step looks at its children again although none of them has called it."""

PROBED = 1_024
"""The number of items among which children are looked for first; they are submitted in order."""

_ENDED_BADLY = (ChildState.FAILED, ChildState.CANCELLED)


class TypedFlow(ChildFlow, Protocol):
    """What a step needs of a flow that it runs; `Flow` is one."""

    @property
    def definition_hash(self) -> str:
        """The hash of the flow's definition."""
        ...

    def input_artifact(self, value: Any, /) -> Artifact | None:
        """Return the artifact of an input of the flow, or None if the flow takes none."""
        ...

    def read_output(self, artifact: Artifact, /) -> Any:
        """Return the output of the flow that is stored as this artifact."""
        ...


class ChildrenStep(WatchingStep[Input_contra, Output_co]):
    """A step that runs `flows` as its children; `most` is how many there can be at most.

    The children are found by their ids, which follow from the item, so its memory is nothing but
    how many there may be. Whoever looks at the step submits what is missing, whatever another
    process has done of it. A retry of the step retries the children that have failed. It runs
    hardly any code that could kill a worker, and submits many flows in one run: more workers may
    die meanwhile than in another step.
    """

    flows: Sequence[TypedFlow]
    retry = RetryPolicy(crashes=100)

    def with_params(self, _params: msgspec.Struct) -> NoReturn:
        """Raise since the parameters follow from the flows.

        Raises:
            InvalidDefinition: always.
        """
        raise InvalidDefinition(
            f"step {self.id!r} runs flows: set the parameters of their steps where they are built"
        )

    @abstractmethod
    async def count(self, look: Look, /) -> int:
        """Return how many children there may be; asked before the step first waits."""

    @abstractmethod
    async def go_on(self, look: Look, family: Family, count: int, /) -> Artifact | None:
        """Submit what may be submitted, and return the output if all children have ended.

        Raises:
            ChildrenFailed: more children failed or were cancelled than is tolerated.
        """

    @final
    async def look(self, look: Look, /) -> Looked:
        """Look at the children, and submit those that are missing."""
        family = Family(
            look.store,
            look.flow_id,
            look.step_index,
            look.clock,
            look.results,
            may_reuse=look.may_reuse,
        )
        if look.is_waiting:
            found = await self._go_on(look, family, child_count(look.slot.data))
            return later(look) if found is None else found
        count = await self.count(look)
        if look.slot.retry_count:
            states = await family.states(range(count))
            failed = [item for item, state in states.items() if state is ChildState.FAILED]
            await family.retry(failed, look.slot.retry_count)
        found = await self._go_on(look, family, count)
        return Wait(FIRST_LOOK, {CHILDREN: count}) if found is None else found

    async def _go_on(self, look: Look, family: Family, count: int) -> Artifact | None:
        """Go on until no child that is submitted is completed by what it takes over."""
        found = await self.go_on(look, family, count)
        while found is None and family.completed:
            family.completed = 0
            found = await self.go_on(look, family, count)
        return found

    async def cancel_children(self, family: Family, slot: StepSlot, reason: str) -> None:
        """Cancel the children that there are, or ask them to end.

        Raises what `Family.cancel` raises.
        """
        count = child_count(slot.data)
        if count == 0:  # the process that began to submit them has not stored how many there are
            count = await _submitted(family)
        await family.cancel(range(count), reason)


async def _submitted(family: Family) -> int:
    """Return a number of items among which all submitted children are, found by their ids."""
    count = PROBED
    while len(await family.states(range(count // 2, count))):
        count *= 2
    return count


def later(look: Look) -> Later:
    """Return when to look again: the later, the longer the step has waited."""
    until, present = look.slot.until, look.clock.now().astimezone(UTC)
    waited = timedelta(0) if until is None else present - until
    return Later(min(max(FIRST_LOOK, waited / 4), LONGEST_LOOK))


async def check_children(
    step: Step[Any, Any], family: Family, states: Mapping[int, ChildState], tolerated: int = 0
) -> list[int]:
    """Return the items whose flows failed or were cancelled.

    Raises:
        ChildrenFailed: they are more than is tolerated.
    """
    bad = [item for item, state in states.items() if state in _ENDED_BADLY]
    if len(bad) > tolerated:
        raise ChildrenFailed(
            step.id, len(bad), len(states), tolerated, await family.failure(bad[0])
        )
    return bad


def types_of(flow: TypedFlow) -> tuple[Any, Any]:
    """Return the types of what a flow takes and returns."""
    return step_types(flow.steps[0])[0], step_types(flow.steps[-1])[1]


def with_types(cls: Any, takes: Any, gives: Any) -> Any:
    """Return the class of a generic step with these types, as if a program had written it."""
    return types.new_class(cls.__name__.lstrip("_"), (cls[takes, gives],))


def takes_all(taken: Any, given: Any) -> bool:
    """Return whether every value of the type `given` is one of the type `taken`."""
    return all(any(accepts(one, each) for one in members(taken)) for each in members(given))
