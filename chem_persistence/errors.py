"""Every error that the library raises, in one tree.

ChemPersistenceError
|-- InvalidArgument                 an argument that no call can accept (also a ValueError)
|   |-- InvalidDatabaseUrl          a database URL that is missing, malformed, or cannot be honoured
|   `-- InvalidDefinition           steps that make no flow: duplicate ids, types that do not fit
|-- InvalidPayload                  a value that is not I-JSON, or larger than a store accepts
|   `-- ArtifactTooLarge            an artifact above the store's size limit
|-- UnreadableEvent                 a stored event that does not decode, or is missing
|-- UnreplayableEvent               an event that decodes but contradicts the events before it
|-- ConcurrencyConflict             the flow is not at the version the caller expected
|-- StaleLease                      the flow is no longer held by the worker that appends to it
|-- HistoryLost                     events that were read or acknowledged are no longer in the log
|-- EventIdReused                   an event id that already names an event with other content
|-- FlowNotFound                    no event has this flow id
|-- ArtifactNotFound                no artifact has this hash
|-- ArtifactCorrupt                 an artifact's content is not what its hash says
|-- DefinitionMismatch              the flow belongs to another definition
|-- FlowAlreadyCompleted            the flow has its last event
|-- FlowWasCancelled                the flow was given up, and never goes on
|-- FlowNotCompleted                the flow has no fingerprint yet
|-- FlowHasFailed                   a step of the flow failed and no retry is scheduled
|-- FlowAwaitsUser                  a step of the flow waits for a person
|-- FlowIsWaiting                   a step of the flow waits for a time or an event
|-- StepRaised                      a step's own code raised; the original is the cause
|-- ProcessDied                     the child process of a ProcessStep died before it returned
|-- MigrationError                  the database's schema is not one this library can use or make
|   `-- UnsupportedServer           the server is older than PostgreSQL 15
`-- StoreError                      the database refused a statement (its SQLSTATE is kept)
    |-- StoreClosed                 the store was closed and accepts no more appends
    `-- StoreUnavailable            the database cannot be reached, and no retry is left
"""

import signal
from datetime import datetime
from uuid import UUID

__all__ = [
    "ArtifactCorrupt",
    "ArtifactNotFound",
    "ArtifactTooLarge",
    "ChemPersistenceError",
    "ConcurrencyConflict",
    "DefinitionMismatch",
    "EventIdReused",
    "FlowAlreadyCompleted",
    "FlowAwaitsUser",
    "FlowHasFailed",
    "FlowIsWaiting",
    "FlowNotCompleted",
    "FlowNotFound",
    "FlowWasCancelled",
    "HistoryLost",
    "InvalidArgument",
    "InvalidDatabaseUrl",
    "InvalidDefinition",
    "InvalidPayload",
    "MigrationError",
    "ProcessDied",
    "StaleLease",
    "StepRaised",
    "StoreClosed",
    "StoreError",
    "StoreUnavailable",
    "UnreadableEvent",
    "UnreplayableEvent",
    "UnsupportedServer",
]


class ChemPersistenceError(Exception):
    """The root of the tree: every error that the library raises on purpose."""


class InvalidArgument(ChemPersistenceError, ValueError):
    """An argument can never be accepted by this call."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason


class InvalidDatabaseUrl(InvalidArgument):
    """The database URL is missing, malformed, or asks for what the driver does not support.

    The message never repeats the URL, which may hold a password.
    """

    def __init__(self, reason: str) -> None:
        super().__init__("database URL", reason)


class InvalidDefinition(InvalidArgument):
    """The steps do not make a flow: there are none, two have the same id, or types do not fit."""

    def __init__(self, reason: str) -> None:
        super().__init__("definition", reason)


class InvalidPayload(ChemPersistenceError, ValueError):
    """A value is not I-JSON (RFC 7493), or is larger than the store accepts; nothing was stored.

    `path` is the position of the value, in the notation of RFC 9535 (`$.outputs[0]`).
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"{path}: {reason}")
        self.path = path
        self.reason = reason


class ArtifactTooLarge(InvalidPayload):
    """An artifact is above the store's limit: not stored, or to be read by `read_artifact`."""

    def __init__(self, artifact_hash: str, size: int, limit: int, advice: str = "") -> None:
        super().__init__(
            "$", f"artifact {artifact_hash} has {size} bytes, the limit is {limit}{advice}"
        )
        self.artifact_hash = artifact_hash
        self.size = size
        self.limit = limit


class UnreadableEvent(ChemPersistenceError):
    """A stored event is of an unknown kind, has a bad field, or is missing."""

    def __init__(self, flow_id: UUID, version: int, reason: str) -> None:
        super().__init__(f"flow {flow_id}, version {version}: {reason}")
        self.flow_id = flow_id
        self.version = version
        self.reason = reason


class UnreplayableEvent(ChemPersistenceError):
    """An event decodes, but contradicts the events before it or the definition."""

    def __init__(self, flow_id: UUID, version: int, reason: str) -> None:
        super().__init__(f"flow {flow_id}, version {version}: {reason}")
        self.flow_id = flow_id
        self.version = version
        self.reason = reason


class ConcurrencyConflict(ChemPersistenceError):
    """The flow has `actual` events where the caller expected `expected`; nothing was stored.

    If `actual` is the smaller number, the caller was mistaken, or the log went back to an earlier
    state.
    """

    def __init__(self, flow_id: UUID, expected: int, actual: int) -> None:
        cause = (
            "another writer appended to it"
            if actual > expected
            else "it is shorter than the caller expects; if it had that many events, the log went "
            "back to an earlier state, after a failover or a restore"
        )
        super().__init__(
            f"flow {flow_id}: expected version {expected}, actual version {actual}: {cause}; load "
            "the flow again"
        )
        self.flow_id = flow_id
        self.expected = expected
        self.actual = actual


class StaleLease(ChemPersistenceError):
    """The flow is not held by the lease with which the append was made; it was not stored.

    The lease ended and another worker claimed the flow, or the flow was released, completed or
    cancelled meanwhile. Whoever holds it goes on from what the log has: drop the flow, and append
    nothing more with this lease. If the reply of an earlier attempt at the append was lost, that
    attempt may still be stored; whoever holds the flow then finds its events in the log.
    """

    def __init__(self, flow_id: UUID) -> None:
        super().__init__(
            f"flow {flow_id} is not held by this lease any more: another worker claimed it, or it "
            "was released, completed or cancelled; drop it, and go on with another flow"
        )
        self.flow_id = flow_id


class HistoryLost(ChemPersistenceError):
    """Events that this program had read, or that were acknowledged to it, are not in the log.

    The log went back to an earlier state: a standby was promoted that had not received all of it,
    a backup was restored, or the server crashed with `synchronous_commit = off`. Nothing was
    stored. Of an append, `known` is the number of events that the flow had, and `found` the number
    that it has; of the feed, `known` is the `seq` that was seen, and `found` the last one that the
    feed has. `flow_id` is None if only a `seq` was known. Later events get the numbers of lost
    ones, so `found` may be the larger number.
    """

    def __init__(self, reason: str, *, flow_id: UUID | None, known: int, found: int) -> None:
        super().__init__(reason)
        self.reason = reason
        self.flow_id = flow_id
        self.known = known
        self.found = found


class EventIdReused(ChemPersistenceError):
    """The event id names an event of this flow with other content; nothing was stored."""

    def __init__(self, flow_id: UUID, event_id: UUID) -> None:
        super().__init__(
            f"flow {flow_id}: event id {event_id} names an event with other content: use a new id "
            "for every new event"
        )
        self.flow_id = flow_id
        self.event_id = event_id


class FlowNotFound(ChemPersistenceError, LookupError):
    """The store has no event of this flow."""

    def __init__(self, flow_id: UUID) -> None:
        super().__init__(f"flow {flow_id} has no events: it was never started under this id")
        self.flow_id = flow_id


class ArtifactNotFound(ChemPersistenceError, LookupError):
    """The store has no artifact with this hash."""

    def __init__(self, artifact_hash: str) -> None:
        super().__init__(f"no artifact has the hash {artifact_hash}")
        self.artifact_hash = artifact_hash


class ArtifactCorrupt(ChemPersistenceError):
    """The artifact's content does not have the hash that names it."""

    def __init__(self, artifact_hash: str, reason: str) -> None:
        super().__init__(f"artifact {artifact_hash}: {reason}")
        self.artifact_hash = artifact_hash
        self.reason = reason


class DefinitionMismatch(ChemPersistenceError):
    """The flow was started with the definition `actual`, not with `expected`.

    `differences` says how the expected one differs from it, each in words; it is empty if the store
    does not have the definition of the flow.
    """

    def __init__(
        self, flow_id: UUID, expected: str, actual: str, differences: tuple[str, ...] = ()
    ) -> None:
        super().__init__(
            f"flow {flow_id} belongs to definition {actual}, not to {expected}: open it with the "
            f"steps with which it was started{'; since then ' if differences else ''}"
            + ", ".join(differences)
        )
        self.flow_id = flow_id
        self.expected = expected
        self.actual = actual
        self.differences = differences


class FlowAlreadyCompleted(ChemPersistenceError):
    """The flow has its `FlowCompleted` event: there is nothing left to run."""

    def __init__(self, flow_id: UUID) -> None:
        super().__init__(f"flow {flow_id} is completed: there is nothing left to run")
        self.flow_id = flow_id


class FlowNotCompleted(ChemPersistenceError):
    """The flow has steps left to finish, so it has no fingerprint yet."""

    def __init__(self, flow_id: UUID) -> None:
        super().__init__(f"flow {flow_id} is not completed: run it to its end first")
        self.flow_id = flow_id


class FlowHasFailed(ChemPersistenceError):
    """A step of the flow failed; the flow goes on after a retry is scheduled.

    `error_class` and `reason` are the class and the message of the step's error.
    """

    def __init__(
        self, flow_id: UUID, step_id: str, error_class: str = "", reason: str = ""
    ) -> None:
        error = f" ({error_class}: {reason})" if error_class else ""
        super().__init__(
            f"flow {flow_id}: step {step_id!r} has failed{error} and no retry is scheduled: call "
            "`schedule_retry` first"
        )
        self.flow_id = flow_id
        self.step_id = step_id
        self.error_class = error_class
        self.reason = reason


class FlowAwaitsUser(ChemPersistenceError):
    """A step of the flow waits for a `UserInteractionProvided` event."""

    def __init__(self, flow_id: UUID, step_id: str) -> None:
        super().__init__(
            f"flow {flow_id}: step {step_id!r} waits for a person's answer: append a "
            "`UserInteractionProvided` first"
        )
        self.flow_id = flow_id
        self.step_id = step_id


class FlowIsWaiting(ChemPersistenceError):
    """A step of the flow waits until a time, or (`until` is None) until something happens to it."""

    def __init__(self, flow_id: UUID, step_id: str, until: datetime | None) -> None:
        when = "something happens to the flow" if until is None else until.isoformat()
        super().__init__(f"flow {flow_id}: step {step_id!r} waits until {when}")
        self.flow_id = flow_id
        self.step_id = step_id
        self.until = until


class FlowWasCancelled(ChemPersistenceError):
    """The flow was cancelled, for this reason: it never goes on."""

    def __init__(self, flow_id: UUID, reason: str) -> None:
        super().__init__(f"flow {flow_id} was cancelled: {reason}")
        self.flow_id = flow_id
        self.reason = reason


class StepRaised(ChemPersistenceError):
    """A step's own code raised; its `StepFailed` is in the log, the original is `__cause__`."""

    def __init__(self, flow_id: UUID, step_id: str) -> None:
        super().__init__(f"flow {flow_id}: step {step_id!r} raised")
        self.flow_id = flow_id
        self.step_id = step_id


class ProcessDied(ChemPersistenceError):
    """The child process of a `ProcessStep` ended before it returned a result.

    `exit_code` is its exit code, or minus the number of the signal that killed it.
    """

    __module__ = "chem_persistence"  # the log names it `chem_persistence.ProcessDied`

    def __init__(self, step_id: str, exit_code: int) -> None:
        super().__init__(f"the process of step {step_id!r} {_ending(exit_code)}")
        self.step_id = step_id
        self.exit_code = exit_code


def _ending(exit_code: int) -> str:
    if exit_code >= 0:
        return f"ended with exit code {exit_code} before it returned"
    try:
        name = signal.Signals(-exit_code).name
    except ValueError:
        name = f"signal {-exit_code}"
    hint = ", perhaps because memory ran out" if name == "SIGKILL" else ""
    return f"was killed by {name}{hint}"


class MigrationError(ChemPersistenceError):
    """The schema is not in a state that this library knows, nor can it be migrated to one."""


class UnsupportedServer(MigrationError):
    """The server is older than the oldest version on which the schema is valid."""

    def __init__(self, version: str, oldest: int) -> None:
        super().__init__(f"the server is PostgreSQL {version}; {oldest} or newer is needed")
        self.version = version
        self.oldest = oldest


class StoreError(ChemPersistenceError):
    """The database refused a statement.

    The driver's error is `__cause__`; `sqlstate` is its SQLSTATE, if it has one.
    """

    def __init__(self, reason: str, sqlstate: str | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.sqlstate = sqlstate


class StoreClosed(StoreError):
    """The store was closed by `aclose` and accepts no more appends; nothing was stored."""


class StoreUnavailable(StoreError):
    """The database cannot be reached, or only transient errors came, and no retry is left.

    It is not known whether the last attempt was stored: repeat the append with the same event ids.
    """
