"""Verification: every chain and every artifact checked for tampering, in constant memory."""

from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import aclosing
from uuid import UUID

import msgspec

from chem_persistence.domain.tampering import ChainedEvent, Finding, FlowCheck, Tampering
from chem_persistence.errors import ArtifactCorrupt, StoreError
from chem_persistence.postgres.audit.snapshots import false_snapshots
from chem_persistence.postgres.connection.failures import is_unreadable_value
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.read.artifacts import check_artifact, check_artifact_of_flow
from chem_persistence.postgres.read.flows import PAGE_BYTES, SizedPages
from chem_persistence.postgres.read.rows import Row, chained_event, stored_artifact
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.transfer.anchors import Anchor

__all__ = ["Extent", "Progress", "Verification", "measure_log", "verify_log"]

COUNT_ARCHIVED = statement("verification/count_archived")
COUNT_ARTIFACTS = statement("verification/count_artifacts")
COUNT_EVENTS = statement("verification/count_events")
FIND_ARCHIVED_HEADS = statement("verification/find_archived_heads")
FIND_MISSING_ARTIFACTS = statement("verification/find_missing_artifacts")
READ_ARTIFACT_PRODUCERS = statement("verification/read_artifact_producers")
READ_CHAINED_EVENTS = statement("verification/read_chained_events")
READ_CHAINED_FLOW = statement("verification/read_chained_flow")

EVENTS_PER_PAGE = 2_000
ARTIFACTS_PER_PAGE = 100
EVENTS_PER_DIAGNOSIS = 10_000
BYTES_PER_DIAGNOSIS = 8 * PAGE_BYTES
"""How many events after a broken link are read to find out what was changed."""

BYTES_PER_ARTIFACT = 2**16
"""Stored bytes of an artifact that is read together with others; larger ones are read alone."""

ANCHORS_AT_ONCE = 1_000
"""The register is asked for so many flows at a time that are anchored and not in the log."""

_MISSING = (Tampering.TRUNCATED, Tampering.ARTIFACT_MISSING)
"""What an archive does to a flow, as far as a verification of the log sees it."""

_LEAST_SEQ, _GREATEST_SEQ = -(2**63), 2**63 - 1
_BEFORE_ALL = (-(2**31), _LEAST_SEQ)
"""Below the least version and seq of their columns, which a changed log may hold."""


class Progress(msgspec.Struct):
    """How much was checked so far."""

    flows: int = 0
    events: int = 0
    artifacts: int = 0


class Extent(msgspec.Struct, frozen=True):
    """How much there is to check."""

    events: int
    artifacts: int


class Verification(msgspec.Struct):
    """The result of a verification; the log is sound if `findings` is empty.

    `archived` is how many flows were archived and are not in the log: their bundles have them.
    """

    progress: Progress
    findings: list[Finding]
    archived: int = 0


async def measure_log(
    provider: ConnectionProvider, *, flow_ids: Sequence[UUID] | None = None
) -> Extent:
    """Count what `verify_log` would check now, as the total of its progress.

    Raises:
        StoreUnavailable, StoreError: the log could not be read.
    """
    session = Session(provider)
    (row,) = await session.fetch(COUNT_EVENTS, flow_ids)
    if flow_ids is not None:
        return Extent(row["events"], 0)
    (other,) = await session.fetch(COUNT_ARTIFACTS)
    return Extent(row["events"], other["artifacts"])


async def verify_log(
    provider: ConnectionProvider,
    *,
    flow_ids: Sequence[UUID] | None = None,
    anchors: Iterable[Anchor] = (),
    on_head: Callable[[Anchor], None] | None = None,
    on_progress: Callable[[Progress], None] | None = None,
) -> Verification:
    """Check the chains and snapshots of all flows, or of `flow_ids`, and then every artifact.

    With `flow_ids` artifacts are not checked, and anchors of other flows are ignored. `anchors` are
    ordered by flow id; `on_head` is called with the head of every sound flow, in the same order.
    Memory does not grow with the log: events are read in pages, in the order of the key, and one
    finding is kept per flow. What is missing of a flow that was archived, before or meanwhile, is
    no finding, unless its anchor has more events than the register names.

    Raises:
        StoreUnavailable, StoreError: the log could not be read.
    """
    if flow_ids is not None:
        named = frozenset(flow_ids)
        anchors = (anchor for anchor in anchors if anchor.flow_id in named)
    walk = _Walk(provider, iter(anchors), on_head)
    session = Session(provider)
    pages = _all_pages(session) if flow_ids is None else _pages_of(session, sorted(flow_ids))
    async for page in pages:
        await walk.take(page)
        if on_progress is not None:
            on_progress(walk.progress)
    await walk.end()
    walk.findings += [finding async for finding in false_snapshots(provider, flow_ids)]
    if flow_ids is None:
        await walk.check_artifacts(on_progress)
    findings = await _without_archived(session, walk.findings, walk.anchored)
    (row,) = await session.fetch(COUNT_ARCHIVED)
    return Verification(walk.progress, findings, row["flows"])


async def _without_archived(
    session: Session, findings: Sequence[Finding], anchored: Mapping[UUID, int]
) -> list[Finding]:
    """Return the findings but those that an archive explains, by the register as it is now.

    `anchored` is the number of events that flows had whose end is missing.
    """
    missing = sorted({each.flow_id for each in findings if each.tampering in _MISSING})
    if not missing:
        return list(findings)
    rows = await session.fetch(FIND_ARCHIVED_HEADS, missing)
    archived = {row["flow_id"]: row["version"] for row in rows}
    return [
        each
        for each in findings
        if each.tampering not in _MISSING
        or each.flow_id not in archived
        or anchored.get(each.flow_id, 0) > archived[each.flow_id]
    ]


class _Walk:
    """A walk over events in the order (flow, version), which checks one flow after another."""

    def __init__(
        self,
        provider: ConnectionProvider,
        anchors: Iterator[Anchor],
        on_head: Callable[[Anchor], None] | None,
    ) -> None:
        self.progress = Progress()
        self.findings: list[Finding] = []
        self.anchored: dict[UUID, int] = {}
        self._provider = provider
        self._session = Session(provider)
        self._anchors = anchors
        self._anchor = next(anchors, None)
        self._gone: list[Anchor] = []
        self._on_head = on_head
        self._check: FlowCheck | None = None
        self._broken = False

    async def take(self, page: Sequence[ChainedEvent]) -> None:
        """Check the next page of events, and whether the artifacts that they name exist."""
        named: dict[str, ChainedEvent] = {}
        for event in page:
            check = self._check
            if check is None or event.flow_id != check.flow_id:
                check = await self._begin(event.flow_id)
            self.progress.events += 1
            if not self._broken and await self._follows(check, event):
                for artifact_hash in event.named_artifacts():
                    named.setdefault(artifact_hash, event)
        if named:
            for row in await self._session.fetch(FIND_MISSING_ARTIFACTS, list(named)):
                event = named[row["artifact_hash"]]
                self._find(
                    event.flow_id, event.version, Tampering.ARTIFACT_MISSING, row["artifact_hash"]
                )

    async def end(self) -> None:
        """Finish the last flow; anchors that are left name flows that no longer exist."""
        self._finish()
        while self._anchor is not None:
            await self._next_anchor_is_gone(self._anchor)
        await self._settle_gone()

    async def check_artifacts(self, on_progress: Callable[[Progress], None] | None) -> None:
        """Check every artifact against its hash; one that cannot be read is a finding."""
        after = ("", UUID(int=0))
        while rows := await self._read_artifacts(after):
            for row in rows:
                await self._check_artifact(row)
            self.progress.artifacts += len(rows)
            after = (rows[-1]["artifact_hash"], rows[-1]["flow_id"])
            if on_progress is not None:
                on_progress(self.progress)

    async def _read_artifacts(self, after: tuple[str, UUID]) -> Sequence[Row]:
        """Read one page of artifacts, large ones without their bodies.

        If the server cannot return one of them, none has its body, and each is then read alone.
        """
        try:
            return await self._session.fetch(
                READ_ARTIFACT_PRODUCERS, *after, ARTIFACTS_PER_PAGE, BYTES_PER_ARTIFACT
            )
        except StoreError as error:
            if not is_unreadable_value(error):
                raise
            return await self._session.fetch(
                READ_ARTIFACT_PRODUCERS, *after, ARTIFACTS_PER_PAGE, -1
            )

    async def _check_artifact(self, row: Row) -> None:
        try:
            if row["is_whole"]:
                await check_artifact(self._provider, stored_artifact(row))
            else:
                await check_artifact_of_flow(self._provider, row["artifact_hash"], row["flow_id"])
        except ArtifactCorrupt as error:
            if await self._session.fetch(FIND_MISSING_ARTIFACTS, [row["artifact_hash"]]):
                return  # it was archived since its row was read
            self._find(row["flow_id"], row["version"], Tampering.ARTIFACT_ALTERED, str(error))
        except StoreError as error:
            if not is_unreadable_value(error):
                raise
            self._find(
                row["flow_id"],
                row["version"],
                Tampering.ARTIFACT_UNREADABLE,
                f"artifact {row['artifact_hash']}: {error}",
            )

    async def _begin(self, flow_id: UUID) -> FlowCheck:
        self._finish()
        while self._anchor is not None and self._anchor.flow_id < flow_id:
            await self._next_anchor_is_gone(self._anchor)
        self._check, self._broken = FlowCheck(flow_id), False
        self.progress.flows += 1
        return self._check

    async def _follows(self, check: FlowCheck, event: ChainedEvent) -> bool:
        """Return whether the event continues its flow's chain; record a finding if not."""
        if not check.fits(event):
            rest = await self._rest_of_flow(event)
            self.findings.append(check.diagnose(rest or [event]))
            self._broken = True
        elif self._contradicts_anchor(check):
            self._find(
                check.flow_id, check.version - 1, Tampering.ALTERED, "the chain was computed anew"
            )
            self._broken = True
        return not self._broken

    async def _rest_of_flow(self, event: ChainedEvent) -> list[ChainedEvent]:
        """Read the events from one on, as many as a diagnosis needs and memory allows."""
        rest: list[ChainedEvent] = []
        size, position = 0, _just_before(event)
        pages = _pages_of_flow(self._session, event.flow_id, position)
        async with aclosing(pages) as reading:
            async for page in reading:
                rest += page
                size += sum(len(later.payload) + len(later.metadata) for later in page)
                if len(rest) >= EVENTS_PER_DIAGNOSIS or size >= BYTES_PER_DIAGNOSIS:
                    break
        return rest

    def _contradicts_anchor(self, check: FlowCheck) -> bool:
        anchor = self._anchor
        here = anchor is not None and (anchor.flow_id, anchor.version) == (
            check.flow_id,
            check.version,
        )
        return anchor is not None and here and anchor.link != check.link.hex()

    def _finish(self) -> None:
        check = self._check
        if check is None:
            return
        anchor = self._anchor
        if anchor is not None and anchor.flow_id == check.flow_id:
            self._anchor = next(self._anchors, None)
            if not self._broken and check.version < anchor.version:
                lost = anchor.version - check.version
                self.anchored[check.flow_id] = anchor.version
                self._find(
                    check.flow_id,
                    check.version,
                    Tampering.TRUNCATED,
                    f"{lost} anchored events are gone",
                )
                self._broken = True
        if not self._broken and self._on_head is not None:
            self._on_head(Anchor(check.flow_id, check.version, check.link.hex()))
        self._check = None

    async def _next_anchor_is_gone(self, anchor: Anchor) -> None:
        self._gone.append(anchor)
        if len(self._gone) == ANCHORS_AT_ONCE:
            await self._settle_gone()
        self._anchor = next(self._anchors, None)

    async def _settle_gone(self) -> None:
        """Find the flows whose events are all gone, and that were not archived."""
        gone, self._gone = self._gone, []
        if not gone:
            return
        rows = await self._session.fetch(FIND_ARCHIVED_HEADS, [each.flow_id for each in gone])
        archived = {row["flow_id"]: row["version"] for row in rows}
        for anchor in gone:
            if archived.get(anchor.flow_id, 0) < anchor.version:
                self.anchored[anchor.flow_id] = anchor.version
                detail = f"all {anchor.version} anchored events are gone"
                self._find(anchor.flow_id, 0, Tampering.TRUNCATED, detail)

    def _find(self, flow_id: UUID, version: int, tampering: Tampering, detail: str) -> None:
        self.findings.append(Finding(flow_id, version, tampering, detail))


async def _all_pages(session: Session) -> AsyncGenerator[list[ChainedEvent]]:
    position, pages = (UUID(int=0), *_BEFORE_ALL), SizedPages(EVENTS_PER_PAGE)
    while page := await _read_page(session, pages, READ_CHAINED_EVENTS, position):
        yield page
        position = (page[-1].flow_id, page[-1].version, page[-1].seq)


async def _pages_of(
    session: Session, flow_ids: Iterable[UUID]
) -> AsyncGenerator[list[ChainedEvent]]:
    for flow_id in flow_ids:
        async for page in _pages_of_flow(session, flow_id, _BEFORE_ALL):
            yield page


async def _pages_of_flow(
    session: Session, flow_id: UUID, after: tuple[int, int]
) -> AsyncGenerator[list[ChainedEvent]]:
    position, pages = (flow_id, *after), SizedPages(EVENTS_PER_PAGE)
    while page := await _read_page(session, pages, READ_CHAINED_FLOW, position):
        yield page
        position = (flow_id, page[-1].version, page[-1].seq)


async def _read_page(
    session: Session, pages: SizedPages, statement: str, position: tuple[UUID, int, int]
) -> list[ChainedEvent]:
    """Read the events after a position; one that the server cannot return comes without its JSON.

    It then continues no chain.
    """

    async def fetch(count: int, bytes_each: int) -> list[Row]:
        try:
            return await session.fetch(statement, *position, count, bytes_each)
        except StoreError as error:
            if not is_unreadable_value(error):
                raise
            return await session.fetch(statement, *position, count, -1)

    rows = await pages.read(fetch, ())
    return [chained_event(row) for row in rows]


def _just_before(event: ChainedEvent) -> tuple[int, int]:
    if event.seq == _LEAST_SEQ:
        return (event.version - 1, _GREATEST_SEQ)
    return (event.version, event.seq - 1)
