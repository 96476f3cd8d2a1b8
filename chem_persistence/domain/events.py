"""The thirteen facts of a flow's log, and the event that carries one of them.

As JSON a fact is an object whose key `type` holds the class name in lower case, as the database's
column `event_type` does. Fields are only ever added, never renamed: old rows decode for ever. A
field that was added has the default `msgspec.UNSET`, and an event without it is written without
its key, so that it has the bytes, and the hash in the chain, that it always had.

A time is a datetime with a time zone. It is stored in UTC, as RFC 3339 writes it with `Z` and with
six digits of a second, or none if all are zero: `2026-01-01T12:00:00Z`.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, ClassVar
from uuid import UUID

import msgspec
from msgspec import UNSET, UnsetType

from chem_persistence.domain.canonical_json.careful import MAX_INTEGER

__all__ = [
    "AUDITED",
    "CANCEL",
    "EVENT_KINDS",
    "INVALIDATED",
    "RELEASED",
    "RESERVED_PREFIX",
    "SAVED",
    "SEALED",
    "BranchCreated",
    "FlowCancelled",
    "FlowCompleted",
    "FlowEvent",
    "FlowEventKind",
    "FlowInitialized",
    "FlowParent",
    "LibrarySignal",
    "PropertyPreferenceAssigned",
    "ResultOrigin",
    "RetryScheduled",
    "StepError",
    "StepFailed",
    "StepFinished",
    "StepSignal",
    "StepStarted",
    "StepWaits",
    "UserInteractionProvided",
    "UserInteractionRequested",
    "event_type",
    "is_seal",
]

RESERVED_PREFIX = "chem_persistence."
"""Signals whose names begin with it are the library's: an append of another one is refused."""

CANCEL = "chem_persistence.cancel"
"""Somebody asks that the flow be cancelled."""

AUDITED = "chem_persistence.audited"
"""Somebody has run the flow again, and compared what came out."""

INVALIDATED = "chem_persistence.invalidated"
"""The step's result is not to be used again."""

RELEASED = "chem_persistence.released"
"""The worker stops before the attempt that it started has an outcome."""

SAVED = "chem_persistence.saved"
"""The step saved a value from which a later attempt goes on."""

SEALED = "chem_persistence.sealed"
"""The flow is closed for good: no event follows this one."""

Count = Annotated[int, msgspec.Meta(ge=0, le=MAX_INTEGER)]
Time = Annotated[datetime, msgspec.Meta(tz=True)]


class StepError(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An exception of a step: its class's qualified name, message and formatted traceback."""

    error_class: str
    message: str
    traceback: str = ""


class FlowParent(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """The step that submitted a flow as its child, and which of its children it is, from 0."""

    flow_id: UUID
    step_index: Count
    item: Count


class ResultOrigin(msgspec.Struct, frozen=True, forbid_unknown_fields=True, gc=False):
    """The `StepFinished` whose outputs were taken over: the event `version` of the flow."""

    flow_id: UUID
    version: Count


class _Kind(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag=str.lower
):
    """The base of all facts, with the tag that names them in JSON and the letter of a trace."""

    variant: ClassVar[str]


class FlowInitialized(_Kind, frozen=True, gc=False):
    """I: the flow began, with this definition; `input` is the hash of its artifact, or null.

    `due` is set exactly if the flow is given to workers: the time from which one may run it.
    `parent` is set for the child of another flow's step. `name` is the flow's name in its program,
    `label` what the submitter called this one. None of the four is part of a fingerprint.
    """

    variant: ClassVar[str] = "I"
    definition_hash: str
    step_count: Count
    input: str | None = None
    due: Time | UnsetType = UNSET
    parent: FlowParent | UnsetType = UNSET
    name: str | UnsetType = UNSET
    label: str | UnsetType = UNSET


class StepStarted(_Kind, frozen=True, gc=False):
    """S: an attempt at the step began."""

    variant: ClassVar[str] = "S"
    step_index: Count
    step_id: str


class StepFinished(_Kind, frozen=True, gc=False):
    """F: the step succeeded; `outputs` are its artifacts' hashes, the step's own output first.

    `reused_from` is set if the step did not run, but took over an equal step's result.
    """

    variant: ClassVar[str] = "F"
    step_index: Count
    step_id: str
    outputs: tuple[str, ...]
    fingerprint: str
    reused_from: ResultOrigin | UnsetType = UNSET


class StepFailed(_Kind, frozen=True):
    """X: the step raised."""

    variant: ClassVar[str] = "X"
    step_index: Count
    step_id: str
    error: StepError
    fingerprint: str


class StepWaits(_Kind, frozen=True):
    """W: the step sleeps and holds nothing; `data` is its memory, any JSON.

    It goes on at the time `until`; at None when something happens to the flow, such as a signal. A
    step that waits for other flows goes on when one of them has ended, too. It is never part of a
    fingerprint.
    """

    variant: ClassVar[str] = "W"
    step_index: Count
    step_id: str
    until: Time | None
    data: Any = None


class StepSignal(_Kind, frozen=True):
    """G: the step reported something while it ran; `data` is any JSON.

    Names that begin with `chem_persistence.` are reserved: the library appends them itself.
    """

    variant: ClassVar[str] = "G"
    step_index: Count
    step_id: str
    signal: str
    data: Any = None


class LibrarySignal(StepSignal, frozen=True, tag="stepsignal"):
    """A `StepSignal` of the library's own, which may have a reserved name.

    It is what the library's code appends; it is stored, and read back, as a `StepSignal`.
    """


class PropertyPreferenceAssigned(_Kind, frozen=True):
    """P: a policy chose how a property is computed; `rationale` is any JSON."""

    variant: ClassVar[str] = "P"
    property_key: str
    policy_id: str
    params_hash: str
    rationale: Any = None


class RetryScheduled(_Kind, frozen=True, gc=False):
    """R: a failed step may run again; `retry_index` counts from 1.

    `not_before` is the time before which no worker runs it; unset, it may run now.
    """

    variant: ClassVar[str] = "R"
    step_id: str
    retry_index: Count
    reason: str
    not_before: Time | UnsetType = UNSET


class BranchCreated(_Kind, frozen=True, gc=False):
    """B: the flow `branch_id` branched off `parent_flow_id` after one of its steps."""

    variant: ClassVar[str] = "B"
    branch_id: UUID
    parent_flow_id: UUID
    root_flow_id: UUID
    created_from_step_id: str
    divergence_params_hash: str | None = None


class UserInteractionRequested(_Kind, frozen=True):
    """U: the step waits for a person's answer, which the JSON schema `schema` describes.

    `until` is the time at which the step goes on without an answer; unset, it waits for ever.
    """

    variant: ClassVar[str] = "U"
    step_index: Count
    step_id: str
    schema: Any = None
    hint: str | None = None
    until: Time | UnsetType = UNSET


class UserInteractionProvided(_Kind, frozen=True):
    """V: a person answered; `decision_hash` is the content hash of `provided`.

    It may be left out: the append computes it. One that is given must be right.
    """

    variant: ClassVar[str] = "V"
    step_index: Count
    step_id: str
    provided: Any
    decision_hash: str = ""


class FlowCompleted(_Kind, frozen=True, gc=False):
    """C: every step finished."""

    variant: ClassVar[str] = "C"
    flow_fingerprint: str


class FlowCancelled(_Kind, frozen=True, gc=False):
    """K: the flow was given up before it completed, and never goes on."""

    variant: ClassVar[str] = "K"
    reason: str


FlowEventKind = (
    FlowInitialized
    | StepStarted
    | StepFinished
    | StepFailed
    | StepSignal
    | PropertyPreferenceAssigned
    | RetryScheduled
    | BranchCreated
    | UserInteractionRequested
    | UserInteractionProvided
    | FlowCompleted
    | StepWaits
    | FlowCancelled
)


def event_type(kind: FlowEventKind | type[FlowEventKind]) -> str:
    """Return a fact's name in the database: its class name in lower case."""
    return str(kind.__struct_config__.tag)


def is_seal(kind: FlowEventKind) -> bool:
    """Return whether a fact seals its flow, so that no event may follow it."""
    return isinstance(kind, StepSignal) and kind.signal == SEALED


EVENT_KINDS: Mapping[str, type[FlowEventKind]] = {
    event_type(kind): kind
    for kind in (
        FlowInitialized,
        StepStarted,
        StepFinished,
        StepFailed,
        StepSignal,
        PropertyPreferenceAssigned,
        RetryScheduled,
        BranchCreated,
        UserInteractionRequested,
        UserInteractionProvided,
        FlowCompleted,
        StepWaits,
        FlowCancelled,
    )
}
"""The class of each fact, by its event type."""


class FlowEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One entry of a flow's log.

    `seq` ascends over the whole store, with gaps; `version` is the 0-based position in the flow,
    without gaps; `event_id` is a UUIDv7 (RFC 9562); `ts` is UTC; `metadata` (who, why, trace) is
    never part of a fingerprint.
    """

    seq: int
    flow_id: UUID
    version: int
    event_id: UUID
    ts: datetime
    kind: FlowEventKind
    metadata: Mapping[str, Any] = {}

    @property
    def event_type(self) -> str:
        """The fact's name in the database, such as `stepfinished`."""
        return event_type(self.kind)

    @property
    def variant(self) -> str:
        """The fact's letter, such as `F`."""
        return self.kind.variant
