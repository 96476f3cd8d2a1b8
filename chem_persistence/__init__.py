"""The durable, replayable, auditable memory of asynchronous scientific workflows, on PostgreSQL.

Every public name is imported from here. By topic:

- flows: `flow` and `Flow`; `Step`, `BlockingStep`, `ProcessStep`, `StepContext`, the decorator
  `step`; `Wait`, `Ask`, `BatchJob`; `Many`, `Gathered2` to `Gathered4` of steps that run other
  flows
- running them: `FlowEngine`, also built by `FlowBuilder`, `FlowChain`; `FlowClient` for workers
- stores: `InMemoryEventStore`, `PgEventStore`, their transactions and repositories; the ports
  `EventStore`, `StreamingEventStore`, `BatchEventStore` with `FlowAppend` and `FlowAnswer`,
  `EventTransaction`, `EventReader`, `EventFeed`, `FlowRepository`, `ConnectionProvider`, `Clock`
- workers: `Worker`, which runs the flows that are given to workers; `RetryPolicy`
- leases of flows: `Leases`, `InMemoryLeases`, `PgLeases`, `Claim`, `Renewal`, `LeasingEventStore`;
  `Slots`, `Taken`, `ResourceLimit` and `SlotUser` of limits over all workers
- connection: `build_pool`, `build_dev_pool_from_env`, `PoolProvider`, `embedded_postgres`
- events: `FlowEvent`, the thirteen facts of `FlowEventKind`, `StepError`, `event_metadata`
- the feed: `FeedPosition`, `FeedPage`; `Consumer`, durable, its `ConsumerStatus` and parts
- values: `Artifact`, `StreamedArtifact`, `FlowDefinition`, `FlowInstance`, `StepSlot` and their
  parts, `canonical_json`, `content_hash`
- reading: `PgReadModels` and what it returns, `Results` and `ResultRow` of `FlowClient.results`,
  `flow_page`, `PageLimits`
- bundles: `export_flows`, `import_bundle`, `verify_bundle`, and what they return; `TransferStore`
- the end of flows: `seal_flow`, `archive_flows`, `archive_ended`, `ArchivedBundle`,
  `NotArchived`
- audit: `verify_log`, `Verification`, `Finding`, `Tampering`; `audit_archive`, `ArchiveAudit`;
  `Anchor`, `AnchorFile`, `RegisterHead`; `audit_flow`, `Audit`
- errors: the tree under `ChemPersistenceError`; see `chem_persistence.errors`
"""

import importlib
import typing

__version__ = "0.1.0"

if typing.TYPE_CHECKING:
    from chem_persistence.archive.audit import ArchiveAudit, audit_archive
    from chem_persistence.archive.flows import (
        ArchivedBundle,
        NotArchived,
        archive_ended,
        archive_flows,
    )
    from chem_persistence.archive.seal import seal_flow
    from chem_persistence.bundles.export import export_flows
    from chem_persistence.bundles.import_ import ImportedBundle, import_bundle
    from chem_persistence.bundles.verify import BundleFinding, BundleReport, verify_bundle
    from chem_persistence.domain.answers import (
        ArtifactConsumer,
        ArtifactProducer,
        ArtifactStatistics,
        FailureStatistics,
        FlowSummary,
        HourlyThroughput,
        KeptArtifact,
        Lineage,
        OpenQuestion,
        RelatedArtifact,
        ReuseStatistics,
        Statistics,
        StepStatistics,
        WaitingFlow,
        WorkerSummary,
    )
    from chem_persistence.domain.artifacts import Artifact
    from chem_persistence.domain.canonical_json.encode import canonical_json, content_hash
    from chem_persistence.domain.definition import FlowDefinition, StepDefinition, StepKind
    from chem_persistence.domain.events import (
        BranchCreated,
        FlowCancelled,
        FlowCompleted,
        FlowEvent,
        FlowEventKind,
        FlowInitialized,
        FlowParent,
        PropertyPreferenceAssigned,
        ResultOrigin,
        RetryScheduled,
        StepError,
        StepFailed,
        StepFinished,
        StepSignal,
        StepStarted,
        StepWaits,
        UserInteractionProvided,
        UserInteractionRequested,
    )
    from chem_persistence.domain.flow_state import FlowState
    from chem_persistence.domain.instance import FlowInstance, StepAnswer, StepSlot, StepStatus
    from chem_persistence.domain.selection.policies import (
        MaxScore,
        PropertySelectionPolicy,
        Weighted,
    )
    from chem_persistence.domain.selection.preference import CandidateScore, PreferenceRationale
    from chem_persistence.domain.step_rows import StepExecution, StepExecutionError
    from chem_persistence.domain.streams import StreamedArtifact
    from chem_persistence.domain.tampering import Finding, Tampering
    from chem_persistence.engine.children.values import Gathered2, Gathered3, Gathered4, Many
    from chem_persistence.engine.engine import FlowBuilder, FlowChain, FlowEngine
    from chem_persistence.engine.flow import Flow, flow
    from chem_persistence.engine.jobs.step import BatchJob, JobState
    from chem_persistence.engine.steps.ask import Ask
    from chem_persistence.engine.steps.context import StepContext
    from chem_persistence.engine.steps.function_step import step
    from chem_persistence.engine.steps.process_step import ProcessStep
    from chem_persistence.engine.steps.retry_policy import RetryPolicy
    from chem_persistence.engine.steps.step import BlockingStep, Step, Wait
    from chem_persistence.errors import (
        ArchiveHeld,
        ArtifactCorrupt,
        ArtifactNotFound,
        ArtifactTooLarge,
        ChemPersistenceError,
        ChildrenFailed,
        ConcurrencyConflict,
        DefinitionMismatch,
        EventIdReused,
        EventsArchived,
        FlowAlreadyCompleted,
        FlowArchived,
        FlowAwaitsUser,
        FlowDiffers,
        FlowHasFailed,
        FlowIsRunning,
        FlowIsWaiting,
        FlowNotCompleted,
        FlowNotFound,
        FlowSealed,
        FlowWasCancelled,
        HistoryLost,
        InvalidArgument,
        InvalidBundle,
        InvalidDatabaseUrl,
        InvalidDefinition,
        InvalidPayload,
        JobFailed,
        JobNotSubmitted,
        MigrationError,
        NotConverged,
        NotWaiting,
        ProcessDied,
        StaleLease,
        StepRaised,
        StoreClosed,
        StoreError,
        StoreUnavailable,
        UnreadableEvent,
        UnreplayableEvent,
        UnsupportedServer,
        WorkerLost,
    )
    from chem_persistence.feed.consumer import Consumer
    from chem_persistence.feed.parts import ConsumerPart, ConsumerStatus, ParkedFlow
    from chem_persistence.memory.event_store import InMemoryEventStore
    from chem_persistence.memory.flow_repository import InMemoryFlowRepository
    from chem_persistence.memory.leases import InMemoryLeases
    from chem_persistence.memory.transaction import InMemoryTransaction
    from chem_persistence.pages.flow_page import flow_page
    from chem_persistence.postgres.append.transaction import PgTransaction
    from chem_persistence.postgres.audit.verification import Verification, verify_log
    from chem_persistence.postgres.connection.pool import (
        PoolProvider,
        build_dev_pool_from_env,
        build_pool,
    )
    from chem_persistence.postgres.connection.ports import ConnectionProvider
    from chem_persistence.postgres.embedded.server import embedded_postgres
    from chem_persistence.postgres.event_store import PgEventStore
    from chem_persistence.postgres.flow_repository import PgFlowRepository
    from chem_persistence.postgres.read.rebuild import Projection, Rebuild
    from chem_persistence.postgres.read_models import PgReadModels
    from chem_persistence.postgres.work import PgLeases
    from chem_persistence.results.results import Results
    from chem_persistence.results.rows import ResultRow
    from chem_persistence.store.attribution import event_metadata
    from chem_persistence.store.batches.flow_append import (
        BatchEventStore,
        FlowAnswer,
        FlowAppend,
    )
    from chem_persistence.store.clock import SystemClock
    from chem_persistence.store.feed_position import FeedPage, FeedPosition
    from chem_persistence.store.leasing.leases import Claim, Leases, LeasingEventStore, Renewal
    from chem_persistence.store.leasing.slots import ResourceLimit, Slots, SlotUser, Taken
    from chem_persistence.store.ports import (
        Clock,
        EventFeed,
        EventReader,
        EventStore,
        EventTransaction,
        FlowRepository,
        StreamingEventStore,
    )
    from chem_persistence.store.transfer.anchors import Anchor, AnchorFile
    from chem_persistence.store.transfer.ports import TransferStore
    from chem_persistence.store.transfer.register import RegisterHead
    from chem_persistence.views.agreement import Agreement, Tolerance, ValueDifference
    from chem_persistence.views.flow_view import PageLimits
    from chem_persistence.worker.audit import Audit, StepAudit, audit_flow, record_audit
    from chem_persistence.worker.client import FlowClient
    from chem_persistence.worker.worker import Worker

__all__ = [
    "Agreement",
    "Anchor",
    "AnchorFile",
    "ArchiveAudit",
    "ArchiveHeld",
    "ArchivedBundle",
    "Artifact",
    "ArtifactConsumer",
    "ArtifactCorrupt",
    "ArtifactNotFound",
    "ArtifactProducer",
    "ArtifactStatistics",
    "ArtifactTooLarge",
    "Ask",
    "Audit",
    "BatchEventStore",
    "BatchJob",
    "BlockingStep",
    "BranchCreated",
    "BundleFinding",
    "BundleReport",
    "CandidateScore",
    "ChemPersistenceError",
    "ChildrenFailed",
    "Claim",
    "Clock",
    "ConcurrencyConflict",
    "ConnectionProvider",
    "Consumer",
    "ConsumerPart",
    "ConsumerStatus",
    "DefinitionMismatch",
    "EventFeed",
    "EventIdReused",
    "EventReader",
    "EventStore",
    "EventTransaction",
    "EventsArchived",
    "FailureStatistics",
    "FeedPage",
    "FeedPosition",
    "Finding",
    "Flow",
    "FlowAlreadyCompleted",
    "FlowAnswer",
    "FlowAppend",
    "FlowArchived",
    "FlowAwaitsUser",
    "FlowBuilder",
    "FlowCancelled",
    "FlowChain",
    "FlowClient",
    "FlowCompleted",
    "FlowDefinition",
    "FlowDiffers",
    "FlowEngine",
    "FlowEvent",
    "FlowEventKind",
    "FlowHasFailed",
    "FlowInitialized",
    "FlowInstance",
    "FlowIsRunning",
    "FlowIsWaiting",
    "FlowNotCompleted",
    "FlowNotFound",
    "FlowParent",
    "FlowRepository",
    "FlowSealed",
    "FlowState",
    "FlowSummary",
    "FlowWasCancelled",
    "Gathered2",
    "Gathered3",
    "Gathered4",
    "HistoryLost",
    "HourlyThroughput",
    "ImportedBundle",
    "InMemoryEventStore",
    "InMemoryFlowRepository",
    "InMemoryLeases",
    "InMemoryTransaction",
    "InvalidArgument",
    "InvalidBundle",
    "InvalidDatabaseUrl",
    "InvalidDefinition",
    "InvalidPayload",
    "JobFailed",
    "JobNotSubmitted",
    "JobState",
    "KeptArtifact",
    "Leases",
    "LeasingEventStore",
    "Lineage",
    "Many",
    "MaxScore",
    "MigrationError",
    "NotArchived",
    "NotConverged",
    "NotWaiting",
    "OpenQuestion",
    "PageLimits",
    "ParkedFlow",
    "PgEventStore",
    "PgFlowRepository",
    "PgLeases",
    "PgReadModels",
    "PgTransaction",
    "PoolProvider",
    "PreferenceRationale",
    "ProcessDied",
    "ProcessStep",
    "Projection",
    "PropertyPreferenceAssigned",
    "PropertySelectionPolicy",
    "Rebuild",
    "RegisterHead",
    "RelatedArtifact",
    "Renewal",
    "ResourceLimit",
    "ResultOrigin",
    "ResultRow",
    "Results",
    "RetryPolicy",
    "RetryScheduled",
    "ReuseStatistics",
    "SlotUser",
    "Slots",
    "StaleLease",
    "Statistics",
    "Step",
    "StepAnswer",
    "StepAudit",
    "StepContext",
    "StepDefinition",
    "StepError",
    "StepExecution",
    "StepExecutionError",
    "StepFailed",
    "StepFinished",
    "StepKind",
    "StepRaised",
    "StepSignal",
    "StepSlot",
    "StepStarted",
    "StepStatistics",
    "StepStatus",
    "StepWaits",
    "StoreClosed",
    "StoreError",
    "StoreUnavailable",
    "StreamedArtifact",
    "StreamingEventStore",
    "SystemClock",
    "Taken",
    "Tampering",
    "Tolerance",
    "TransferStore",
    "UnreadableEvent",
    "UnreplayableEvent",
    "UnsupportedServer",
    "UserInteractionProvided",
    "UserInteractionRequested",
    "ValueDifference",
    "Verification",
    "Wait",
    "WaitingFlow",
    "Weighted",
    "Worker",
    "WorkerLost",
    "WorkerSummary",
    "archive_ended",
    "archive_flows",
    "audit_archive",
    "audit_flow",
    "build_dev_pool_from_env",
    "build_pool",
    "canonical_json",
    "content_hash",
    "embedded_postgres",
    "event_metadata",
    "export_flows",
    "flow",
    "flow_page",
    "import_bundle",
    "record_audit",
    "seal_flow",
    "step",
    "verify_bundle",
    "verify_log",
]

_MODULES = (
    "archive.audit",
    "archive.flows",
    "archive.seal",
    "bundles.export",
    "bundles.import_",
    "bundles.verify",
    "domain.answers",
    "domain.artifacts",
    "domain.canonical_json.encode",
    "domain.definition",
    "domain.events",
    "domain.flow_state",
    "domain.instance",
    "domain.selection.policies",
    "domain.selection.preference",
    "domain.step_rows",
    "domain.streams",
    "domain.tampering",
    "engine.steps.ask",
    "engine.children.values",
    "engine.engine",
    "engine.flow",
    "engine.steps.context",
    "engine.steps.function_step",
    "engine.jobs.step",
    "engine.steps.process_step",
    "engine.steps.retry_policy",
    "engine.steps.step",
    "errors",
    "feed.consumer",
    "feed.parts",
    "memory.event_store",
    "memory.flow_repository",
    "memory.leases",
    "memory.transaction",
    "pages.flow_page",
    "postgres.append.transaction",
    "postgres.audit.verification",
    "postgres.connection.pool",
    "postgres.connection.ports",
    "postgres.embedded.server",
    "postgres.event_store",
    "postgres.flow_repository",
    "postgres.read.rebuild",
    "postgres.read_models",
    "postgres.work",
    "results.results",
    "results.rows",
    "store.attribution",
    "store.batches.flow_append",
    "store.clock",
    "store.feed_position",
    "store.leasing.leases",
    "store.leasing.slots",
    "store.ports",
    "store.transfer.anchors",
    "store.transfer.ports",
    "store.transfer.register",
    "views.agreement",
    "views.flow_view",
    "worker.audit",
    "worker.client",
    "worker.worker",
)
"""The modules that define the public names."""

if not typing.TYPE_CHECKING:  # a type checker reads the imports above, and reports wrong names

    def __getattr__(name: str) -> object:
        """Import the modules of all public names when the first one is asked for (PEP 562).

        The command line imports this package too, and prints its help without the database driver.
        """
        if not name.startswith("__"):
            for module in _MODULES:
                found = vars(importlib.import_module(f"{__name__}.{module}"))
                globals().update((key, found[key]) for key in found["__all__"] if key in __all__)
            if name in globals():  # a public name, or a package that the modules above belong to
                return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        """Return the public names, imported or not, beside what the module holds."""
        return sorted({*globals(), *__all__})
