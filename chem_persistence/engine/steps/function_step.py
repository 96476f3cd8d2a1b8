"""A step that is made of a typed function, by the decorator `step`."""

import inspect
import types
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Literal, NoReturn, Protocol, TypeVar, get_type_hints, overload

import msgspec

from chem_persistence.domain.definition import StepKind
from chem_persistence.engine.steps.context import StepContext
from chem_persistence.engine.steps.step import BlockingStep, Step
from chem_persistence.errors import InvalidDefinition

__all__ = ["StepMaker", "step"]

In = TypeVar("In")
Out = TypeVar("Out")
In_contra = TypeVar("In_contra", contravariant=True)
Out_co = TypeVar("Out_co", covariant=True)

WITH_CONTEXT = 2
"""The number of parameters of a function that takes the context beside the input."""


class StepMaker(Protocol):
    """What makes a step of a function: of the input, or of the input and the context."""

    @overload
    def __call__(self, function: Callable[[In], Coroutine[Any, Any, Out]], /) -> Step[In, Out]: ...
    @overload
    def __call__(
        self, function: Callable[[In, StepContext], Coroutine[Any, Any, Out]], /
    ) -> Step[In, Out]: ...
    @overload
    def __call__(self, function: Callable[[In], Out], /) -> Step[In, Out]: ...
    @overload
    def __call__(self, function: Callable[[In, StepContext], Out], /) -> Step[In, Out]: ...


def step(
    id: str,  # noqa: A002
    *,
    version: str = "1",
    kind: StepKind = StepKind.TRANSFORM,
    params: msgspec.Struct | None = None,
    reuse: Literal["never", "any"] = "never",
) -> StepMaker:
    """Return a decorator that makes a step of a typed function.

    The function takes the step's input, or the input and the `StepContext`, and its annotations are
    the step's types. An `async def` makes a `Step`, and runs in the event loop; another function
    makes a `BlockingStep`, and runs in a worker thread. `version`, `kind`, `params` and `reuse`
    are those of `Step`. The parameters are not passed to the function: it has them as a closure or
    a default.

    The decorator raises:
        InvalidDefinition: it is not a function; it takes no input, or more than the input and the
            context; or its annotations lack a type, or name what is not defined.
    """

    def make(function: Callable[..., Any], /) -> Step[Any, Any]:
        takes, gives, with_context = _signature(id, function)
        base: Any = _AsyncFunction if inspect.iscoroutinefunction(function) else _BlockingFunction
        cls = types.new_class(function.__name__, (base[takes, gives],))
        made: Step[Any, Any] = cls(function, with_context=with_context)
        made.id, made.version, made.kind, made.params = id, version, kind, params
        made.reuse = reuse
        made.__doc__ = function.__doc__
        return made

    return make


class _OfFunction:
    """The function of a step, and whether it takes the context."""

    def __init__(self, function: Callable[..., Any], *, with_context: bool) -> None:
        self.__wrapped__ = function
        self._with_context = with_context

    def with_params(self, _params: msgspec.Struct) -> NoReturn:
        """Raise since a function does not get its parameters.

        Raises:
            InvalidDefinition: always.
        """
        raise InvalidDefinition(
            "a step that is made of a function cannot be given other parameters, since the "
            "function does not get them: write a class"
        )

    def _arguments(self, given: Any, context: StepContext) -> tuple[Any, ...]:
        return (given, context) if self._with_context else (given,)


class _AsyncFunction(_OfFunction, Step[In_contra, Out_co]):
    async def run(self, input: In_contra, context: StepContext, /) -> Out_co:  # noqa: A002
        working: Awaitable[Out_co] = self.__wrapped__(*self._arguments(input, context))
        return await working


class _BlockingFunction(_OfFunction, BlockingStep[In_contra, Out_co]):
    def compute(self, input: In_contra, context: StepContext, /) -> Out_co:  # noqa: A002
        output: Out_co = self.__wrapped__(*self._arguments(input, context))
        return output


def _signature(step_id: str, function: Callable[..., Any]) -> tuple[Any, Any, bool]:
    """Return the types of a function's input and output, and whether it takes the context.

    Raises:
        InvalidDefinition: see `step`.
    """
    if not (inspect.isfunction(function) or inspect.ismethod(function)):
        raise InvalidDefinition(f"step {step_id!r}: {function!r} is not a function")
    subject = f"step {step_id!r}: the function {function.__qualname__}"
    parameters = list(inspect.signature(function).parameters.values())
    needed = [each for each in parameters if each.default is inspect.Parameter.empty]
    positional = [each for each in needed if each.kind <= inspect.Parameter.POSITIONAL_OR_KEYWORD]
    if len(positional) != len(needed) or len(positional) not in {1, WITH_CONTEXT}:
        raise InvalidDefinition(f"{subject} must take the input, or the input and the context")
    try:
        hints = get_type_hints(function)
    except NameError as error:
        raise InvalidDefinition(
            f"{subject} has an annotation in which {error.name!r} is not defined when the program "
            "runs: import it outside `if TYPE_CHECKING`"
        ) from error
    names = (positional[0].name, "return")
    if missing := [name for name in names if name not in hints]:
        raise InvalidDefinition(f"{subject} has no annotation of {', '.join(missing)}")
    return hints[names[0]], hints["return"], len(positional) == WITH_CONTEXT
