"""Read models: flows, steps and their failures, the provenance of artifacts, statistics."""

from collections.abc import Callable
from datetime import datetime
from uuid import UUID

from chem_persistence.domain.answers import (
    ArtifactConsumer,
    ArtifactProducer,
    FlowSummary,
    Lineage,
    ReuseStatistics,
    Statistics,
    WaitingFlow,
    WorkerSummary,
)
from chem_persistence.domain.artifacts import is_content_hash
from chem_persistence.domain.flow_state import FlowState
from chem_persistence.domain.step_rows import StepExecution, StepExecutionError
from chem_persistence.errors import InvalidArgument
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.flow_lists import FlowFilter, list_flow_rows
from chem_persistence.postgres.read.lineage import MOST_DISTANT, walk_lineage
from chem_persistence.postgres.read.rebuild import Projection, Rebuild, rebuild_executions
from chem_persistence.postgres.read.results import count_reuse
from chem_persistence.postgres.read.rows import (
    artifact_consumer,
    artifact_producer,
    flow_summary,
    step_execution,
    step_execution_error,
)
from chem_persistence.postgres.read.statistics import read_statistics, refresh_statistics
from chem_persistence.postgres.read.workers import list_waiting_flows, list_workers
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.checks import check_countable, check_flow_id

__all__ = ["PgReadModels"]

LIST_ERRORS = statement("executions/list_errors")
LIST_ERRORS_OF_FLOW = statement("executions/list_errors_of_flow")
READ_CONSUMERS = statement("provenance/read_consumers")
READ_EXECUTIONS = statement("executions/read_executions")
READ_FLOW = statement("flows/read_flow")
READ_PRODUCERS = statement("provenance/read_producers")
READ_PRODUCTS = statement("provenance/read_products")
READ_SOURCES = statement("provenance/read_sources")

_FIRST_ID = UUID(int=0)


class PgReadModels:
    """Answers questions about the log through `provider`, for any role that may read its tables.

    Every call is a read of its own, retried if it fails transiently. Besides what it lists, raises:
        StoreUnavailable, StoreError: the database could not be reached, or refused.
        UnreadableEvent: a stored value is not one that an append writes.
    """

    def __init__(self, provider: ConnectionProvider) -> None:
        self._provider = provider
        self._session = Session(provider)

    async def flows(
        self,
        *,
        state: str | None = None,
        definition_hash: str | None = None,
        before: FlowSummary | datetime | None = None,
        limit: int = 50,
        roots: bool = False,
        label: str | None = None,
        step: str | None = None,
        error: str | None = None,
        since: datetime | None = None,
    ) -> list[FlowSummary]:
        """List flows, the newest first: by the time of their first event, then by id.

        `state` is a value of `FlowState`; the next page begins `before` the last flow of this one,
        or has the flows that began before a time, and `since` has those that began then or later.
        With `roots`, the flows that a step of another flow runs are left out. `label` is the
        beginning of the flows' labels. `step` is the id of a step that has begun and is not
        finished. `error` is the class of the error with which a step has failed, whole
        (`builtins.ValueError`) or from a dot on (`ValueError`).

        Raises:
            InvalidArgument: the state is unknown, or the limit is negative.
        """
        known = _known_state(state)
        position: tuple[datetime | None, UUID | None] = (None, None)
        if isinstance(before, datetime):
            position = before, _FIRST_ID
        elif before is not None:
            position = before.started_at, before.flow_id
        wanted = FlowFilter(
            *position,
            definition_hash,
            _checked("limit", limit),
            roots,
            label,
            known,
            step,
            error,
            since,
        )
        rows = await list_flow_rows(self._session, wanted)
        return [flow_summary(row) for row in rows]

    async def flow(self, flow_id: UUID) -> FlowSummary | None:
        """Return one flow, or None if it has no events.

        Raises:
            InvalidArgument: the id is not a valid flow id.
        """
        check_flow_id(flow_id)
        rows = await self._session.fetch(READ_FLOW, flow_id)
        return flow_summary(rows[0]) if rows else None

    async def waiting_flows(self, *, limit: int = 50) -> list[WaitingFlow]:
        """List the flows that were given to workers and that none runs, the longest due first.

        Among them are those that are due later, that have failed, and whose worker has died.

        Raises:
            InvalidArgument: the limit is negative.
        """
        return await list_waiting_flows(self._session, _checked("limit", limit))

    async def workers(self) -> list[WorkerSummary]:
        """List the workers that have not stopped, the one that was seen last first."""
        return await list_workers(self._session)

    async def step_executions(self, flow_id: UUID) -> list[StepExecution]:
        """Return the steps of a flow that its events name, in order.

        Raises:
            InvalidArgument: the id is not a valid flow id.
        """
        check_flow_id(flow_id)
        return [
            step_execution(row, flow_id)
            for row in await self._session.fetch(READ_EXECUTIONS, flow_id)
        ]

    async def step_errors(
        self,
        flow_id: UUID | None = None,
        *,
        before: StepExecutionError | None = None,
        limit: int = 50,
    ) -> list[StepExecutionError]:
        """List failures of steps, of one flow or of all, the newest first (by `seq`).

        Each comes with the number of its attempt. The next page begins `before` the last failure of
        this one.

        Raises:
            InvalidArgument: the id is not a valid flow id, or the limit is negative.
        """
        position = (None if before is None else before.seq, _checked("limit", limit))
        if flow_id is None:
            rows = await self._session.fetch(LIST_ERRORS, *position)
        else:
            check_flow_id(flow_id)
            rows = await self._session.fetch(LIST_ERRORS_OF_FLOW, *position, flow_id)
        return [step_execution_error(row) for row in rows]

    async def producers(self, artifact_hash: str, *, limit: int = 1_000) -> list[ArtifactProducer]:
        """Return the events that produced an artifact, in all flows, in the order of the log.

        These are each `StepFinished` that names it, and the event it was stored with, unless that
        names it.

        Raises:
            InvalidArgument: the hash is malformed, or the limit is negative.
        """
        rows = await self._session.fetch(
            READ_PRODUCERS, _checked_hash(artifact_hash), _checked("limit", limit)
        )
        return [artifact_producer(row, artifact_hash) for row in rows]

    async def consumers(self, artifact_hash: str, *, limit: int = 1_000) -> list[ArtifactConsumer]:
        """Return the steps that started with an artifact as their input, in the order of the log.

        Raises:
            InvalidArgument: the hash is malformed, or the limit is negative.
        """
        rows = await self._session.fetch(
            READ_CONSUMERS, _checked_hash(artifact_hash), _checked("limit", limit)
        )
        return [artifact_consumer(row, artifact_hash) for row in rows]

    async def ancestors(
        self, artifact_hash: str, *, depth: int = MOST_DISTANT, limit: int = 10_000
    ) -> Lineage:
        """Return the artifacts that an artifact derives from, up to `depth` steps away.

        At most `limit` are returned, each once, at its shortest distance, even if a step returned
        its own input.

        Raises:
            InvalidArgument: the hash is malformed, or a bound is negative.
        """
        return await self._lineage(READ_SOURCES, artifact_hash, depth, limit)

    async def descendants(
        self, artifact_hash: str, *, depth: int = MOST_DISTANT, limit: int = 10_000
    ) -> Lineage:
        """Return the artifacts that derive from an artifact; see `ancestors`."""
        return await self._lineage(READ_PRODUCTS, artifact_hash, depth, limit)

    async def statistics(self) -> Statistics:
        """Return the statistics as of the last `refresh`, or of the migration without one."""
        return await read_statistics(self._provider)

    async def reuse(self) -> list[ReuseStatistics]:
        """Return how often the results of each step were taken over, and what time that saved."""
        return await count_reuse(self._session)

    async def refresh(self) -> None:
        """Add to the statistics what is new in the log; readers see the last ones meanwhile.

        The first refresh of a log counts all of it, in portions. Archived flows stay counted.

        Raises:
            StoreError: the role is neither the owner of the tables nor a member of it.
        """
        await refresh_statistics(self._provider)

    async def rebuild(
        self,
        projection: str = Projection.STEP_EXECUTIONS,
        *,
        on_progress: Callable[[Rebuild], None] | None = None,
    ) -> Rebuild:
        """Rebuild a stored projection from the log while appends continue.

        See `rebuild_executions`.

        Raises:
            InvalidArgument: the projection is unknown.
        """
        if projection not in list(Projection):
            names = ", ".join(Projection)
            raise InvalidArgument("projection", f"must be one of {names}, not {projection!r}")
        return await rebuild_executions(self._provider, on_progress=on_progress)

    async def _lineage(self, statement: str, artifact_hash: str, depth: int, limit: int) -> Lineage:
        bounds = _checked("depth", depth), _checked("limit", limit)
        return await walk_lineage(self._provider, statement, _checked_hash(artifact_hash), *bounds)


def _known_state(state: str | None) -> FlowState | None:
    if state is None:
        return None
    try:
        return FlowState(state)
    except ValueError as error:
        raise InvalidArgument(
            "state", f"must be one of {', '.join(FlowState)}, not {state!r}"
        ) from error


def _checked(name: str, number: int) -> int:
    check_countable(**{name: number})
    return number


def _checked_hash(artifact_hash: str) -> str:
    if not is_content_hash(artifact_hash):
        raise InvalidArgument("artifact_hash", "must be 64 lower-case hexadecimal characters")
    return artifact_hash
