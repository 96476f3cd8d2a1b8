"""The write path: a batch of appends, one statement, its own transaction."""

from collections.abc import Iterable, Sequence
from itertools import groupby
from uuid import UUID

import asyncpg

from chem_persistence.domain.events import FlowEvent
from chem_persistence.domain.hash_chain import GENESIS
from chem_persistence.errors import ChemPersistenceError, ConcurrencyConflict
from chem_persistence.postgres.append.documents import Write, append_documents
from chem_persistence.postgres.append.heads import FlowHeads
from chem_persistence.postgres.connection.ports import Connection
from chem_persistence.postgres.connection.transaction import transaction
from chem_persistence.postgres.read.rows import stored_event
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.append_request import AppendRequest, Head
from chem_persistence.store.codec import StoredEvent
from chem_persistence.store.idempotency import recognise

__all__ = ["Append", "append_batch"]

APPEND_EVENTS = statement("events/append_events")
READ_EVENTS_BY_ID = statement("events/read_events_by_id")
READ_FLOW_EVENTS = statement("events/read_flow_events")
READ_FLOW_HEADS = statement("events/read_flow_heads")


class Append:
    """A request on its way into the log, and in the end its `answer`: the events, or what to raise.

    Once `head` is set the append is tried there and nowhere else, however often, until it is certain that another
    writer holds that place: so an attempt whose outcome is not known can never be joined by a twin. `lost` says that there
    was such an attempt. `races` is how often another writer was quicker.
    """

    __slots__ = ("answer", "expected_version", "head", "looked_up", "lost", "races", "request")

    def __init__(self, request: AppendRequest, expected_version: int | None) -> None:
        self.request = request
        self.expected_version = expected_version
        self.head: Head | None = None
        self.lost = False
        self.races = 0
        self.looked_up = not request.ids_given
        self.answer: list[FlowEvent] | Exception | None = None

    def begin_again(self) -> None:
        """Go back to where nothing is known about the flow."""
        self.head = None
        self.lost = False
        self.looked_up = not self.request.ids_given


async def append_batch(
    connection: Connection,
    appends: Sequence[Append],
    heads: FlowHeads,
    patience: float | None = None,
) -> None:
    """Answer appends, those of one flow side by side and in order; one without an answer has to be tried again.

    What is stored is stored in one statement. It may be called again with the same appends when the outcome of a call is
    unknown, also while that call is still at work on the server: the key (flow_id, version) lets one of them
    through, and the other waits for it and then finds the appends' own event ids at those versions. `patience` bounds
    the wait for other writers' locks, in seconds, as lock_timeout does.

    Raises:
        asyncpg.UniqueViolationError: another writer was at the same time appending to one of several flows.
        asyncpg.LockNotAvailableError: the patience is over.
        asyncpg.PostgresError: one of the appends cannot be stored, or none at the moment.
    """
    await _find_heads(connection, appends, heads)
    await _find_originals(connection, appends)
    writes = _chain(appends)
    if not writes:
        return
    collision = None
    try:
        stored = await _write(connection, [write for _, write in writes], patience)
    except asyncpg.UniqueViolationError as error:
        if writes[0][0].request.flow_id != writes[-1][0].request.flow_id:
            raise
        stored, collision = {}, error
    for append, write in writes:
        request, first = append.request, write.head.version
        key, end = request.flow_id.int, first + len(write.links)
        if (key, first) in stored:  # then so are those that come with it
            append.answer = request.events(
                first, [stored[key, version] for version in range(first, end)]
            )
            heads.keep(request.flow_id, Head(end, write.links[-1].hash))
        else:
            await _settle(connection, append, write, heads, collision)


async def _find_heads(connection: Connection, appends: Sequence[Append], heads: FlowHeads) -> None:
    """Find the head for the first append of each flow; the others follow it."""
    unknown: list[Append] = []
    for append in _first_of_each_flow(appends):
        if append.head is None:
            append.head = heads.at(append.request.flow_id, append.expected_version)
            if append.head is None:
                unknown.append(append)
    if not unknown:
        return
    rows = await connection.fetch(
        READ_FLOW_HEADS,
        [append.request.flow_id for append in unknown],
        [append.expected_version for append in unknown],
    )
    found = {row["flow_id"]: Head(row["version"], row["chain_hash"] or GENESIS) for row in rows}
    for (
        append
    ) in unknown:  # a flow that does not reach so far gets a head that no event has: a conflict
        append.head = found[append.request.flow_id]


def _first_of_each_flow(appends: Iterable[Append]) -> Iterable[Append]:
    last = None
    for append in appends:
        if append.answer is None and append.request.flow_id.int != last:
            last = append.request.flow_id.int
            yield append


async def _find_originals(connection: Connection, appends: Sequence[Append]) -> None:
    """Answer the appends whose given event ids are in the log.

    It comes after the heads are known: what is appended in between makes the append conflict.
    """
    asked = [append for append in appends if append.answer is None and not append.looked_up]
    if not asked:
        return
    rows = await connection.fetch(
        READ_EVENTS_BY_ID,
        list({append.request.flow_id for append in asked}),
        [event_id for append in asked for event_id in append.request.event_ids],
    )
    stored = [stored_event(row) for row in rows]
    for append in asked:
        append.answer = _recognised(append.request, stored)
        append.looked_up = True


def _recognised(
    request: AppendRequest, stored: Iterable[StoredEvent]
) -> list[FlowEvent] | Exception | None:
    ids = set(request.event_ids)
    own = [event for event in stored if event.flow_id == request.flow_id and event.event_id in ids]
    try:
        return recognise(request, own)
    except ChemPersistenceError as error:
        return error


def _chain(appends: Iterable[Append]) -> list[tuple[Append, Write]]:
    """Let the unanswered appends of a flow follow each other; one that does not fit there has to wait.

    It does not fit if it expects another version, or has an event id that an append before it brings. Where another writer
    was quicker, fewer are tried each time, for the more there are the longer they take, and the quicker he is again.
    """
    writes: list[tuple[Append, Write]] = []
    for _, group in groupby(appends, key=lambda append: append.request.flow_id.int):
        run = list(group)
        if races := max([append.races for append in run]):
            run = run[: max(1, len(run) >> races)]
        base = end = None
        given: set[UUID] = set()
        for append in run:
            if base is None or end is None:
                base = end = append.head
            if append.answer is not None or base is None or end is None:
                continue
            if append.head is None:
                fits = append.expected_version is None or append.expected_version == end.version
            else:
                fits = append.head == end
            repeated = append.request.ids_given and not given.isdisjoint(append.request.event_ids)
            if repeated or not fits:
                if append.head is None:
                    append.begin_again()  # what is stored now may hold its event ids
                continue
            append.head = end
            links = append.request.links(end)
            writes.append((append, Write(append.request, end, base, links)))
            end = Head(end.version + len(links), links[-1].hash)
            if append.request.ids_given:
                given.update(append.request.event_ids)
    return writes


async def _write(
    connection: Connection, writes: Sequence[Write], patience: float | None
) -> dict[tuple[int, int], int]:
    """Give the numbers of the stored events, by flow and version."""
    lock_timeout = None if patience is None else f"{patience * 1_000:.0f}ms"
    if (
        connection.is_in_transaction()
    ):  # a savepoint, so that a caller's transaction outlives a conflict
        async with transaction(connection):
            rows = await connection.fetch(APPEND_EVENTS, *append_documents(writes), lock_timeout)
    else:
        rows = await connection.fetch(APPEND_EVENTS, *append_documents(writes), lock_timeout)
    return {(flow_id.int, version): seq for flow_id, version, seq in rows}


async def _settle(
    connection: Connection,
    append: Append,
    write: Write,
    heads: FlowHeads,
    collision: Exception | None,
) -> None:
    """Find out who holds the versions: this append's own earlier attempt, or another writer."""
    request, version = append.request, write.head.version
    rows = await connection.fetch(READ_FLOW_EVENTS, request.flow_id, version - 1, len(write.links))
    stored = [stored_event(row) for row in rows]
    if collision is not None and not stored and write.head == write.base:
        raise collision  # with something else than the flow's next version
    append.answer = _recognised(request, stored)
    if isinstance(append.answer, list):
        heads.keep(request.flow_id, Head(stored[-1].version + 1, stored[-1].link))
        return
    heads.forget(request.flow_id)
    if append.answer is not None:
        return
    (end,) = await connection.fetch(READ_FLOW_HEADS, [request.flow_id], [None])
    heads.keep(request.flow_id, Head(end["version"], end["chain_hash"] or GENESIS))
    if append.expected_version in {None, end["version"]} or write.head != write.base:
        append.begin_again()
        append.races += 1
    else:
        append.answer = ConcurrencyConflict(
            request.flow_id, append.expected_version, end["version"]
        )
