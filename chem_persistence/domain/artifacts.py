"""Artifacts: what steps produce, named by the hash of their content."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Self, TypeVar

import msgspec

from chem_persistence.domain.canonical_json.encode import canonical_json, outweighs, read_json
from chem_persistence.domain.npy import NPY_MEDIA_TYPE, read_npy, write_npy
from chem_persistence.errors import ArtifactCorrupt, InvalidArgument, InvalidPayload

__all__ = [
    "FRESH",
    "JSON_MEDIA_TYPE",
    "KEPT",
    "SMALL",
    "Artifact",
    "check_text",
    "description_as_read_back",
    "is_content_hash",
    "read_payload",
]

JSON_MEDIA_TYPE = "application/json"

Decoded = TypeVar("Decoded")

_HASH = re.compile("[0-9a-f]{64}")
KEPT = "kept"  # in the artifact's __dict__, which neither copies nor comparisons look at
FRESH = "fresh"  # there, too, of a payload that nobody else has seen: it is as it was hashed
SMALL = "small"  # there, too, of a payload that a store has read
_MOST_KEPT = 2**18
_MANY = 2**20


def is_content_hash(text: Any) -> bool:
    """Return whether a value has the form of a hash: 64 lower-case hexadecimal characters."""
    return isinstance(text, str) and _HASH.fullmatch(text) is not None


class Artifact(msgspec.Struct, frozen=True, kw_only=True, dict=True):
    """A JSON `payload`, or binary `content` with its media type, under the SHA-256 of its bytes.

    `content` is None exactly for a JSON artifact. `kind` and `metadata` describe it and are not
    hashed: a store keeps the description that it was given first.

    The bytes that were hashed are kept, unless they are many, so that a store need not encode the
    payload again.
    """

    hash: str
    kind: str
    payload: Any = None
    content: bytes | None = None
    media_type: str = JSON_MEDIA_TYPE
    metadata: Mapping[str, Any] = {}

    @classmethod
    def from_payload(
        cls, *, kind: str, payload: Any, metadata: Mapping[str, Any] | None = None
    ) -> Self:
        """Make a JSON artifact; `payload` is what a store will return (structs become objects).

        Raises:
            InvalidPayload: the payload or the metadata is not I-JSON.
        """
        is_large = outweighs(payload, _MANY)
        encoded = _in_pieces(payload) if is_large else canonical_json(payload)
        artifact = cls(
            hash=hashlib.sha256(encoded).hexdigest(),
            kind=kind,
            payload=read_payload(encoded),
            metadata=description_as_read_back(metadata),
        )
        if len(encoded) <= _MOST_KEPT:
            artifact.__dict__[KEPT] = encoded
        return artifact

    @classmethod
    def from_content(
        cls,
        *,
        kind: str,
        content: bytes,
        media_type: str,
        metadata: Mapping[str, Any] | None = None,
    ) -> Self:
        """Make a binary artifact of these bytes.

        Raises:
            InvalidPayload: the metadata is not I-JSON.
        """
        artifact = cls(
            hash=hashlib.sha256(content).hexdigest(),
            kind=kind,
            content=bytes(content),
            media_type=media_type,
            metadata=description_as_read_back(metadata),
        )
        artifact.__dict__[KEPT] = artifact.content
        return artifact

    @classmethod
    def from_array(
        cls, *, kind: str, array: Any, metadata: Mapping[str, Any] | None = None
    ) -> Self:
        """Make a binary artifact of a numpy array, in numpy's own format (`.npy`).

        Equal arrays of one dtype have one hash, whatever their order in memory. The metadata gets
        `dtype` and `shape`. NaN and infinities are kept, and nothing is pickled.

        Raises:
            InvalidArgument: it is not a numpy array, holds Python objects, or has masked values.
            InvalidPayload: the metadata is not I-JSON.
        """
        content, described = write_npy(array)
        return cls.from_content(
            kind=kind,
            content=content,
            media_type=NPY_MEDIA_TYPE,
            metadata={**(metadata or {}), **described},
        )

    def to_array(self) -> Any:
        """Return the numpy array of an artifact that `from_array` made: a copy, in C order.

        Raises:
            InvalidArgument: the artifact holds no such array, or numpy is not installed.
        """
        if self.content is None or self.media_type != NPY_MEDIA_TYPE:
            raise InvalidArgument(
                "artifact",
                f"{self.hash} is {self.media_type!r}, not an array ({NPY_MEDIA_TYPE!r})",
            )
        return read_npy(self.content)

    def decode(self, as_type: type[Decoded]) -> Decoded:
        """Return the payload as a value of a type: a struct, a dataclass, `dict[str, float]`, ...

        What JSON does not tell apart gets its type back: a float that is written as `1` becomes
        1.0 in a field of floats, a list a tuple, a string a datetime. `content` that is JSON is
        decoded, too.

        Raises:
            InvalidPayload: the payload is not such a value; the message names the path.
            InvalidArgument: the artifact's content is not JSON, or msgspec cannot decode the type.
        """
        if self.content is not None and self.media_type != JSON_MEDIA_TYPE:
            raise InvalidArgument("artifact", f"{self.hash} is {self.media_type!r}, not JSON")
        try:
            payload = self.payload if self.content is None else read_json(self.content)
            return msgspec.convert(payload, as_type, str_keys=True)
        except (TypeError, NameError) as error:
            raise InvalidArgument("as_type", f"cannot be decoded: {error}") from error
        except (ValueError, OverflowError, RecursionError) as error:
            reason, _, path = str(error).partition(" - at `")
            raise InvalidPayload(
                path.removesuffix("`") or "$", f"artifact {self.hash} {reason}"
            ) from error

    def is_large(self) -> bool:
        """Return whether it takes long to encode and to hash: more than 1 MiB, roughly."""
        kept: bytes | None = self.__dict__.get(KEPT)
        if kept is not None or self.content is not None:
            return len(kept or self.content or b"") > _MANY
        return outweighs(self.payload, _MANY)

    def encoded(self) -> bytes:
        """Return the bytes that are hashed: the content, or the payload's canonical JSON.

        Raises:
            InvalidPayload: the payload is not I-JSON.
        """
        if self.content is not None:
            return self.content
        if SMALL not in self.__dict__ and outweighs(self.payload, _MANY):
            return _in_pieces(self.payload)
        return canonical_json(self.payload)

    def verified(self) -> bytes:
        """Return the bytes that are hashed, after comparing them with the hash.

        Raises:
            ArtifactCorrupt: they do not have the hash, or there is a payload beside the content.
            InvalidPayload: the payload is not I-JSON, or the kind or the media type is not a
                string that JSON can hold.
        """
        check_text("kind", self.kind)
        if self.media_type is not JSON_MEDIA_TYPE:
            check_text("media_type", self.media_type)
        if self.content is not None and self.payload is not None:
            raise ArtifactCorrupt(self.hash, "has both a payload and content")
        kept: bytes | None = self.__dict__.get(KEPT)
        is_fresh = self.__dict__.pop(FRESH, False)
        if kept is not None and (
            is_fresh or self.content is not None or canonical_json(self.payload) == kept
        ):
            return kept
        encoded = self.encoded()  # made by hand, read, large, or its payload was changed since
        actual = hashlib.sha256(encoded).hexdigest()
        if actual != self.hash:
            raise ArtifactCorrupt(self.hash, f"its content has the hash {actual}")
        return encoded


def _in_pieces(payload: Any) -> bytes:
    from chem_persistence.domain.canonical_json import pieces  # noqa: PLC0415  # for few programs

    return pieces.encode_in_pieces(payload)


def read_payload(encoded: bytes) -> Any:
    """Return the payload whose canonical JSON this is; large JSON is decoded in pieces."""
    if len(encoded) <= _MANY:
        return read_json(encoded)
    from chem_persistence.domain.canonical_json import pieces  # noqa: PLC0415  # for few programs

    return pieces.read_in_pieces(encoded)


def check_text(field: str, value: Any) -> None:
    """Check that a value is a string that JSON can hold.

    Raises:
        InvalidPayload: it is not a string, or it has a lone surrogate or U+0000.
    """
    if type(value) is str and value.isascii() and "\0" not in value:
        return
    if not isinstance(value, str):
        raise InvalidPayload(f"$.{field}", f"must be a string, not {type(value).__qualname__}")
    canonical_json({field: value})


def description_as_read_back(metadata: Mapping[str, Any] | None) -> Mapping[str, Any]:
    """Return an artifact's metadata as a store will return it.

    Raises:
        InvalidPayload: it is not an object of I-JSON values.
    """
    if metadata is None:
        return {}
    value = read_json(canonical_json(metadata))
    if not isinstance(value, dict):
        raise InvalidPayload("$", "metadata must be an object")
    return value
