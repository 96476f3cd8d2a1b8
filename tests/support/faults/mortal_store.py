"""A store whose process dies after a number of calls: the last reply is lost, and nothing follows.

What the last call asked for was done. So each number is a death between two calls, or between a
commit and its reply. With a `Moment` the process lives, and something else happens at that call.
"""

import asyncio
import builtins
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

from chem_persistence import Artifact, Claim, Clock, FlowEvent, Leases, Renewal, StoreUnavailable
from chem_persistence.store.leasing.children import ChildState
from chem_persistence.store.reuse.results import Result, TakenOver

__all__ = ["Life", "Moment", "MortalStore"]

T = TypeVar("T")


class Life:
    """The calls that are left; `over` is set when there are none."""

    def __init__(self, calls: int) -> None:
        self.left = calls
        self.over = asyncio.Event()

    @property
    def is_dead(self) -> bool:
        """Whether no call is made any more."""
        return self.left == 0

    async def spend(self, call: Awaitable[T]) -> T:
        """Make a call, unless the process is dead."""
        if self.is_dead:
            _discard(call)
            raise StoreUnavailable("the process is dead")
        self.left -= 1
        result = await call
        if self.left == 0:
            self.over.set()
            raise StoreUnavailable("the process dies before it has the reply")
        return result


class Moment(Life):
    """The call at which `act` is awaited, before the call is made or, with `after`, behind it."""

    def __init__(
        self, calls: int, act: Callable[[], Awaitable[object]], *, after: bool = False
    ) -> None:
        super().__init__(calls)
        self._act = act
        self._after = after

    @property
    def is_dead(self) -> bool:
        """Whether no call is made any more: the process lives on."""
        return False

    async def spend(self, call: Awaitable[T]) -> T:
        """Make a call; act if it is the one."""
        self.left -= 1
        if self.left != 0:
            return await call
        self.over.set()
        if self._after:
            result = await call
            await self._act()
            return result
        try:
            await self._act()
        except BaseException:
            _discard(call)
            raise
        return await call


class MortalLeases:
    """Leases of a process that dies."""

    def __init__(self, leases: Leases, life: Life) -> None:
        self._leases = leases
        self._life = life

    async def claim(
        self, definitions: Collection[str], worker: UUID, limit: int, duration: timedelta
    ) -> "list[Claim]":
        # a claim that finds nothing changes nothing, and a worker makes any number of them
        if self._life.is_dead:
            raise StoreUnavailable("the process is dead")
        claims = await self._leases.claim(definitions, worker, limit, duration)
        return await self._life.spend(_done(claims)) if claims else claims

    async def take(self, flow_id: UUID, worker: UUID, duration: timedelta) -> Claim | None:
        return await self._life.spend(self._leases.take(flow_id, worker, duration))

    async def renew(
        self, held: Iterable[tuple[UUID, UUID]], duration: timedelta
    ) -> Mapping[UUID, Renewal]:
        return await self._life.spend(self._leases.renew(held, duration))

    async def give_back(self, flow_id: UUID, token: UUID, due_in: timedelta | None) -> bool:
        return await self._life.spend(self._leases.give_back(flow_id, token, due_in))

    async def leave(self, flow_id: UUID, token: UUID) -> bool:
        return await self._life.spend(self._leases.leave(flow_id, token))

    async def release(self, held: Iterable[tuple[UUID, UUID]]) -> list[UUID]:
        return await self._life.spend(self._leases.release(held))

    async def call(self, flow_ids: Iterable[UUID]) -> list[UUID]:
        return await self._life.spend(self._leases.call(flow_ids))

    async def rebuild(self) -> int:
        return await self._life.spend(self._leases.rebuild())


class MortalStore:
    """A store of a process that dies; `store` is a store, or one with a lease."""

    def __init__(self, store: Any, life: Life) -> None:
        self._store = store
        self._life = life
        self.seen_definitions: set[str] = set()

    @property
    def clock(self) -> Clock:
        clock: Clock = self._store.clock
        return clock

    @property
    def leases(self) -> MortalLeases:
        return MortalLeases(self._store.leases, self._life)

    def leased(self, flow_id: UUID, token: UUID) -> "MortalStore":
        return MortalStore(self._store.leased(flow_id, token), self._life)

    async def append_kind(self, *arguments: Any, **options: Any) -> FlowEvent:
        return await self._life.spend(self._store.append_kind(*arguments, **options))

    async def append_kinds(self, *arguments: Any, **options: Any) -> list[FlowEvent]:
        return await self._life.spend(self._store.append_kinds(*arguments, **options))

    async def list(self, *arguments: Any, **options: Any) -> list[FlowEvent]:
        return await self._life.spend(self._store.list(*arguments, **options))

    async def get_artifact(self, artifact_hash: str) -> Artifact:
        return await self._life.spend(self._store.get_artifact(artifact_hash))

    def iterate(self, flow_id: UUID, *, after_version: int = -1) -> Any:
        return self._store.iterate(flow_id, after_version=after_version)

    async def list_many(self, flow_ids: Iterable[UUID]) -> dict[UUID, builtins.list[FlowEvent]]:
        return await self._life.spend(self._store.list_many(flow_ids))

    async def child_states(self, flow_ids: Sequence[UUID]) -> Mapping[UUID, ChildState]:
        return await self._life.spend(self._store.child_states(flow_ids))

    async def child_outputs(self, flow_ids: Sequence[UUID]) -> Mapping[UUID, str]:
        return await self._life.spend(self._store.child_outputs(flow_ids))

    async def find_results(
        self, fingerprints: Sequence[str], *, most: int = 1
    ) -> Mapping[str, Sequence[Result]]:
        return await self._life.spend(self._store.find_results(fingerprints, most=most))

    async def taken_over(self, flow_id: UUID, *, limit: int = 1_000) -> "builtins.list[TakenOver]":
        return await self._life.spend(self._store.taken_over(flow_id, limit=limit))

    async def cancelled_flows(self, flow_ids: Collection[UUID]) -> set[UUID]:
        return await self._life.spend(self._store.cancelled_flows(flow_ids))


def _discard(call: Awaitable[object]) -> None:
    """Close a coroutine that is not awaited."""
    getattr(call, "close", lambda: None)()


async def _done(value: T) -> T:
    return value
