"""A step that asks a person, and goes on with the answer."""

from abc import abstractmethod
from typing import Any, ClassVar, Generic, TypeVar, final

import msgspec

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.engine.steps.context import StepContext, artifact_of
from chem_persistence.engine.steps.step import Question, Step
from chem_persistence.errors import InvalidPayload

__all__ = ["Ask"]

Input_contra = TypeVar("Input_contra", contravariant=True)
Output_co = TypeVar("Output_co", covariant=True)
Answer = TypeVar("Answer")


class Ask(Step[Input_contra, Output_co], Generic[Input_contra, Answer, Output_co]):
    """Asks a person, holds nothing until the answer comes, and decides by it.

    Subclass it with the types of input, answer and output, set `id` and `answer`, the class of the
    answer, and write `question` and `decide`. The question is stored with the JSON Schema of the
    answer's class, so that any client can show and check it; `FlowClient.answer` answers it.

    `timeout` is how many seconds a person has (None: without end). Then the answer is that of
    `default`, with the actor `timeout`. The answer is an input of the step: equal input and answer
    give the same fingerprint. A retry asks again.
    """

    answer: type[Answer]
    keeps_time: ClassVar[bool] = True

    @abstractmethod
    def question(self, input: Input_contra, /) -> str:  # noqa: A002
        """Return what the person is asked, as plain text."""

    @abstractmethod
    def decide(self, input: Input_contra, answer: Answer, /) -> Output_co:  # noqa: A002
        """Return the step's output; an exception fails the step."""

    def default(self, input: Input_contra, /) -> Answer:  # noqa: A002
        """Return the answer that counts if nobody answers in time; an exception fails the step."""
        del input
        raise TimeoutError(f"nobody answered step {self.id!r} within {self.timeout} s")

    @final
    async def run(
        self,
        input: Input_contra,  # noqa: A002
        context: StepContext,
        /,
    ) -> Output_co | Question:
        """Ask, or decide by the answer."""
        if context.answer is None:
            return Question(self.question(input), msgspec.json.schema(self.answer), self.timeout)
        try:
            answer = msgspec.convert(context.answer.provided, self.answer, str_keys=True)
        except msgspec.ValidationError as error:
            name = self.answer.__qualname__
            raise InvalidPayload("$", f"the answer is not a valid {name}: {error}") from error
        return self.decide(input, answer)

    @final
    def default_answer(self, given: Any) -> Artifact:
        """Return the answer that counts if nobody answers in time.

        Raises what `default` raises, and:
            InvalidPayload: it is not I-JSON.
        """
        return artifact_of(self.default(given))
