"""The register of archives: which flows left the log, with their heads and their bundles.

The register is append-only, so what it has at one time is the beginning of what it has later. Its
head proves that: the number of its rows, and the SHA-256 (FIPS 180-4) over them as lines, each the
canonical JSON (RFC 8785) of a row with a line feed, in the order of `archive_no`.
"""

import hashlib
from datetime import datetime
from uuid import UUID

import msgspec

from chem_persistence.domain.canonical_json.encode import canonical_json
from chem_persistence.errors import InvalidPayload

__all__ = ["ArchivedFlow", "RegisterDigest", "RegisterHead"]


class ArchivedFlow(msgspec.Struct, frozen=True, kw_only=True):
    """A flow that left the log: its events, the link of the last, and the bundle that has them.

    `first_seq` and `last_seq` are those of its events, `consumers` the durable consumers that had
    consumed it, `by_role` the role that archived it for `actor`. `archived_at` is None if the
    register has a time that no datetime can hold.
    """

    archive_no: int
    flow_id: UUID
    events: int
    link: bytes
    bundle_sha256: str
    first_seq: int
    last_seq: int
    consumers: tuple[str, ...]
    archived_at: datetime | None
    actor: str
    by_role: str

    def line(self) -> bytes:
        """Return the row as a line."""
        row = msgspec.structs.asdict(self) | {"link": self.link.hex()}
        try:
            return canonical_json(row) + b"\n"
        except InvalidPayload:  # a number that no store gives: the row was changed
            return repr(row).encode() + b"\n"


class RegisterHead(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The register as far as it was written at a time: its rows up to the number `last_no`."""

    rows: int
    last_no: int
    sha256: str


class RegisterDigest:
    """Computes the head of a register, row by row."""

    def __init__(self) -> None:
        self.rows = 0
        self.last_no = 0
        self._digest = hashlib.sha256()

    def add(self, row: ArchivedFlow) -> None:
        """Add the next row."""
        self.rows += 1
        self.last_no = row.archive_no
        self._digest.update(row.line())

    def head(self) -> RegisterHead:
        """Return the head after the rows that were added."""
        return RegisterHead(self.rows, self.last_no, self._digest.hexdigest())
