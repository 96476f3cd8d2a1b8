"""Anchors: the heads of all flows, written to a file that is kept away from the database.

A chain proves that no event within it was changed. It does not prove that its last events still
exist, or that it was not computed anew from changed events. A head that was recorded elsewhere
proves both for the events before it. In the same way the head of the register of archives proves
that no flow was taken out of it, and that none of its rows was changed.

Format: UTF-8 JSON lines. The first is {format, created}; then one line per flow, by flow id:
{flow_id, version, link}; then the head of the register: {rows, last_no, sha256}. The last is
{flows, sha256}, over all lines before it, and with a key also {signature}: Ed25519 (RFC 8032) of
that SHA-256. Format 1 has no head of the register, and is read, too.
"""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

import msgspec

from chem_persistence.errors import InvalidArgument
from chem_persistence.store.transfer.register import RegisterHead

__all__ = ["Anchor", "AnchorFile", "AnchorWriter", "read_anchors", "writing_anchors"]

FORMAT = "chem_persistence anchors 2"
WITHOUT_REGISTER = "chem_persistence anchors 1"


class Anchor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A flow's head: `link` is the chain hash after `version` events, in hexadecimal."""

    flow_id: UUID
    version: int
    link: str


class _Heading(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: str
    created: datetime


class _Ending(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    flows: int
    sha256: str
    signature: bytes | None = None


Line = TypeVar("Line", Anchor, RegisterHead)


class AnchorWriter:
    """Writes an anchor file line by line, with a digest of the lines."""

    def __init__(self, output: Any) -> None:
        self.flows = 0
        self.is_given_up = False
        self._output = output
        self._digest = hashlib.sha256()

    def write(self, anchor: Anchor) -> None:
        """Write a flow's head; the flows must be ordered by id."""
        self._line(anchor)
        self.flows += 1

    def write_register(self, head: RegisterHead) -> None:
        """Write the head of the register, after all flows and read later than they were."""
        self._line(head)

    def _line(self, value: msgspec.Struct) -> None:
        line = msgspec.json.encode(value) + b"\n"
        self._output.write(line)
        self._digest.update(line)

    def give_up(self) -> None:
        """Discard the draft at the end of the block; an existing file is left as it was."""
        self.is_given_up = True

    def begin(self, created: datetime) -> None:
        """Write the first line."""
        self._line(_Heading(FORMAT, created))

    def end(self, key: Any) -> None:
        """Write the last line, signed if a key is given."""
        digest = self._digest.digest()
        signature = None if key is None else key.sign(digest)
        self._line(_Ending(self.flows, digest.hex(), signature))


@contextmanager
def writing_anchors(
    file: Path, created: datetime, private_key: Path | None = None
) -> Iterator[AnchorWriter]:
    """Write an anchor file, which appears at the end of the block, complete.

    If the block raises, or the writer gave up, no file appears. `private_key` is a PEM file with an
    Ed25519 key (`openssl genpkey -algorithm ed25519`).

    Raises:
        InvalidArgument: the file holds no Ed25519 key, or the extra `sign` is not installed.
        OSError: a file cannot be read or written.
    """
    key = None if private_key is None else _private_key(private_key)
    draft = file.with_name(file.name + ".part")
    try:
        with draft.open("wb") as output:
            writer = AnchorWriter(output)
            writer.begin(created)
            yield writer
            writer.end(key)
        if not writer.is_given_up:
            draft.replace(file)
    finally:
        draft.unlink(missing_ok=True)


class AnchorFile:
    """A file of anchors, which was checked as a whole; iterate over it for the anchors.

    It is read in constant memory, and can be iterated over any number of times. `register` is the
    head of the register of archives, None if the file has none.
    """

    def __init__(self, file: Path, public_key: Path | None = None) -> None:
        """Check the file; with `public_key`, a PEM file (`openssl pkey -pubout`), its signature.

        Raises:
            InvalidArgument: the file is incomplete, was changed, or is not signed with this key.
            OSError: a file cannot be read.
        """
        self._file = file
        self._flows, last = _checked(file, public_key)
        self.register = None if last is None else self._decoded(last, self._flows + 2, RegisterHead)

    def __iter__(self) -> Iterator[Anchor]:
        """Yield the anchors.

        Raises:
            InvalidArgument: a line is not an anchor.
            OSError: the file cannot be read.
        """
        with self._file.open("rb") as lines:
            next(lines)
            for number in range(2, self._flows + 2):
                yield self._decoded(next(lines, b""), number, Anchor)

    def _decoded(self, line: bytes, number: int, expected: type[Line]) -> Line:
        try:
            return msgspec.json.decode(line, type=expected)
        except (ValueError, RecursionError) as error:
            reason = f"line {number} of {self._file} is not an anchor"
            raise InvalidArgument("anchors", reason) from error


def read_anchors(file: Path, public_key: Path | None = None) -> Iterator[Anchor]:
    """Yield the anchors of a file, after checking it as a whole; see `AnchorFile`.

    Raises:
        InvalidArgument: the file is incomplete, was changed, or is not signed with this key.
        OSError: a file cannot be read.
    """
    yield from AnchorFile(file, public_key)


def _checked(file: Path, public_key: Path | None) -> tuple[int, bytes | None]:
    """Return the number of flows, and the line with the head of the register."""
    digest, before, last, count = hashlib.sha256(), b"", b"", 0
    with file.open("rb") as lines:
        for line in lines:
            digest.update(last)
            before, last, count = last, line, count + 1
    try:
        ending = msgspec.json.decode(last, type=_Ending)
        with file.open("rb") as lines:
            heading = msgspec.json.decode(next(lines), type=_Heading)
    except (ValueError, RecursionError, StopIteration) as error:
        raise InvalidArgument("anchors", f"{file} is not a complete anchor file") from error
    if heading.format not in {FORMAT, WITHOUT_REGISTER}:
        raise InvalidArgument(
            "anchors", f"{file} has the format {heading.format!r}, not {FORMAT!r}"
        )
    has_register = heading.format == FORMAT and ending.flows == count - 3
    if ending.sha256 != digest.hexdigest() or ending.flows != count - 2 - has_register:
        raise InvalidArgument("anchors", f"{file} was changed after it was written")
    if public_key is not None:
        _check_signature(file, _public_key(public_key), ending.signature, digest.digest())
    return ending.flows, before if has_register else None


def _check_signature(file: Path, key: Any, signature: bytes | None, digest: bytes) -> None:
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415  # the extra `sign`

    if signature is None:
        raise InvalidArgument("anchors", f"{file} is not signed")
    try:
        key.verify(signature, digest)
    except InvalidSignature:
        raise InvalidArgument("anchors", f"{file} is not signed with this key") from None


def _private_key(file: Path) -> Any:
    serialization, ed25519 = _cryptography()
    return _ed25519_key(
        file, lambda pem: serialization.load_pem_private_key(pem, None), ed25519.Ed25519PrivateKey
    )


def _public_key(file: Path) -> Any:
    serialization, ed25519 = _cryptography()
    return _ed25519_key(file, serialization.load_pem_public_key, ed25519.Ed25519PublicKey)


def _ed25519_key(file: Path, load: Any, expected: type) -> Any:
    try:
        key = load(file.read_bytes())
    except (ValueError, TypeError):
        raise InvalidArgument("key", f"{file} does not hold a readable PEM key") from None
    if not isinstance(key, expected):
        raise InvalidArgument("key", f"{file} does not hold an {expected.__name__}")
    return key


def _cryptography() -> tuple[Any, Any]:
    try:
        # The extra `sign`.
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415
    except ImportError:
        raise InvalidArgument(
            "key", "signing needs: pip install 'chem-persistence[sign]'"
        ) from None
    return serialization, ed25519
