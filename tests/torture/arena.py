"""Everything that a fault can strike, and what a fault is."""

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from random import Random

import msgspec

from tests.support.faults.proxy import Proxy
from tests.torture.servers.server import Server
from tests.torture.servers.standby import Standby
from tests.torture.subscriber import Subscriber
from tests.torture.writers.writers import Writers

__all__ = ["Arena", "Fault", "NotStruck"]


class Arena(msgspec.Struct, frozen=True):
    """The server and its standby, the proxy that most writers go through, the writers, and who follows the feed."""

    server: Server
    standby: Standby
    proxy: Proxy
    writers: Writers
    subscriber: Subscriber

    def refusals(self) -> Counter[str]:
        """Count the SQLSTATEs of the errors that both servers have logged so far."""
        return self.server.refusals() + self.standby.refusals()


class NotStruck(Exception):
    """The fault found nothing to strike."""


class Fault(msgspec.Struct, frozen=True):
    """One kind of fault: what comes before the `yield` of `strike` injects it, what comes after heals it.

    One that `lasts` is held for a while, and the recovery is counted from its end; else from its injection, so
    that a restart is a part of the recovery. `felt` is the SQLSTATE by which the server says that an append met
    the fault: it is held until the server has, and does not count as injected if it never does. `possible` says
    whether this machine lets it be injected. `causes` are other SQLSTATEs with which
    appends may fail because of it.
    """

    name: str
    strike: Callable[[Arena, Random], AsyncIterator[None]]
    lasts: bool = False
    felt: str | None = None
    causes: frozenset[str] = frozenset()
    possible: Callable[[], bool] = lambda: True

    @property
    def states(self) -> frozenset[str]:
        """The SQLSTATEs with which appends may fail because of it."""
        return self.causes | ({self.felt} if self.felt else set())

    def struck(self, arena: Arena, dice: Random) -> AbstractAsyncContextManager[None]:
        return asynccontextmanager(self.strike)(arena, dice)
