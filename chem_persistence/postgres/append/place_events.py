"""The write path: a batch of appends, placed at the ends of their flows by one statement."""

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import inf
from typing import cast
from uuid import UUID

import asyncpg
import msgspec

from chem_persistence.domain.events import SEALED, StepSignal
from chem_persistence.domain.hash_chain import GENESIS
from chem_persistence.errors import StoreError
from chem_persistence.postgres.append.copied_artifacts import (
    MOST_BYTES,
    can_copy,
    copy_artifacts,
)
from chem_persistence.postgres.append.forms.documents import DOCUMENTS
from chem_persistence.postgres.append.forms.one_event import ONE_EVENT, is_one_event
from chem_persistence.postgres.append.forms.rows import ROWS, Form, Write, numbered
from chem_persistence.postgres.append.settle import (
    Outcome,
    Reason,
    Refused,
    Stored,
    TryAgain,
    find_originals,
    settle,
)
from chem_persistence.postgres.connection.failures import may_have_committed, outcome_of_commit
from chem_persistence.postgres.connection.ports import Connection
from chem_persistence.postgres.connection.transaction import transaction
from chem_persistence.postgres.schema.row_types import OUTDATED, RowTypes
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.append_request import EMPTY_FLOW, AppendRequest, Head

__all__ = ["Append", "FlowHeads", "append_batch"]

READ_FLOW_HEAD = statement("events/read_flow_head")
READ_FLOW_HEADS = statement("events/read_flow_heads")

_BEHIND = TryAgain(Reason.BEHIND)

MOST_UNMOVED = 20
"""Lost races after which a version that is still free is an error, not another race."""

_KEPT_OUT = (
    "the database neither stores the event nor has another one at its version; "
    "`chem-persistence doctor` names triggers and rules that keep events out"
)


class Append(msgspec.Struct, eq=False):
    """A request, and what the attempts to store it have found out; no two of them are equal.

    Once `head` is set, every attempt appends after it, until it is certain that another writer has
    taken the version: retries reuse the same version, so a lost attempt cannot be stored twice.
    `lost` is true if the outcome of an attempt is unknown; `races` counts the versions that other
    writers took first; `looked_up` is true once event ids that were given need not be looked for in
    the log: it did not have them after `head` was read.
    """

    request: AppendRequest
    head: Head | None = None
    lost: bool = False
    looked_up: bool = False
    races: int = 0

    @property
    def key(self) -> int:
        """What names its flow: it hashes faster than the UUID."""
        return self.request.flow_id.int

    def forget_head(self) -> None:
        """Forget after which head to append, as if nothing were known about the flow."""
        self.head, self.lost, self.looked_up = None, False, False


class FlowHeads:
    """A bounded map from flow to a head that is in the log; the longest unused is dropped first.

    An event in the log never changes, so an entry can be out of date but not wrong; if its event is
    missing, the log went back to an earlier state. This holds only for `known` heads, which were
    read or acknowledged outside a transaction: a savepoint may roll back the others. The heads of a
    transaction are looked up before those of the store, `below`, which they do not change.
    """

    def __init__(self, capacity: int = 10_000, below: "FlowHeads | None" = None) -> None:
        self._capacity = capacity
        self._below = below
        # by the flow id's integer, which hashes faster
        self._heads: OrderedDict[int, Head] = OrderedDict()
        self._uncommitted: set[int] = set()

    def at(self, flow_id: UUID, version: int | None) -> Head | None:
        """Return the known head of a flow, if it is that of `version` events; None matches any."""
        if version == 0:
            return EMPTY_FLOW
        head = self._heads.get(flow_id.int)
        if head is None and self._below is not None:
            head = self._below.known(flow_id)
        return head if head is None or version is None or version == head.version else None

    def known(self, flow_id: UUID) -> Head | None:
        """Return the head of a flow that no rollback can have taken back, if there is one."""
        if self._below is not None:
            return self._below.known(flow_id)
        return None if flow_id.int in self._uncommitted else self._heads.get(flow_id.int)

    @property
    def is_above(self) -> bool:
        """Whether these are the heads of a transaction, which is one of READ COMMITTED."""
        return self._below is not None

    def forget(self, flow_id: UUID) -> None:
        """Forget the head of a flow."""
        self._heads.pop(flow_id.int, None)
        self._uncommitted.discard(flow_id.int)
        if self._below is not None:
            self._below.forget(flow_id)

    def keep(self, flow_id: UUID, head: Head, *, committed: bool) -> None:
        """Remember a head that was read or acknowledged; `committed` if outside a transaction."""
        heads, key = self._heads, flow_id.int
        heads[key] = head
        heads.move_to_end(key)
        if not committed:
            self._uncommitted.add(key)
        elif self._uncommitted:
            self._uncommitted.discard(key)
        if len(heads) > self._capacity:
            dropped, _ = heads.popitem(last=False)
            self._uncommitted.discard(dropped)

    def keep_read(self, flow_id: UUID, head: Head, *, committed: bool) -> None:
        """Remember a head that was read at some version, unless a later one is remembered."""
        kept = self._heads.get(flow_id.int)
        if head.version and (kept is None or kept.version < head.version):
            self.keep(flow_id, head, committed=committed)


async def append_batch(
    connection: Connection,
    appends: Sequence[Append],
    heads: FlowHeads,
    patience: float | None = None,
) -> dict[Append, Outcome]:
    """Store appends, those of one flow side by side and in order, and return each one's outcome.

    What is stored is stored by one statement, unless artifacts are large: then by a transaction, so
    that these can be sent in pieces. When the outcome of a call is unknown it may be made
    again with the same appends, also while the server still works on the first one: the key
    (flow_id, version) lets one of the two through, and the other waits for it and then finds the
    appends' own event ids at those versions. `patience` is the longest wait for other writers'
    locks in seconds, as lock_timeout is (PostgreSQL manual, section 20.11).

    Raises:
        asyncpg.UniqueViolationError: if another writer appended to one of several flows meanwhile.
        asyncpg.LockNotAvailableError: if a lock was not free within `patience`.
        asyncpg.PostgresError: if one of the appends cannot be stored, or none at the moment.
    """
    committed = not connection.is_in_transaction()
    runs = _runs(appends)
    await _find_heads(connection, [run[0] for run in runs], heads, committed=committed)
    outcomes = await _find_originals(connection, appends)
    if placed := _place(runs, outcomes):
        outcomes |= await _write(connection, placed, heads, patience, committed=committed)
    if len(outcomes) < len(appends):
        outcomes = dict.fromkeys(appends, _BEHIND) | outcomes
    return outcomes


def _runs(appends: Sequence[Append]) -> list[list[Append]]:
    """Return the appends of each flow, in one order for all batches, so as not to deadlock."""
    runs: dict[int, list[Append]] = {}
    for append in appends:
        runs.setdefault(append.request.flow_id.int, []).append(append)
    return [runs[key] for key in sorted(runs)]


async def _find_heads(
    connection: Connection, firsts: Sequence[Append], heads: FlowHeads, *, committed: bool
) -> None:
    """Set the heads of the first appends of flows; those behind them follow."""
    unknown: list[Append] = []
    for append in firsts:
        if append.head is None:
            append.head = heads.at(append.request.flow_id, append.request.expected_version)
            if append.head is None:
                unknown.append(append)
    if not unknown:
        return
    requests = [append.request for append in unknown]
    if len(requests) == 1:  # the only case on Citus, where it asks a single shard
        rows = await connection.fetch(
            READ_FLOW_HEAD, requests[0].flow_id, requests[0].expected_version
        )
    else:
        rows = await connection.fetch(
            READ_FLOW_HEADS,
            [request.flow_id for request in requests],
            [request.expected_version for request in requests],
        )
    found = {row["flow_id"]: Head(row["version"], row["chain_hash"]) for row in rows}
    for flow_id, head in found.items():
        heads.keep_read(flow_id, head, committed=committed)
    for append in unknown:
        append.head = _expected(append.request, found.get(append.request.flow_id, EMPTY_FLOW))


def _expected(request: AppendRequest, head: Head) -> Head:
    """Return the head to append at; if the expected one does not exist, one that conflicts."""
    expected = request.expected_version
    return head if expected in {None, head.version} else Head(expected, GENESIS)


async def _find_originals(
    connection: Connection, appends: Sequence[Append]
) -> dict[Append, Outcome]:
    """Return the outcomes of those appends whose given event ids are in the log already.

    Heads are known by then, so what others append after this makes the append conflict.
    """
    asked = [append for append in appends if append.request.ids_given and not append.looked_up]
    if not asked:
        return {}
    originals = await find_originals(connection, [append.request for append in asked])
    outcomes: dict[Append, Outcome] = {}
    for append, found in zip(asked, originals, strict=True):
        if found is None:
            append.looked_up = True
        else:  # looked for again if the statement that follows fails, and this outcome with it
            outcomes[append] = found
    return outcomes


def _place(
    runs: Sequence[Sequence[Append]], outcomes: Mapping[Append, Outcome]
) -> dict[Append, Write]:
    """Chain the appends of each flow without an outcome to its head; leave out what does not fit.

    An append does not fit if it expects another version, or repeats an event id of one before it,
    or follows the seal of the flow.
    After a lost race fewer appends of the flow are tried, half as many each time: a shorter
    statement is faster, so that a writer with many appends does not always lose to one with few.
    """
    placed: dict[Append, Write] = {}
    for run in runs:
        base = end = run[0].head
        given: set[UUID] = set()
        races = max([append.races for append in run]) if len(run) > 1 else 0
        for append in run[: max(1, len(run) >> races)] if races else run:
            if append in outcomes or base is None or end is None:
                continue
            request = append.request
            if append.head is not end and not _fits(append, end, given):  # the first one fits
                continue
            append.head = end
            links = request.links(end)
            after = Head(end.version + len(links), links[-1].hash)
            placed[append] = Write(request, end, base, links, after)
            end = after
            last = request.kinds[-1]  # each append comes by here: no call of is_seal
            if type(last) is StepSignal and last.signal == SEALED:
                end = None
            if request.ids_given:
                given.update(request.event_ids)
        for append in run[1:]:
            if append.head is None:
                append.forget_head()  # what is stored before its turn may hold its event ids
    return placed


def _fits(append: Append, end: Head, given: set[UUID]) -> bool:
    request = append.request
    if request.ids_given and not given.isdisjoint(request.event_ids):
        return False
    if append.head is not None:
        return append.head == end
    return request.expected_version is None or request.expected_version == end.version


async def _write(
    connection: Connection,
    placed: Mapping[Append, Write],
    heads: FlowHeads,
    patience: float | None,
    *,
    committed: bool,
) -> dict[Append, Outcome]:
    """Store placed appends, each flow all or nothing, and return their outcomes."""
    collision = None
    writes = [*placed.values()]
    seqs: Sequence[int | None]
    try:
        seqs = await _insert(connection, writes, patience)
    except asyncpg.UniqueViolationError as error:
        if writes[0].request.flow_id != writes[-1].request.flow_id:
            raise
        seqs, collision = [None] * sum(len(write.links) for write in writes), error
    except Exception as error:
        if may_have_committed(error):
            for append in placed:
                append.lost = True
        raise
    outcomes: dict[Append, Outcome] = {}
    left: list[tuple[Append, Write]] = []
    numbers, place = cast("Sequence[int]", seqs), 0
    for append, write in placed.items():
        request, count = write.request, len(write.links)
        if seqs[place] is not None:  # nor is another of the flow None, which is stored as a whole
            own = numbers[place : place + count]
            outcomes[append] = Stored(request.events(write.head.version, own))
            heads.keep(request.flow_id, write.end, committed=committed)
        else:
            left.append((append, write))
        place += count
    if left:
        for append in outcomes:  # they are tried again if what follows fails
            append.lost = True
        outcomes |= await _settle(connection, left, heads, collision, committed=committed)
    return outcomes


async def _settle(
    connection: Connection,
    writes: Sequence[tuple[Append, Write]],
    heads: FlowHeads,
    collision: Exception | None,
    *,
    committed: bool,
) -> dict[Append, Outcome]:
    """Return the outcomes of placed appends that the statement has left out."""
    outcomes: dict[Append, Outcome] = {}
    known: dict[int, Head | None] = {}  # before any of a flow's appends is settled
    for append, write in writes:
        request = append.request
        key = request.flow_id.int
        if key not in known:
            known[key] = heads.known(request.flow_id) if committed or heads.is_above else None
        outcome, head = await settle(connection, write, known[key], collision, lost=append.lost)
        if head is None:
            heads.forget(request.flow_id)
        else:
            heads.keep(request.flow_id, head, committed=committed)
        if isinstance(outcome, TryAgain):
            if head == write.head and append.races >= MOST_UNMOVED:
                outcome = Refused(StoreError(_KEPT_OUT))
            append.forget_head()
            append.races += 1
        outcomes[append] = outcome
    return outcomes


async def _insert(
    connection: Connection, writes: Sequence[Write], patience: float | None
) -> Sequence[int | None]:
    """Return the seq of each event, in the order of the writes; None for what is not stored."""
    lock_timeout = None if patience is None else f"{patience * 1_000:.0f}ms"
    types: RowTypes | None = getattr(connection, "row_types", None)
    if types is not None and types.are_known is None:
        await types.ask(connection)
    if types is None or not types.are_known:  # the connection of another program
        return await _send(connection, DOCUMENTS, writes, lock_timeout)
    try:
        is_bare = len(writes) == 1 and not writes[0].request.artifacts
        form = ONE_EVENT if is_bare and is_one_event(writes[0]) else ROWS
        return await _send(connection, form, writes, lock_timeout)
    except OUTDATED:
        if not await types.have_changed(connection):
            raise
    return await _insert(connection, writes, patience)


async def _send(
    connection: Connection, form: Form, writes: Sequence[Write], lock_timeout: str | None
) -> Sequence[int | None]:
    parameters, copied = form.parameters(writes, MOST_BYTES)
    if copied:
        if can_copy(connection):
            with suppress(asyncpg.FeatureNotSupportedError):  # a policy of row-level security
                isolation = None if connection.is_in_transaction() else "read_committed"
                async with transaction(connection, isolation=isolation):
                    rows = await connection.fetch(form.query, *parameters, lock_timeout)
                    seqs = form.seqs(writes, rows)
                    await copy_artifacts(connection, copied, numbered(writes, seqs))
                return seqs
        parameters, _ = form.parameters(writes, inf)
    if connection.is_in_transaction():  # a savepoint: the caller's transaction outlives a conflict
        async with transaction(connection):
            rows = await connection.fetch(form.query, *parameters, lock_timeout)
    else:
        try:  # the statement ends with a COMMIT
            rows = await connection.fetch(form.query, *parameters, lock_timeout)
        except asyncpg.InternalServerError as error:
            raise outcome_of_commit(error) from error
    return form.seqs(writes, rows)
