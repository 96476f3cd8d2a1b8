"""The answers to appends that one caller awaits together: one future for all of them."""

import asyncio
from collections.abc import Callable

import msgspec

from chem_persistence.domain.events import FlowEvent

__all__ = ["Answer", "Answers"]


class Answers:
    """The answers to the appends of one call, in their order, as the queue gives them.

    `leave` is called with the size of each append once it has its answer, or is abandoned.
    """

    def __init__(self, count: int, leave: Callable[[int], None]) -> None:
        self.given: list[list[FlowEvent] | Exception | None] = [None] * count
        self._leave = leave
        self.expected: dict[int, int] = {}  # sizes by index, until the answer is given
        self._awaited: asyncio.Future[None] | None = None

    def expect(self, index: int, size: int) -> "Answer":
        """Return what takes the answer to an append of `size` bytes that is to be queued."""
        self.expected[index] = size
        return Answer(self, index)

    async def all(self) -> None:
        """Wait until every answer that is expected was given."""
        if self.expected:
            self._awaited = asyncio.get_running_loop().create_future()
            await self._awaited

    def give(self, index: int, answer: list[FlowEvent] | Exception) -> None:
        """Keep an answer, and end the wait of the caller if it is the last one."""
        self._leave(self.expected.pop(index))
        self.given[index] = answer
        if not self.expected and self._awaited is not None and not self._awaited.done():
            self._awaited.set_result(None)

    def abandon(self) -> None:
        """Expect no more answers."""
        expected, self.expected = self.expected, {}
        for size in expected.values():
            self._leave(size)


class Answer(msgspec.Struct, frozen=True, eq=False):
    """One of the answers, which the queue gives as it does that of a future."""

    answers: Answers
    index: int

    def done(self) -> bool:
        """Return whether the answer was given, or its caller was cancelled."""
        return self.index not in self.answers.expected

    def set_result(self, events: list[FlowEvent]) -> None:
        """Answer with the events of the append."""
        self.answers.give(self.index, events)

    def set_exception(self, error: Exception) -> None:
        """Answer with the error for which the append is not stored, or may not be."""
        self.answers.give(self.index, error)
