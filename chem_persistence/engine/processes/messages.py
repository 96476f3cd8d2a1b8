"""The messages between a process and its parent: MessagePack, each behind its length.

The parent sends a job. The process answers `Began`, then one call of its context after the other,
each of which the parent answers, and at last `Returned` or an error. A heartbeat, which needs no
answer, may come at any time.
"""

import struct
from typing import Any, TypeAlias
from uuid import UUID

import msgspec

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.canonical_json.encode import canonical_json, read_json
from chem_persistence.engine.processes.address import Address, MainProgram
from chem_persistence.engine.processes.errors import SentError

__all__ = [
    "LENGTH",
    "AddArtifact",
    "Answer",
    "Beat",
    "Began",
    "Call",
    "FromChild",
    "GetArtifact",
    "GetReceived",
    "GetSaved",
    "Job",
    "Prefer",
    "Returned",
    "Save",
    "SentArtifact",
    "SentStep",
    "Signal",
    "ToChild",
    "decode_from_child",
    "decode_to_child",
    "encode",
]

LENGTH = struct.Struct("!Q")


class SentStep(msgspec.Struct, frozen=True):
    """A step: its class, what its instance overrides, and its params as canonical JSON."""

    cls: Address
    main: MainProgram | None
    overrides: dict[str, str]
    params_cls: Address | None
    params: bytes
    definition_hash: str


class Job(msgspec.Struct, frozen=True, tag=True):
    """One attempt: the step, its input as canonical JSON (None: none), and what it knows."""

    step: SentStep
    input: bytes | None
    flow_id: UUID
    step_index: int
    attempt: int
    fingerprint: str
    beat_interval: float | None = None
    """The seconds from one heartbeat that is sent to the next; None: none is sent."""


class SentArtifact(msgspec.Struct, frozen=True):
    """An artifact; its payload and its metadata are canonical JSON."""

    hash: str
    kind: str
    media_type: str
    payload: bytes | None
    content: bytes | None
    metadata: bytes

    @classmethod
    def of(cls, artifact: Artifact) -> "SentArtifact":
        """Return what is sent of an artifact.

        Raises:
            ArtifactCorrupt, InvalidPayload: as `Artifact.verified`.
        """
        body, is_json = artifact.verified(), artifact.content is None
        return cls(
            hash=artifact.hash,
            kind=artifact.kind,
            media_type=artifact.media_type,
            payload=body if is_json else None,
            content=None if is_json else body,
            metadata=canonical_json(artifact.metadata),
        )

    def artifact(self) -> Artifact:
        """Return the artifact."""
        return Artifact(
            hash=self.hash,
            kind=self.kind,
            media_type=self.media_type,
            payload=None if self.payload is None else read_json(self.payload),
            content=self.content,
            metadata=read_json(self.metadata),
        )


class Answer(msgspec.Struct, frozen=True, tag=True):
    """The answer to a call: an artifact, or canonical JSON."""

    artifact: SentArtifact | None = None
    data: bytes = b"null"


class Began(msgspec.Struct, frozen=True, tag=True):
    """The process has read its job."""


class Beat(msgspec.Struct, frozen=True, tag=True):
    """The call `context.heartbeat`, or the beginning of `compute`; it is not answered."""


class Signal(msgspec.Struct, frozen=True, tag=True):
    """The call `context.signal`; the data are canonical JSON."""

    name: str
    data: bytes


class Prefer(msgspec.Struct, frozen=True, tag=True):
    """What the call `context.prefer` has chosen: the event, as canonical JSON."""

    fact: bytes


class AddArtifact(msgspec.Struct, frozen=True, tag=True):
    """The call `context.add_artifact`."""

    artifact: SentArtifact


class GetArtifact(msgspec.Struct, frozen=True, tag=True):
    """The call `context.get_artifact`."""

    hash: str


class Save(msgspec.Struct, frozen=True, tag=True):
    """The call `context.save`."""

    artifact: SentArtifact


class GetSaved(msgspec.Struct, frozen=True, tag=True):
    """The call `context.saved`."""


class GetReceived(msgspec.Struct, frozen=True, tag=True):
    """The call `context.received`."""

    name: str


class Returned(msgspec.Struct, frozen=True, tag=True):
    """The step's output: its class, and its canonical JSON."""

    cls: Address
    output: bytes


Call: TypeAlias = Signal | Prefer | AddArtifact | GetArtifact | Save | GetSaved | GetReceived
ToChild: TypeAlias = Job | Answer | SentError
FromChild: TypeAlias = Began | Beat | Call | Returned | SentError

_encoder = msgspec.msgpack.Encoder()
_to_child: "msgspec.msgpack.Decoder[ToChild]" = msgspec.msgpack.Decoder(ToChild)
_from_child: "msgspec.msgpack.Decoder[FromChild]" = msgspec.msgpack.Decoder(FromChild)


def encode(message: Any) -> bytes:
    """Return a message with its length before it."""
    body = _encoder.encode(message)
    return LENGTH.pack(len(body)) + body


def decode_to_child(body: bytes | bytearray) -> ToChild:
    """Read a message of the parent.

    Raises:
        msgspec.DecodeError: it is none.
    """
    return _to_child.decode(body)


def decode_from_child(body: bytes | bytearray) -> FromChild:
    """Read a message of the process; its fields are checked by their types.

    Raises:
        msgspec.DecodeError: it is none.
    """
    return _from_child.decode(body)
