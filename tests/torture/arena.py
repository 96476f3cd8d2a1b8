"""Everything that a fault can strike, and the definition of a fault."""

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
    """The server and its standby, the proxy of most writers, the writers, and the subscriber."""

    server: Server
    standby: Standby
    proxy: Proxy
    writers: Writers
    subscriber: Subscriber

    def refusals(self) -> Counter[str]:
        """Count the SQLSTATEs of the errors that both servers have logged so far."""
        return self.server.refusals() + self.standby.refusals()


class NotStruck(Exception):
    """The fault had no target."""


class Fault(msgspec.Struct, frozen=True):
    """One kind of fault: `strike` injects it before its `yield`, and ends it after.

    A fault that `lasts` is held for a while, and the recovery is measured from its end; otherwise
    from its injection, so that a restart is part of the recovery. `felt` is the SQLSTATE of an
    append that fails because of the fault: the fault is held until the server has logged one, and
    does not count as injected if it never does. `possible` returns whether this machine allows the
    injection. `causes` are other SQLSTATEs with which appends may fail because of it.
    """

    name: str
    strike: Callable[[Arena, Random], AsyncIterator[None]]
    lasts: bool = False
    felt: str | None = None
    causes: frozenset[str] = frozenset()
    possible: Callable[[], bool] = lambda: True

    @property
    def states(self) -> frozenset[str]:
        """Return the SQLSTATEs with which appends may fail because of the fault."""
        return self.causes | ({self.felt} if self.felt else set())

    def struck(self, arena: Arena, dice: Random) -> AbstractAsyncContextManager[None]:
        return asynccontextmanager(self.strike)(arena, dice)
