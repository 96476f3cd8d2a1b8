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
|-- FlowSealed                      the flow has its last event, a seal
|   `-- FlowArchived                the flow's events are in a bundle, and no longer in the log
|-- EventsArchived                  flows left the log before a follower had read them
|-- ArchiveHeld                     flows that a consumer needs, so that they stay
|-- EventIdReused                   an event id that already names an event with other content
|-- FlowNotFound                    no event has this flow id
|-- ArtifactNotFound                no artifact has this hash
|-- ArtifactCorrupt                 an artifact's content is not what its hash says
|-- InvalidBundle                   a file that is not a bundle, or was changed
|-- FlowDiffers                     a bundle has another event of a flow than the store
|-- DefinitionMismatch              the flow belongs to another definition
|-- FlowAlreadyCompleted            the flow has its last event
|-- FlowWasCancelled                the flow was given up, and never goes on
|-- FlowNotCompleted                the flow has no fingerprint yet
|-- FlowHasFailed                   a step of the flow failed and no retry is scheduled
|-- FlowAwaitsUser                  a step of the flow waits for a person
|-- NotWaiting                      a step waits for no answer, which was to be given
|-- FlowIsWaiting                   a step of the flow waits for a time or an event
|-- FlowIsRunning                   another worker or program runs the flow
|-- StepRaised                      a step's own code raised; the original is the cause
|-- JobFailed                       the job of a BatchJob step has failed
|-- JobNotSubmitted                 the submission of a job failed, and the queue does not have it
|-- ChildrenFailed                  more of the flows that a step runs failed than it tolerates
|-- NotConverged                    a step repeated its flow as often as it may
|-- ProcessDied                     the child process of a ProcessStep died before it returned
|-- WorkerLost                      the workers that ran a step died, one after the other
|-- MigrationError                  the database's schema is not one this library can use or make
|   `-- UnsupportedServer           the server is older than PostgreSQL 15
`-- StoreError                      the database refused a statement (its SQLSTATE is kept)
    |-- StoreClosed                 the store was closed and accepts no more appends
    `-- StoreUnavailable            the database cannot be reached, and no retry is left
"""

from chem_persistence.errors.bundles import FlowDiffers, InvalidBundle
from chem_persistence.errors.database import (
    MigrationError,
    StoreClosed,
    StoreError,
    StoreUnavailable,
    UnsupportedServer,
)
from chem_persistence.errors.flows import (
    ChildrenFailed,
    DefinitionMismatch,
    FlowAlreadyCompleted,
    FlowAwaitsUser,
    FlowHasFailed,
    FlowIsRunning,
    FlowIsWaiting,
    FlowNotCompleted,
    FlowWasCancelled,
    JobFailed,
    JobNotSubmitted,
    NotConverged,
    NotWaiting,
    ProcessDied,
    StepRaised,
    WorkerLost,
)
from chem_persistence.errors.log import (
    ArchiveHeld,
    ArtifactCorrupt,
    ArtifactNotFound,
    ConcurrencyConflict,
    EventIdReused,
    EventsArchived,
    FlowArchived,
    FlowNotFound,
    FlowSealed,
    HistoryLost,
    StaleLease,
    UnreadableEvent,
    UnreplayableEvent,
)
from chem_persistence.errors.values import (
    ArtifactTooLarge,
    ChemPersistenceError,
    InvalidArgument,
    InvalidDatabaseUrl,
    InvalidDefinition,
    InvalidPayload,
)

__all__ = [
    "ArchiveHeld",
    "ArtifactCorrupt",
    "ArtifactNotFound",
    "ArtifactTooLarge",
    "ChemPersistenceError",
    "ChildrenFailed",
    "ConcurrencyConflict",
    "DefinitionMismatch",
    "EventIdReused",
    "EventsArchived",
    "FlowAlreadyCompleted",
    "FlowArchived",
    "FlowAwaitsUser",
    "FlowDiffers",
    "FlowHasFailed",
    "FlowIsRunning",
    "FlowIsWaiting",
    "FlowNotCompleted",
    "FlowNotFound",
    "FlowSealed",
    "FlowWasCancelled",
    "HistoryLost",
    "InvalidArgument",
    "InvalidBundle",
    "InvalidDatabaseUrl",
    "InvalidDefinition",
    "InvalidPayload",
    "JobFailed",
    "JobNotSubmitted",
    "MigrationError",
    "NotConverged",
    "NotWaiting",
    "ProcessDied",
    "StaleLease",
    "StepRaised",
    "StoreClosed",
    "StoreError",
    "StoreUnavailable",
    "UnreadableEvent",
    "UnreplayableEvent",
    "UnsupportedServer",
    "WorkerLost",
]


def _name_by_the_package() -> None:
    """Set the module by which events, logs and traces name an error, wherever it is defined."""
    for name in __all__:
        error = globals()[name]
        if error.__module__.startswith(f"{__name__}."):  # `ProcessDied` has another name
            error.__module__ = __name__


_name_by_the_package()
