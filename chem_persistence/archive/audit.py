"""What an auditor checks of archived flows: the register of archives, and the bundles it names."""

import re
from asyncio import to_thread
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from hashlib import file_digest
from itertools import groupby
from pathlib import Path
from uuid import UUID

import msgspec

from chem_persistence.bundles.reader import BundleReader
from chem_persistence.bundles.verify import BundleFinding, BundleReport, verify_bundle
from chem_persistence.errors import InvalidBundle
from chem_persistence.store.transfer.anchors import Anchor
from chem_persistence.store.transfer.ports import FlowEnd, RegisterReader
from chem_persistence.store.transfer.register import ArchivedFlow, RegisterDigest, RegisterHead

__all__ = ["ArchiveAudit", "audit_archive"]

REGISTER = "archived_flows"
ROWS_A_READ = 1_000
ROWS_AT_ONCE = 10_000
"""So many rows of the register are compared with the anchors at a time."""

FLOWS_NAMED = 3
"""A finding lists so many of the flows that a missing bundle has."""

_BEFORE_ALL = -(2**63)
"""Below the least number that a changed register may hold."""

_NAME = re.compile(r"[0-9a-f]{64}\.zip")


class ArchiveAudit(msgspec.Struct, kw_only=True):
    """The result of an audit; the register, and the bundles if they were looked at, are sound.

    They are if `findings` is empty; `file` is "archived_flows", the register, or that of a bundle.
    `flows` is the number of rows of the register, `bundles` that of verified bundles, and `head`
    what anchors keep of the register. `spare` are files of bundles that the register does not name,
    and whose flows are all in the log, or in other bundles.
    """

    flows: int = 0
    bundles: int = 0
    spare: list[str] = []
    findings: list[BundleFinding] = []
    head: RegisterHead = RegisterHead(0, 0, "")


async def audit_archive(
    store: RegisterReader,
    bundles: Path | str | None = None,
    *,
    anchors: Iterable[Anchor] = (),
    register: RegisterHead | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> ArchiveAudit:
    """Check the register of archives, and every bundle that it names, in the folder `bundles`.

    Each flow that the register names must be in a file whose SHA-256 the register has, whose hash
    chains verify, and in which the flow ends with the head of the register; and if the flow is in
    the log again, it must end so there. A file of the folder that the register does not name is a
    finding, unless the log or another bundle has the same flows. `anchors` are compared with the
    flows in the bundles: it is iterated over once for every 10,000 rows of the register.
    `register` is a head that was kept elsewhere: the register must begin with those rows.
    `on_progress` is called with the number of rows that were checked.

    Raises:
        StoreUnavailable, StoreError: the register cannot be read.
        OSError: a file cannot be read.
    """
    folder = None if bundles is None else await to_thread(_Folder, Path(bundles))
    audit = _Audit(store, anchors, register, folder)
    async for rows in _parts(store, ROWS_A_READ if folder is None else ROWS_AT_ONCE):
        await audit.take(rows)
        if on_progress is not None:
            on_progress(audit.digest.rows)
    return await audit.end()


async def _parts(store: RegisterReader, least: int) -> AsyncIterator[list[ArchivedFlow]]:
    """Yield the rows of the register, at least so many at a time, and those of a bundle together.

    They are beside one another: an archive gives out the numbers of its flows one after another.
    """
    after, rows = _BEFORE_ALL, list[ArchivedFlow]()
    while page := await store.read_register(after, ROWS_A_READ):
        after = page[-1].archive_no
        rows += page
        complete = len(rows)
        while complete and rows[complete - 1].bundle_sha256 == rows[-1].bundle_sha256:
            complete -= 1
        if complete >= least:
            yield rows[:complete]
            rows = rows[complete:]
    if rows:
        yield rows


class _Folder:
    """The bundles in a folder: the names of most are their SHA-256, those of others are read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files: dict[str, Path] = {}
        others: list[Path] = []
        for file in sorted(path.glob("*.zip")):
            if _NAME.fullmatch(file.name):
                self.files[file.stem] = file
            elif not file.name.startswith("."):  # a draft
                others.append(file)
        for file in others:
            with file.open("rb") as content:
                self.files.setdefault(file_digest(content, "sha256").hexdigest(), file)

    def find(self, sha256: str) -> Path | None:
        """Return the file of a bundle; it may have come since the folder was listed."""
        file = self.files.get(sha256, self.path / f"{sha256}.zip")
        return file if file.exists() else None


class _Audit:
    """An audit that is given the rows of the register, in order."""

    def __init__(
        self,
        store: RegisterReader,
        anchors: Iterable[Anchor],
        register: RegisterHead | None,
        folder: _Folder | None,
    ) -> None:
        self.result = ArchiveAudit()
        self.digest = RegisterDigest()
        self._store, self._anchors, self._folder = store, anchors, folder
        self._kept = register
        self._kept_rows = 0
        self._begins: RegisterHead | None = None
        self._seen: set[str] = set()

    async def take(self, rows: Sequence[ArchivedFlow]) -> None:
        """Check the next rows, and their bundles."""
        for row in rows:
            self.digest.add(row)
            if self._kept is not None and row.archive_no <= self._kept.last_no:
                self._kept_rows += 1
            if self._kept is not None and self.digest.rows == self._kept.rows:
                self._begins = self.digest.head()
        for start in range(0, len(rows), ROWS_A_READ):
            await self._compare_with_log(rows[start : start + ROWS_A_READ])
        if self._folder is not None:
            named = {row.flow_id for row in rows}
            heads = {
                str(anchor.flow_id): (anchor.version, anchor.link)
                for anchor in self._anchors
                if anchor.flow_id in named
            }
            for sha256, of_bundle in groupby(rows, key=lambda row: row.bundle_sha256):
                await self._check_bundle(self._folder, sha256, list(of_bundle), heads)

    async def end(self) -> ArchiveAudit:
        """Check what is left when there are no more rows."""
        if self._kept is not None and self._kept.rows and self._begins != self._kept:
            self._find(REGISTER, f"rows up to {self._kept.last_no}", self._how_it_was_changed())
        if self._folder is not None:
            for sha256, file in sorted(self._folder.files.items()):
                if sha256 not in self._seen:
                    await self._check_unknown(file, sha256)
        self.result.flows, self.result.head = self.digest.rows, self.digest.head()
        return self.result

    def _find(self, file: str, place: str, reason: str) -> None:
        self.result.findings.append(BundleFinding(file, place, reason))

    def _how_it_was_changed(self) -> str:
        assert self._kept is not None  # noqa: S101  # who calls has looked
        missing = self._kept.rows - self._kept_rows
        if missing > 0:
            return f"{missing} of the {self._kept.rows} anchored rows are gone"
        if missing < 0:
            return f"{-missing} rows were added to the {self._kept.rows} anchored ones"
        return f"the {self._kept.rows} anchored rows are there, and not as they were"

    async def _compare_with_log(self, rows: Sequence[ArchivedFlow]) -> None:
        """Find flows that were archived, are in the log again, and do not end as they did."""
        heads = await self._store.heads_at([(row.flow_id, row.events) for row in rows])
        for row, head in zip(rows, heads, strict=True):
            if head.events and (head.events, head.link) != (row.events, row.link):
                self._find(
                    REGISTER,
                    _place(row),
                    f"{head.events} events of it are in the log, which do not end as its "
                    f"{row.events} archived ones",
                )

    async def _check_bundle(
        self,
        folder: _Folder,
        sha256: str,
        rows: Sequence[ArchivedFlow],
        heads: dict[str, tuple[int, str]],
    ) -> None:
        """Check that a bundle is there, is the one that the register names, and has the flows."""
        file = folder.find(sha256)
        if file is None:
            named = ", ".join(str(row.flow_id) for row in rows[:FLOWS_NAMED])
            more = f" and {len(rows) - FLOWS_NAMED} more" if len(rows) > FLOWS_NAMED else ""
            self._find(f"{sha256}.zip", "", f"is missing: it has flow {named}{more}")
            return
        self._seen.add(sha256)
        self.result.bundles += 1
        own = {str(row.flow_id) for row in rows}
        report = await to_thread(
            verify_bundle, file, {name: head for name, head in heads.items() if name in own}
        )
        if report.sha256 != sha256:
            reason = f"was altered: its SHA-256 is {report.sha256}, the register has {sha256}"
            self._find(file.name, "", reason)
        ends = self._read(file, report)
        for row in rows if ends is not None else ():
            end = (ends or {}).get(row.flow_id)
            if end is None:
                self._find(file.name, _place(row), "is not in the bundle")
            elif (end.events, end.link) != (row.events, row.link):
                self._find(
                    file.name,
                    _place(row),
                    f"ends after {end.events} events at {end.link.hex()}, in the register after "
                    f"{row.events} at {row.link.hex()}",
                )

    async def _check_unknown(self, file: Path, sha256: str) -> None:
        """Check a bundle that the register does not name: is something only there?"""
        report = await to_thread(verify_bundle, file)
        if report.sha256 != sha256:
            reason = f"is not in the register, and its SHA-256 is {report.sha256}, not its name's"
            self._find(file.name, "", reason)
            return
        ends = self._read(file, report) or {}
        missing = await self._not_elsewhere(list(ends.values()))
        for end in missing:
            self._find(
                file.name,
                f"flow {end.flow_id}",
                f"is not in the register, and the log does not have its {end.events} events",
            )
        if ends and not missing:
            self.result.spare.append(file.name)

    def _read(self, file: Path, report: BundleReport) -> dict[UUID, FlowEnd] | None:
        """Return the ends of the flows in a bundle, after its findings; None if it is no bundle."""
        for inner in report.findings:
            self._find(f"{file.name}/{inner.file}".rstrip("/"), inner.place, inner.reason)
        try:
            with BundleReader(file) as reader:
                return reader.ends()
        except InvalidBundle:
            return None

    async def _not_elsewhere(self, ends: Sequence[FlowEnd]) -> list[FlowEnd]:
        """Return the ends that neither the log nor the register has."""
        heads = await self._store.heads_at([(end.flow_id, end.events) for end in ends])
        gone = [end for end, head in zip(ends, heads, strict=True) if head.link != end.link]
        rows = await self._store.find_archived([end.flow_id for end in gone]) if gone else ()
        archived = {(row.flow_id, row.link) for row in rows}
        return [end for end in gone if (end.flow_id, end.link) not in archived]


def _place(row: ArchivedFlow) -> str:
    return f"row {row.archive_no}, flow {row.flow_id}"
