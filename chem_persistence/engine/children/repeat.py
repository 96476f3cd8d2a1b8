"""A step that runs a flow again on its own output, until that is as it should be."""

from collections.abc import Callable
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
from chem_persistence.engine.steps.step import Step
from chem_persistence.engine.steps.step_types import type_name
from chem_persistence.engine.watching import Look
from chem_persistence.errors import InvalidDefinition, NotConverged
from chem_persistence.store.leasing.children import ChildState

__all__ = ["repeat_step"]

Input_contra = TypeVar("Input_contra", contravariant=True)
Output_co = TypeVar("Output_co", covariant=True)


class _RepeatParams(msgspec.Struct, frozen=True):
    """What is hashed of a loop: its flow, and the largest number of rounds."""

    children: tuple[str, ...]
    limit: int
    combinator: str = "repeat"


class _Repeat(ChildrenStep[Input_contra, Output_co]):
    """Runs a flow round by round; a round that exists is the decision that it was needed."""

    params: _RepeatParams
    is_done: Callable[[Any], bool]

    async def count(self, _: Look, /) -> int:
        """Return how many rounds there are at most."""
        return self.params.limit

    async def go_on(self, look: Look, family: Family, count: int, /) -> Artifact | None:
        """Begin the next round, or return the output of the last one."""
        (body,) = self.flows
        states = await family.states(range(count))
        await check_children(self, family, states)
        if not states:
            await family.submit([(0, body, await look.input())])
            return None
        last = max(states)
        if states[last] is not ChildState.COMPLETED:
            return None
        (output,) = await family.outputs([last])
        if type(self).is_done(body.read_output(output)):
            return output
        if last + 1 == count:
            raise NotConverged(self.id, count)
        await family.submit([(last + 1, body, output)])
        return None


def repeat_step(
    body: TypedFlow,
    is_done: Callable[[Any], bool],
    *,
    limit: int,
    id: str,  # noqa: A002
    version: str,
    reuse: Literal["never", "any"] = "never",
) -> Step[Any, Any]:
    """Return the step of `Flow.repeat`.

    Raises:
        InvalidDefinition: `limit` is less than 1, or the flow does not take what it returns.
    """
    if limit < 1:
        raise InvalidDefinition(f"repeat needs a limit of at least 1, not {limit}")
    takes, gives = types_of(body)
    if not takes_all(takes, gives):
        raise InvalidDefinition(
            f"repeat needs a flow that takes what it returns: {body.name!r} takes "
            f"{type_name(takes)} and returns {type_name(gives)}"
        )
    step: _Repeat[Any, Any] = with_types(_Repeat, takes, gives)()
    type(step).is_done = staticmethod(is_done)
    step.id, step.version, step.flows = id or body.name, version, (body,)
    step.reuse = reuse
    step.params = _RepeatParams((body.definition_hash,), limit)
    return step
