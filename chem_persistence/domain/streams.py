"""Content too large for the memory: chunks of one size, hashed when written and when read."""

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec

from chem_persistence.domain.artifacts import check_text, description_as_read_back
from chem_persistence.errors import ArtifactCorrupt, InvalidPayload

__all__ = ["CHUNK_BYTES", "Chunking", "ContentCheck", "StreamedArtifact", "cut", "described_stream"]

CHUNK_BYTES = 2**20
"""The bytes of every chunk of a content but the last (1 MiB)."""


class StreamedArtifact(msgspec.Struct, frozen=True, kw_only=True):
    """A binary artifact whose content, of `size` bytes, is in the store only.

    `hash` is the one that `Artifact.from_content` computes.
    """

    hash: str
    kind: str
    size: int
    media_type: str
    metadata: Mapping[str, Any] = {}


def described_stream(
    kind: str, media_type: str, metadata: Mapping[str, Any] | None
) -> StreamedArtifact:
    """Return the description of a streamed artifact without content.

    Raises:
        InvalidPayload: the metadata is not an object of I-JSON values, or the kind or the media
            type is not a string that JSON can hold.
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
    """Yield the chunks of a content."""
    for first in range(0, len(content), CHUNK_BYTES):
        yield content[first : first + CHUNK_BYTES]


class Chunking:
    """Makes chunks of bytes that come in pieces of any size; `limit` bounds their sum."""

    def __init__(self, limit: int | None) -> None:
        self.size = 0
        self._limit = limit
        self._digest = hashlib.sha256()
        self._begun = bytearray()

    def feed(self, data: Any) -> Iterator[bytes]:
        """Yield the chunks that are complete with these bytes.

        Raises:
            InvalidPayload: `data` is not bytes, or the sum is above the limit.
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
        """Return the bytes of the unfinished chunk, and begin the next one."""
        chunk = bytes(self._begun)
        self._begun.clear()
        return chunk

    def described(self, artifact: StreamedArtifact) -> StreamedArtifact:
        """Return the artifact with the hash and the size of all bytes so far."""
        return msgspec.structs.replace(artifact, hash=self._digest.hexdigest(), size=self.size)


class ContentCheck:
    """Compares the chunks that are read with the hash and the size of the content."""

    def __init__(self, artifact_hash: str, size: int) -> None:
        self._hash = artifact_hash
        self._missing = size
        self._digest = hashlib.sha256()

    def take(self, chunk: bytes) -> bytes:
        """Return the chunk itself, after counting and hashing it.

        Raises:
            ArtifactCorrupt: there are more bytes than the content has.
        """
        self._missing -= len(chunk)
        if self._missing < 0:
            raise ArtifactCorrupt(self._hash, f"has at least {-self._missing} bytes too many")
        self._digest.update(chunk)
        return chunk

    def end(self) -> None:
        """Check size and hash after the last chunk.

        Raises:
            ArtifactCorrupt: bytes are missing, or they do not have the hash.
        """
        if self._missing > 0:
            raise ArtifactCorrupt(self._hash, f"lacks {self._missing} of its bytes")
        actual = self._digest.hexdigest()
        if actual != self._hash:
            raise ArtifactCorrupt(self._hash, f"its content has the hash {actual}")
