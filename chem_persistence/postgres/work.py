"""Claims and leases on PostgreSQL."""

from collections.abc import (
    AsyncIterator,
    Awaitable,
    Callable,
    Collection,
    Iterable,
    Mapping,
)
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext, suppress
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID, uuid4

import asyncpg

from chem_persistence.errors import StoreError
from chem_persistence.postgres.connection.ports import Connection, ConnectionProvider
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.hints import heard_hints, send_hints
from chem_persistence.postgres.read.rows import Row
from chem_persistence.postgres.schema.distribution import is_distributed
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.postgres.slots import PgSlots
from chem_persistence.store.checks import check_flow_id, check_not_negative
from chem_persistence.store.leasing.leases import (
    Claim,
    FlowCounts,
    FlowRunRow,
    Leases,
    Renewal,
    check_duration,
    check_worker,
)

__all__ = ["PgLeases"]

ADD_FLOW_RUNS = statement("work/add_flow_runs")
ANNOUNCE_WORKER = statement("work/announce_worker")
CALL_FLOW_RUNS = statement("work/call_flow_runs")
CLAIM_FLOW_RUNS = statement("work/claim_flow_runs")
COUNT_RUNS = statement("work/count_runs")
GIVE_BACK_FLOW_RUN = statement("work/give_back_flow_run")
LEAVE_FLOW_RUN = statement("work/leave_flow_run")
LIST_FREE_RUNS = statement("work/list_free_runs")
LIST_OTHER_DEFINITIONS = statement("work/list_other_definitions")
NEXT_DUE_RUN = statement("work/next_due_run")
NEXT_DUE_RUN_OF_NODES = statement("work/next_due_run_of_nodes")
READ_CLAIMED_RUNS = statement("work/read_claimed_runs")
READ_CLOCK = statement("work/read_clock")
READ_FLOW_RUN = statement("work/read_flow_run")
REBUILD_FLOW_RUNS = statement("work/rebuild_flow_runs")
RELEASE_FLOW_RUNS = statement("work/release_flow_runs")
RENEW_FLOW_RUNS = statement("work/renew_flow_runs")
TAKE_FLOW_RUN = statement("work/take_flow_run")
WALK_OTHER_DEFINITIONS = statement("work/walk_other_definitions")
WITHDRAW_WORKER = statement("work/withdraw_worker")

Found = TypeVar("Found")

ROWS_PER_REBUILD = 200
"""Rows that are added, or compared with the log, in one transaction; they are locked meanwhile."""

_BEFORE_ALL = UUID(int=0)


def _nothing() -> None: ...


class PgLeases:
    """The leases of flows on connections of `provider`; see `Leases`.

    Every call is one statement, and holds a connection no longer. A call whose reply is lost is
    repeated, and finds what it has done already.
    """

    def __init__(self, provider: ConnectionProvider) -> None:
        self._provider = provider
        self._session = Session(provider)
        self._lent: Connection | None = None  # that on which hints are heard, while it is idle
        self._listening: Connection | None = None
        self._give_up = _nothing
        self._hears = False
        self._may_be_distributed = True  # by the last look; it decides about speed alone

    @property
    def slots(self) -> PgSlots:
        """The slots of the limited resources; see `Slots`."""
        return PgSlots(self._provider)

    def hear(self, told: Callable[[str], None]) -> AbstractAsyncContextManager[None]:
        """Call `told` when flows become due; see `HintingLeases.hear`."""
        opening = getattr(self._provider, "separate", None)
        separate: AbstractAsyncContextManager[ConnectionProvider] | None
        separate = opening and opening(own_session=True)
        return nullcontext() if separate is None else heard_hints(separate, told, self)

    @property
    def hears(self) -> bool:
        """Whether hints are heard at present; see `ListeningLeases.hears`."""
        return self._hears

    def listen_on(
        self, connection: Connection | None, give_up: Callable[[], None] = _nothing
    ) -> None:
        """Look on the connection on which hints are heard; None: it is lost.

        Call `give_up` if it fails, so that another one listens.
        """
        self._lent = self._listening = connection
        self._give_up = give_up
        self._hears = False

    def hear_hints(self) -> None:
        """Note that a hint was heard that another connection sent."""
        self._hears = self._listening is not None

    async def hint(self, definitions: Collection[str]) -> None:
        """Notify the workers that flows are due; see `HintingLeases.hint`."""
        with suppress(StoreError):
            await self._session.run(lambda connection: send_hints(connection, definitions))

    def separate(self) -> AbstractAsyncContextManager[Leases] | None:
        """Return leases on a connection of their own; see `SeparableLeases.separate`."""
        opening = getattr(self._provider, "separate", None)
        separate: AbstractAsyncContextManager[ConnectionProvider] | None = opening and opening()
        return None if separate is None else _separate_leases(separate)

    async def claim(
        self, definitions: Collection[str], worker: UUID, limit: int, duration: timedelta
    ) -> list[Claim]:
        """Claim due flows; see `Leases.claim`."""
        check_worker(worker)
        check_not_negative(limit=limit)
        check_duration("duration", duration)
        if limit == 0 or not definitions:
            return []
        token = uuid4()
        rows = await self._claimed(
            token, CLAIM_FLOW_RUNS, list(set(definitions)), worker, token, limit, duration
        )
        return [Claim(row["flow_id"], token, row["definition_hash"]) for row in rows]

    async def take(self, flow_id: UUID, worker: UUID, duration: timedelta) -> Claim | None:
        """Claim one flow; see `Leases.take`."""
        check_flow_id(flow_id)
        check_worker(worker)
        check_duration("duration", duration)
        token = uuid4()
        (row,) = await self._claimed(token, TAKE_FLOW_RUN, flow_id, worker, token, duration)
        definition_hash = row["definition_hash"]
        return None if definition_hash is None else Claim(flow_id, token, definition_hash)

    async def _claimed(self, token: UUID, claim: str, *arguments: object) -> list[Row]:
        """Return the rows of a claim: those of an earlier attempt, if that has claimed any."""
        is_sent = False

        async def attempt(connection: Connection) -> list[Row]:
            nonlocal is_sent
            if is_sent and (claimed := await connection.fetch(READ_CLAIMED_RUNS, token)):
                return claimed
            is_sent = True
            return await connection.fetch(claim, *arguments)

        return await self._look(attempt)

    async def next_due(self, definitions: Collection[str], within: timedelta) -> timedelta | None:
        """Return after how long the next flow is due; see `ListeningLeases.next_due`."""
        check_duration("within", within)

        async def read(connection: Connection) -> timedelta | None:
            find = NEXT_DUE_RUN_OF_NODES if self._may_be_distributed else NEXT_DUE_RUN
            (row,) = await connection.fetch(find, list(definitions), within)
            due_at: datetime | None = row["due_at"]
            return None if due_at is None else due_at - row["present"]

        return await self._look(read)

    async def _look(self, attempt: Callable[[Connection], Awaitable[Found]]) -> Found:
        """Return what an idle worker asks for, on the connection on which hints are heard.

        So each look shows that this connection is alive, and a pool would reset its own each time.
        If there is none, or it is in use or fails, another one is used.
        """
        connection, self._lent = self._lent, None
        if connection is None:
            return await self._session.run(attempt)
        try:
            return await attempt(connection)
        except asyncpg.InterfaceError:  # it was lost before the statement was sent
            self._give_up()
            return await self._session.run(attempt)
        except Exception as error:  # noqa: BLE001 - the session decides whether it is retried
            self._give_up()
            return await self._session.run(attempt, error)
        finally:
            self._lent = self._listening  # None if it was lost meanwhile

    async def renew(
        self, held: Iterable[tuple[UUID, UUID]], duration: timedelta
    ) -> Mapping[UUID, Renewal]:
        """Renew leases; see `Leases.renew`."""
        check_duration("duration", duration)
        tokens = dict(held)
        if not tokens:
            return {}
        rows = await self._session.fetch(
            RENEW_FLOW_RUNS, list(tokens), list(tokens.values()), duration
        )
        return dict.fromkeys(tokens, Renewal.LOST) | {row["flow_id"]: _found(row) for row in rows}

    async def give_back(self, flow_id: UUID, token: UUID, due_in: timedelta | None) -> bool:
        """Release a flow with which there is nothing to do; see `Leases.give_back`."""
        check_duration("due_in", due_in)
        (row,) = await self._session.fetch(GIVE_BACK_FLOW_RUN, flow_id, token, due_in)
        was_held: bool = row["was_held"]
        return was_held

    async def leave(self, flow_id: UUID, token: UUID) -> bool:
        """Release a flow that a program runs by itself; see `Leases.leave`."""
        return bool(await self._session.fetch(LEAVE_FLOW_RUN, flow_id, token))

    async def release(self, held: Iterable[tuple[UUID, UUID]]) -> list[UUID]:
        """Release flows, due now; see `Leases.release`."""
        tokens = dict(held)
        rows = await self._session.fetch(RELEASE_FLOW_RUNS, list(tokens), list(tokens.values()))
        return [row["flow_id"] for row in rows]

    async def call(self, flow_ids: Iterable[UUID]) -> list[UUID]:
        """Call flows without an event; see `Leases.call`."""
        rows = await self._session.fetch(CALL_FLOW_RUNS, list(set(flow_ids)))
        return [row["flow_id"] for row in rows]

    async def announce(self, worker: UUID, name: str, definitions: Collection[str]) -> None:
        """Store that a worker is alive; see `WorkerRegister.announce`."""
        await self._session.fetch(ANNOUNCE_WORKER, worker, name, list(definitions))

    async def withdraw(self, worker: UUID) -> None:
        """Remove a worker; see `WorkerRegister.withdraw`."""
        await self._session.fetch(WITHDRAW_WORKER, worker)

    async def count_flows(self, definitions: Collection[str]) -> Mapping[str, FlowCounts]:
        """Count the flows of definitions that are due, or wait; see `FlowCounter.count_flows`."""

        async def count(connection: Connection) -> list[Row]:
            (clock,) = await connection.fetch(READ_CLOCK)
            return await connection.fetch(COUNT_RUNS, list(definitions), clock["present"])

        rows = await self._session.run(count)
        counted = {row["definition_hash"]: FlowCounts(row["due"], row["waiting"]) for row in rows}
        return dict.fromkeys(definitions, FlowCounts()) | counted

    async def other_definitions(self, known: Collection[str], limit: int) -> list[str]:
        """List the definitions of flows; see `DefinitionLister.other_definitions`."""
        check_not_negative(limit=limit)

        async def read(connection: Connection) -> list[str]:
            self._may_be_distributed = distributed = await is_distributed(connection)
            find = LIST_OTHER_DEFINITIONS if distributed else WALK_OTHER_DEFINITIONS
            rows = await connection.fetch(find, list(known), limit)
            return [row["definition_hash"] for row in rows]

        return await self._session.run(read)

    async def read_run(self, flow_id: UUID) -> FlowRunRow | None:
        """Return the row of a flow; see `LeaseReader.read_run`."""

        async def read(connection: Connection) -> FlowRunRow | None:
            (clock,) = await connection.fetch(READ_CLOCK)
            rows = await connection.fetch(READ_FLOW_RUN, flow_id)
            return next((_row(row, clock["present"]) for row in rows), None)

        return await self._session.run(read)

    async def rebuild(self) -> int:
        """Make the rows what the log implies; see `Leases.rebuild`."""
        changed = 0
        while True:
            (row,) = await self._session.fetch(ADD_FLOW_RUNS, ROWS_PER_REBUILD)
            if row["added"] == 0:
                break
            changed += row["added"]
        last = _BEFORE_ALL
        while page := await self._session.fetch(LIST_FREE_RUNS, last, ROWS_PER_REBUILD):
            flow_ids = [row["flow_id"] for row in page]
            rows = await self._session.fetch(REBUILD_FLOW_RUNS, flow_ids)
            changed += sum(row["is_changed"] for row in rows)
            last = flow_ids[-1]
        return changed


@asynccontextmanager
async def _separate_leases(
    separate: AbstractAsyncContextManager[ConnectionProvider],
) -> AsyncIterator[Leases]:
    async with separate as provider:
        yield PgLeases(provider)


def _row(row: Row, present: datetime) -> FlowRunRow:
    due_at = row["due_at"]
    token, holder = (row[name] and UUID(int=row[name].int) for name in ("lease", "holder"))
    return FlowRunRow(due_at and due_at - present, token, holder)


def _found(row: Row) -> Renewal:
    if not row["is_renewed"]:
        return Renewal.SKIPPED
    return Renewal.CALLED if row["is_called"] else Renewal.RENEWED
