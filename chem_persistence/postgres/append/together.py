"""Appends to many flows that one caller awaits together; they wait in the queue beside others."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from chem_persistence.domain.events import FlowEvent
from chem_persistence.errors import ChemPersistenceError, StoreUnavailable
from chem_persistence.postgres.append.answers import Answers
from chem_persistence.postgres.append.queue import QueuedAppend
from chem_persistence.postgres.append.writers import Writers
from chem_persistence.store.append_request import AppendCall, AppendRequest

__all__ = ["append_together"]

ENCODED_AT_ONCE = 500
"""The number of appends of one call that are encoded before others have their turn."""


async def append_together(
    calls: Sequence[AppendCall],
    encoded: Callable[[AppendCall], Awaitable[AppendRequest]],
    writers: Writers,
    leave: Callable[[int], None],
) -> list[list[FlowEvent] | Exception]:
    """Store calls for different flows, and return what became of each, in their order.

    `encoded` encodes and admits a call; `leave` ends the admission of one of that size.
    If this is cancelled, each call is in the log as a whole, or not at all.

    Raises:
        StoreUnavailable: if a call was not admitted in time.
    """
    answers = Answers(len(calls), leave)
    queued: list[QueuedAppend] = []
    try:
        for index, call in enumerate(calls):
            try:
                request = await encoded(call)
            except StoreUnavailable as error:  # those that follow would not be admitted either
                raise StoreUnavailable(
                    f"append {index + 1} of {len(calls)} was not admitted, and those before it may "
                    f"or may not be stored: {error.reason}"
                ) from error
            except ChemPersistenceError as error:
                answers.given[index] = error
                continue
            append = QueuedAppend(request, answered=answers.expect(index, request.size))
            queued.append(append)
            writers.put(append)
            if len(queued) % ENCODED_AT_ONCE == 0:
                await asyncio.sleep(0)
        await answers.all()
    except BaseException:
        answers.abandon()
        writers.abandon(queued)
        raise
    return [answer for answer in answers.given if answer is not None]
