"""What people ask of a log: its flows, their steps and failures, where artifacts come from, figures."""

from collections.abc import Callable
from uuid import UUID

from chem_persistence.domain.answers import (
    ArtifactConsumer,
    ArtifactProducer,
    FlowSummary,
    Lineage,
    Statistics,
)
from chem_persistence.domain.artifacts import is_content_hash
from chem_persistence.domain.flow_state import FlowState
from chem_persistence.domain.step_rows import StepExecution, StepExecutionError
from chem_persistence.errors import InvalidArgument
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.read.lineage import MOST_DISTANT, walk_lineage
from chem_persistence.postgres.read.rebuild import Projection, Rebuild, rebuild_executions
from chem_persistence.postgres.read.rows import (
    artifact_consumer,
    artifact_producer,
    flow_summary,
    step_execution,
    step_execution_error,
)
from chem_persistence.postgres.read.statistics import read_statistics, refresh_statistics
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.checks import check_countable, check_flow_id

__all__ = ["PgReadModels"]

LIST_AWAITING_FLOWS = statement("flows/list_awaiting_flows")
LIST_COMPLETED_FLOWS = statement("flows/list_completed_flows")
LIST_ERRORS = statement("executions/list_errors")
LIST_ERRORS_OF_FLOW = statement("executions/list_errors_of_flow")
LIST_FAILED_FLOWS = statement("flows/list_failed_flows")
LIST_FLOWS = statement("flows/list_flows")
LIST_RUNNING_FLOWS = statement("flows/list_running_flows")
READ_CONSUMERS = statement("provenance/read_consumers")
READ_EXECUTIONS = statement("executions/read_executions")
READ_FLOW = statement("flows/read_flow")
READ_PRODUCERS = statement("provenance/read_producers")
READ_PRODUCTS = statement("provenance/read_products")
READ_SOURCES = statement("provenance/read_sources")


_LISTINGS = {
    None: LIST_FLOWS,
    FlowState.RUNNING: LIST_RUNNING_FLOWS,
    FlowState.AWAITING_USER_INPUT: LIST_AWAITING_FLOWS,
    FlowState.FAILED: LIST_FAILED_FLOWS,
    FlowState.COMPLETED: LIST_COMPLETED_FLOWS,
}


class PgReadModels:
    """Answers from the tables of the schema that `provider` reaches; a role that may read them may ask.

    Every question is a read of its own that is retried when it fails transiently, and each raises, besides what it says:
        StoreUnavailable, StoreError: the database could not be reached, or refused.
        UnreadableEvent: what is stored is not what an append writes.
    """

    def __init__(self, provider: ConnectionProvider) -> None:
        self._provider = provider
        self._session = Session(provider)

    async def flows(
        self,
        *,
        state: str | None = None,
        definition_hash: str | None = None,
        before: FlowSummary | None = None,
        limit: int = 50,
    ) -> list[FlowSummary]:
        """List flows, the newest first: by the time of their first event, and by id where that is the same.

        `state` is one of `FlowState`; the page after a page begins `before` the last flow of that one.

        Raises:
            InvalidArgument: there is no such state, or the limit is negative.
        """
        statement = _LISTINGS[_known_state(state)]
        place = (None, None) if before is None else (before.started_at, before.flow_id)
        rows = await self._session.fetch(
            statement, *place, definition_hash, _checked("limit", limit)
        )
        return [flow_summary(row) for row in rows]

    async def flow(self, flow_id: UUID) -> FlowSummary | None:
        """Give one flow, None if it has no events.

        Raises:
            InvalidArgument: the id is no flow's.
        """
        check_flow_id(flow_id)
        rows = await self._session.fetch(READ_FLOW, flow_id)
        return flow_summary(rows[0]) if rows else None

    async def step_executions(self, flow_id: UUID) -> list[StepExecution]:
        """Give the steps of a flow that any event speaks of, in order.

        Raises:
            InvalidArgument: the id is no flow's.
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
        """List failures of steps, of one flow or of all, the newest first (by `seq`), each with its true attempt.

        The page after a page begins `before` the last failure of that one.

        Raises:
            InvalidArgument: the id is no flow's, or the limit is negative.
        """
        place = (None if before is None else before.seq, _checked("limit", limit))
        if flow_id is None:
            rows = await self._session.fetch(LIST_ERRORS, *place)
        else:
            check_flow_id(flow_id)
            rows = await self._session.fetch(LIST_ERRORS_OF_FLOW, *place, flow_id)
        return [step_execution_error(row) for row in rows]

    async def producers(self, artifact_hash: str, *, limit: int = 1_000) -> list[ArtifactProducer]:
        """Give the events that an artifact came from, in all flows, the first first.

        Each `StepFinished` that names it, and the event that it was stored with where that does not name it.

        Raises:
            InvalidArgument: it is no hash, or the limit is negative.
        """
        rows = await self._session.fetch(
            READ_PRODUCERS, _checked_hash(artifact_hash), _checked("limit", limit)
        )
        return [artifact_producer(row, artifact_hash) for row in rows]

    async def consumers(self, artifact_hash: str, *, limit: int = 1_000) -> list[ArtifactConsumer]:
        """Give the steps that started with an artifact as their input, in all flows, the first first.

        Raises:
            InvalidArgument: it is no hash, or the limit is negative.
        """
        rows = await self._session.fetch(
            READ_CONSUMERS, _checked_hash(artifact_hash), _checked("limit", limit)
        )
        return [artifact_consumer(row, artifact_hash) for row in rows]

    async def ancestors(
        self, artifact_hash: str, *, depth: int = MOST_DISTANT, limit: int = 10_000
    ) -> Lineage:
        """Walk from an artifact to all that it derives from, at most `depth` steps away and `limit` of them.

        Each artifact comes once, at its least distance, also where a step gave back its own input.

        Raises:
            InvalidArgument: it is no hash, or a bound is negative.
        """
        return await self._lineage(READ_SOURCES, artifact_hash, depth, limit)

    async def descendants(
        self, artifact_hash: str, *, depth: int = MOST_DISTANT, limit: int = 10_000
    ) -> Lineage:
        """Walk from an artifact to all that derives from it; see `ancestors`."""
        return await self._lineage(READ_PRODUCTS, artifact_hash, depth, limit)

    async def statistics(self) -> Statistics:
        """Give the figures, all as of one moment: the last `refresh`, or the migration that made them."""
        return await read_statistics(self._provider)

    async def refresh(self) -> None:
        """Compute the figures anew, from the whole log; whoever reads them meanwhile gets the last ones, and waits for nothing.

        Raises:
            StoreError: the role may not: only the owner of the tables may, and its members.
        """
        await refresh_statistics(self._provider)

    async def rebuild(
        self,
        projection: str = Projection.STEP_EXECUTIONS,
        *,
        on_progress: Callable[[Rebuild], None] | None = None,
    ) -> Rebuild:
        """Make a stored projection what the log says, while appends go on; see `rebuild_executions`.

        Raises:
            InvalidArgument: there is no such projection.
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
