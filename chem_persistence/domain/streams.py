"""Content too large to hold: cut into chunks of one size, and hashed on the way in and on the way out."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from chem_persistence.domain.artifacts import check_text, description_as_read_back
from chem_persistence.errors import ArtifactCorrupt, InvalidPayload

__all__ = ["CHUNK_BYTES", "Chunking", "ContentCheck", "StreamedArtifact", "cut", "described_stream"]

CHUNK_BYTES = 2**20
"""Every chunk but the last of a content has so many bytes (1 MiB)."""


class StreamedArtifact(msgspec.Struct, frozen=True, kw_only=True):
    """A binary artifact whose `size` bytes are in the store alone; `hash` is what `Artifact.from_content` would give."""

    hash: str
    kind: str
    size: int
    media_type: str
    metadata: Mapping[str, Any] = {}


def described_stream(
    kind: str, media_type: str, metadata: Mapping[str, Any] | None
) -> StreamedArtifact:
    """Give what is known of a streamed artifact before its first byte.

    Raises:
        InvalidPayload: the metadata is not an object of I-JSON, or the kind or the media type no text that JSON has.
    """
    check_text("kind", kind)
    check_text("media_type", media_type)
    described = description_as_read_back(metadata)
    return StreamedArtifact(
        hash=hashlib.sha256().hexdigest(),
        kind=kind,
        size=0,
        media_type=media_type,
        metadata=described,
    )


def cut(content: bytes) -> Iterator[bytes]:
    """Cut a content into chunks."""
    for first in range(0, len(content), CHUNK_BYTES):
        yield content[first : first + CHUNK_BYTES]


class Chunking:
    """Cuts the bytes it is fed, in pieces of any size, into chunks; `limit` bounds their sum."""

    def __init__(self, limit: int | None) -> None:
        self.size = 0
        self._limit = limit
        self._digest = hashlib.sha256()
        self._begun = bytearray()

    def feed(self, data: Any) -> Iterator[bytes]:
        """Give the chunks that are complete with these bytes.

        Raises:
            InvalidPayload: it is not bytes, or the sum is above the limit.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise InvalidPayload("$.chunks", f"must be bytes, not {type(data).__qualname__}")
        view = memoryview(data).cast("B")
        self.size += len(view)
        if self._limit is not None and self.size > self._limit:
            raise InvalidPayload("$.chunks", f"the stream has more than {self._limit} bytes")
        self._digest.update(view)
        while len(view) > 0:
            missing = CHUNK_BYTES - len(self._begun)
            self._begun += view[:missing]
            view = view[missing:]
            if len(self._begun) == CHUNK_BYTES:
                yield self.rest()

    def rest(self) -> bytes:
        """Give the chunk that is begun, and begin the next."""
        chunk = bytes(self._begun)
        self._begun.clear()
        return chunk

    def described(self, artifact: StreamedArtifact) -> StreamedArtifact:
        """Give the artifact with the hash and the size of what was fed."""
        return msgspec.structs.replace(artifact, hash=self._digest.hexdigest(), size=self.size)


class ContentCheck:
    """Compares chunks that are read with the hash and the size that the content had."""

    def __init__(self, artifact_hash: str, size: int) -> None:
        self._hash = artifact_hash
        self._missing = size
        self._digest = hashlib.sha256()

    def take(self, chunk: bytes) -> bytes:
        """Give the chunk back.

        Raises:
            ArtifactCorrupt: there are more bytes than the content had.
        """
        self._missing -= len(chunk)
        if self._missing < 0:
            raise ArtifactCorrupt(self._hash, f"has at least {-self._missing} bytes too many")
        self._digest.update(chunk)
        return chunk

    def end(self) -> None:
        """Say that this was all.

        Raises:
            ArtifactCorrupt: bytes are missing, or are others than those that were hashed.
        """
        if self._missing > 0:
            raise ArtifactCorrupt(self._hash, f"lacks {self._missing} of its bytes")
        actual = self._digest.hexdigest()
        if actual != self._hash:
            raise ArtifactCorrupt(self._hash, f"its content has the hash {actual}")
