"""Which steps may follow which."""

from typing import Any

from chem_persistence.domain.definition import StepKind
from chem_persistence.engine.step import Step
from chem_persistence.engine.step_types import check_fit, check_readable
from chem_persistence.errors import InvalidDefinition

__all__ = ["Steps", "extended"]

Steps = tuple[Step[Any, Any], ...]


def extended(steps: Steps, step: Step[Any, Any]) -> Steps:
    """Give the chain with one more step at its end.

    Raises:
        InvalidDefinition: the step has no id or does not say its types, its input could not be read back, its types do not fit
            those of the last step, its id is taken, a source stands after the first step, or any step after a sink.
    """
    step_id = getattr(step, "id", None)
    if not (isinstance(step_id, str) and step_id):
        raise InvalidDefinition(
            f"{type(step).__qualname__} has no id: give the class or the instance one, a string"
        )
    check_readable(step)
    if steps:
        last = steps[-1]
        check_fit(last, step)
        if any(step.id == earlier.id for earlier in steps):
            raise InvalidDefinition(f"two steps have the id {step.id!r}")
        if step.kind is StepKind.SOURCE:
            raise InvalidDefinition(f"step {step.id!r} is a source and stands after step {last.id!r}")
        if last.kind is StepKind.SINK:
            raise InvalidDefinition(f"step {step.id!r} stands after the sink {last.id!r}")
    return (*steps, step)
