"""Work on one part of a consumer: page after page, until nothing is left or the part is lost."""

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Generic, TypeVar

import anyio
import msgspec

from chem_persistence.domain.events import FlowEvent
from chem_persistence.errors import (
    ChemPersistenceError,
    StoreClosed,
    StoreError,
    StoreUnavailable,
)
from chem_persistence.feed.parts import ConsumerParts, HeldPart, PartLost, PartPage
from chem_persistence.store.leasing.cancelled_claims import undone_if_cancelled

__all__ = ["ConsumeOptions", "Handler", "PartWork"]

Page = TypeVar("Page", bound=PartPage)
Transaction = TypeVar("Transaction")

Handler = Callable[[Sequence[FlowEvent], Transaction], Awaitable[None]]

PAGES_PER_CLAIM = 16
"""After so many pages the part is released, so that those that are due longer have their turn."""

FIRST_PAUSE, LONGEST_PAUSE = 0.05, 30.0
"""The seconds before a part is tried again; the pause doubles with each failure."""

RELEASE_SECONDS = 5.0
"""How long a cancelled task waits until its part is released; later the lease ends by itself."""

_DIED = "its process died, or lost the part, each time it was consumed; no error is known"
_TOO_IDLE = (
    "the handler left its transaction idle for longer than the lease, {}, so the server ended it"
)

_logger = logging.getLogger("chem_persistence.consumers")


class ConsumeOptions(msgspec.Struct, frozen=True):
    """How a consumer works; see `Consumer.run`."""

    lease: timedelta
    page: int
    tries: int


class PartWork(Generic[Page, Transaction]):
    """Consumes the parts that a process has claimed, one at a time."""

    def __init__(
        self,
        parts: ConsumerParts[Page, Transaction],
        handler: Handler[Transaction],
        how: ConsumeOptions,
    ) -> None:
        self._parts = parts
        self._handler = handler
        self._how = how
        self._failures = Counter[int]()  # of each part, for reasons that pass by themselves
        self.consumed = 0

    async def consume_one(self) -> bool:
        """Claim a part, consume it and release it; return False if none has anything to do.

        Raises:
            HistoryLost: the event of a part's position is not in the log any more.
            StoreUnavailable, StoreError: the store cannot be reached, or refused.
        """
        end = await self._parts.feed_end()
        part = await undone_if_cancelled(self._parts.claim(end, self._how.lease), self._give_back)
        if part is None:
            return False
        held = _HeldWork(self._parts, self._handler, self._how, part, self._failures)
        try:
            await held.run()
        finally:
            self.consumed += held.consumed
        return True

    async def _give_back(self, part: HeldPart | None) -> None:
        """Release a part that was claimed when nobody waited for it any more."""
        if part is not None:
            tries = max(part.tries - 1, 0)
            await self._parts.release(part, due_in=timedelta(0), tries=tries)


class _HeldWork(Generic[Page, Transaction]):
    """The work on one part for as long as this process holds it."""

    def __init__(
        self,
        parts: ConsumerParts[Page, Transaction],
        handler: Handler[Transaction],
        how: ConsumeOptions,
        part: HeldPart,
        failures: "Counter[int]",
    ) -> None:
        self._parts = parts
        self._handler = handler
        self._how = how
        self._part = part
        self._failures = failures
        self._transaction: Transaction | None = None
        self._is_too_idle = False
        self.consumed = 0

    async def run(self) -> None:
        """Consume the part, while its lease is renewed; stop when the part is lost."""
        with anyio.CancelScope() as scope:
            renewing = asyncio.create_task(self._renew(scope))
            try:
                await self._consume_pages()
            except BaseException:
                with anyio.move_on_after(RELEASE_SECONDS, shield=True):
                    await self._leave()
                raise
            finally:
                renewing.cancel()
                with anyio.CancelScope(shield=True):
                    await asyncio.wait([renewing])

    async def _consume_pages(self) -> None:
        for _ in range(PAGES_PER_CLAIM):
            if not await self._consume_next():
                return
        while await self._release(due_in=0.0, tries=0):
            pass

    async def _consume_next(self) -> bool:
        """Consume the next page; return False once the part is released or lost."""
        end = await self._parts.feed_end()
        page = await self._parts.next_page(self._part, end, self._how.page)
        if page is None:
            return await self._reach_end(end)
        try:
            self._part = await self._consume(page)
        except PartLost:
            return await self._find_again()
        except StoreClosed:
            raise  # it is over for every event
        except StoreUnavailable as error:
            return await self._try_later(error)
        except Exception as error:  # noqa: BLE001  # whatever the handler raises
            return await self._fail(error)
        del self._failures[self._part.part]
        return True

    async def _consume(self, page: Page) -> HeldPart:
        """Consume a page, or park its first flow after too many tries; return the part then."""
        part, lease = self._part, self._how.lease
        if page.is_empty:
            await self._parts.pass_by(part, page, lease)
            return page.then
        if part.tries > self._how.tries:
            error = part.error or _DIED
            _logger.error("consumer %s parks flow %s: %s", part.name, page.flow_id, error)
            return await self._parts.park(part, page, error, lease)
        events = page.events()
        async with self._parts.consuming(part, page, lease) as transaction:
            self._transaction = transaction
            try:
                await self._handler(events, transaction)
            finally:
                self._transaction = None
        self.consumed += len(events)
        return page.then

    async def _reach_end(self, end: int) -> bool:
        part = self._part
        if part.until is not None and part.at.seq == part.until:
            if await self._parts.finish_resize():
                return False
            return await self._release(due_in=FIRST_PAUSE, tries=0)
        return await self._release(due_in=0.0, tries=0, passed=end)

    async def _fail(self, error: Exception) -> bool:
        """Release the part, which is tried again; the claims count how often."""
        part, text = self._part, _described(error)
        _logger.warning(
            "consumer %s, part %d, after %d, try %d: %s",
            *(part.name, part.part, part.at.seq, part.tries, text),
            exc_info=error,
        )
        return await self._release(due_in=_pause(part.tries), tries=part.tries, error=text)

    async def _try_later(self, error: Exception) -> bool:
        """Release the part after a failure that passes by itself, which counts as no try."""
        part = self._part
        self._failures[part.part] += 1
        _logger.warning("consumer %s, part %d: %s", part.name, part.part, error)
        pause = _pause(self._failures[part.part])
        return await self._release(
            due_in=pause, tries=max(part.tries - 1, 0), error=_described(error)
        )

    async def _release(
        self, *, due_in: float, tries: int, passed: int | None = None, error: str | None = None
    ) -> bool:
        """Release the part; return True if it has moved meanwhile, so that the work goes on.

        An earlier attempt, whose reply was lost, may have moved it.
        """
        pause = timedelta(seconds=due_in)
        is_released = await self._parts.release(
            self._part, due_in=pause, tries=tries, passed=passed, error=error
        )
        return False if is_released else await self._find_again()

    async def _find_again(self) -> bool:
        """Read the part anew; return False if this process does not hold it any more."""
        found = await self._parts.find(self._part)
        if found is None:
            _logger.info("consumer %s lost part %d", self._part.name, self._part.part)
            return False
        self._part = found
        return True

    async def _leave(self) -> None:
        """Release the part because the work ends, not because of an event."""
        with suppress(ChemPersistenceError):
            if self._is_too_idle:
                await self._fail(TimeoutError(_TOO_IDLE.format(self._how.lease)))
            else:
                await self._release(due_in=0.0, tries=max(self._part.tries - 1, 0))

    async def _renew(self, scope: anyio.CancelScope) -> None:
        """Renew the lease each third of it; cancel the work if the part or its session is lost."""
        while True:
            await asyncio.sleep(self._how.lease.total_seconds() / 3)
            if self._transaction is not None and self._parts.is_lost(self._transaction):
                self._is_too_idle = True
                break
            with suppress(StoreError):  # the fence decides in the end
                if not await self._parts.renew(self._part, self._how.lease):
                    break
        scope.cancel()


def _pause(failures: int) -> float:
    return min(FIRST_PAUSE * 2.0 ** (failures - 1), LONGEST_PAUSE)


def _described(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return text.replace("\0", "\\0")[:2_000]
