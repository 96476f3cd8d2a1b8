"""The archive of a bundle, written so that the same contents make the same bytes."""

import os
import tempfile
import zlib
from collections.abc import AsyncIterable, Iterable
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from chem_persistence.bundles.verify import (
    CHUNK,
    BundleReport,
    Entry,
    central_header,
    end_record,
    local_header,
    verify_bundle,
)

__all__ = ["ArchiveWriter", "Written"]


class Written(msgspec.Struct, frozen=True):
    """The SHA-256 and the size of a file in the archive."""

    sha256: str
    size: int


class ArchiveWriter:
    """Writes files into an archive, in the order of their names.

    It is written beside `path`, and takes its name by `publish`. A block that does not get there
    leaves `path` as it was.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._entries: list[Entry] = []
        self.written: dict[str, Written] = {}

    def __enter__(self) -> Self:
        try:
            handle, name = tempfile.mkstemp(prefix=f".{self._path.name}.", dir=self._path.parent)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(self._path)) from error
        self._draft, self._file = Path(name), os.fdopen(handle, "w+b")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._file.close()
        self._draft.unlink(missing_ok=True)

    def add(self, name: str, content: bytes | Iterable[bytes]) -> Written:
        """Add a file.

        Raises:
            OSError: it cannot be written.
        """
        begun = _Begun(self, name)
        for chunk in (content,) if isinstance(content, bytes) else content:
            begun.write(chunk)
        return begun.end()

    async def stream(self, name: str, content: AsyncIterable[bytes]) -> Written:
        """Add a file whose content comes in pieces; raises what `add` raises, and its reader."""
        begun = _Begun(self, name)
        async for chunk in content:
            begun.write(chunk)
        return begun.end()

    def publish(self) -> BundleReport:
        """End the archive, verify it, and move it to its path, which is on the disk then.

        Raises:
            OSError: it cannot be written, or what was written cannot be read back.
        """
        start = self._file.tell()
        directory = b"".join(map(central_header, self._entries))
        self._file.write(directory + end_record(len(self._entries), len(directory), start))
        self._file.flush()
        os.fsync(self._file.fileno())
        report = verify_bundle(self._draft)
        if report.findings:
            raise OSError(f"{self._path} was written, but reads back otherwise: {report.findings}")
        umask = os.umask(0)
        os.umask(umask)
        self._draft.chmod(0o666 & ~umask)
        self._draft.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
        return report

    def begin(self, name: str) -> int:
        """Write an empty header for the next file, and return where it is."""
        at = self._file.tell()
        self._file.write(local_header(name, 0, 0))
        return at

    def write(self, chunk: bytes) -> None:
        """Write a piece of a file's content."""
        self._file.write(chunk)

    def end(self, name: str, at: int, crc: int, written: Written) -> None:
        """Write the header of a file whose content is complete."""
        header = local_header(name, crc, written.size)
        begin = self._file.tell() - written.size
        end = self._move(begin, written.size, at + len(header) - begin)
        self._file.seek(at)
        self._file.write(header)
        self._file.seek(end)
        self._entries.append(Entry(name, crc, written.size, end - written.size))
        self.written[name] = written

    def _move(self, begin: int, size: int, by: int) -> int:
        """Move a content back, piece by piece from its end; return where it ends then.

        Only a content of 4 GiB is moved: that its header is longer is known when it is written.
        """
        left = size if by else 0
        while left:
            piece = min(left, CHUNK)
            left -= piece
            self._file.seek(begin + left)
            content = self._file.read(piece)
            self._file.seek(begin + left + by)
            self._file.write(content)
        return begin + size + by


class _Begun:
    """A file whose content is being written."""

    def __init__(self, archive: ArchiveWriter, name: str) -> None:
        self._archive, self._name, self._at = archive, name, archive.begin(name)
        self._digest, self._crc, self._size = sha256(), 0, 0

    def write(self, chunk: bytes) -> None:
        self._archive.write(chunk)
        self._digest.update(chunk)
        self._crc = zlib.crc32(chunk, self._crc)
        self._size += len(chunk)

    def end(self) -> Written:
        written = Written(self._digest.hexdigest(), self._size)
        self._archive.end(self._name, self._at, self._crc, written)
        return written
