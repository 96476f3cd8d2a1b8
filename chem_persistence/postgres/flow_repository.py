"""Flow states from PostgreSQL: events and snapshots are read here, `domain.replay` gives their meaning."""

from collections.abc import Sequence
from contextlib import aclosing
from uuid import UUID

from chem_persistence.domain.definition import FlowDefinition
from chem_persistence.domain.events import FlowEvent
from chem_persistence.domain.instance import FlowInstance, check_steps, initial_instance
from chem_persistence.domain.replay import replay, replay_facts
from chem_persistence.errors import InvalidArgument
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.read.flows import pages_ahead
from chem_persistence.postgres.read.rows import flow_facts
from chem_persistence.postgres.read.snapshots import find_snapshot, keep_snapshot
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.checks import check_flow_id
from chem_persistence.telemetry.hooks import watched_replay

__all__ = ["PgFlowRepository"]

READ_FACT_PAGE = statement("events/read_fact_page")


SHORT_FLOW = 100
"""Of a flow with fewer events no snapshot is looked for: that would cost more than they do."""


class PgFlowRepository:
    """Replays the events it is given, or those that it reads through `provider`, page by page.

    A load that had to replay `snapshot_after` events or more keeps the state as the flow's snapshot, and later loads go on
    from there; with None it neither keeps snapshots nor uses them. The state is the same in either case.
    """

    def __init__(self, provider: ConnectionProvider, *, snapshot_after: int | None = 1_000) -> None:
        if snapshot_after is not None and snapshot_after < 1:
            raise InvalidArgument("snapshot_after", "must be at least 1")
        self._provider = provider
        self._snapshot_after = snapshot_after

    async def load(
        self, flow_id: UUID, events: Sequence[FlowEvent] | None, definition: FlowDefinition
    ) -> FlowInstance:
        """Replay a flow; see `FlowRepository.load`.

        What a snapshot stands for is not read again: `verify_log` is what finds events altered since.
        """
        check_flow_id(flow_id)
        begin = initial_instance(flow_id, definition)
        return await watched_replay(self._load(begin, events, definition), flow_id)

    async def _load(
        self, begin: FlowInstance, events: Sequence[FlowEvent] | None, definition: FlowDefinition
    ) -> FlowInstance:
        if events is not None:
            return replay(begin, events, definition)
        if self._snapshot_after is None:
            return await self._follow(begin, definition)
        short = min(SHORT_FLOW, self._snapshot_after)
        begun = await self._follow(begin, definition, short)
        if begun.version < short:
            return begun
        snapshot = await find_snapshot(self._provider, begin.id, definition)
        instance = await self._follow(snapshot or begun, definition)
        if instance.version - (snapshot or begin).version >= self._snapshot_after:
            await keep_snapshot(self._provider, instance, definition)
        return instance

    async def catch_up(
        self, instance: FlowInstance, events: Sequence[FlowEvent] | None, definition: FlowDefinition
    ) -> FlowInstance:
        """Replay the events given, or with None those in the store, that follow what `instance` has seen.

        Raises what `FlowRepository.load` raises, and:
            InvalidArgument: the instance has other steps than the definition.
        """
        check_steps(instance, definition)
        return await watched_replay(self._catch_up(instance, events, definition), instance.id)

    async def _catch_up(
        self, instance: FlowInstance, events: Sequence[FlowEvent] | None, definition: FlowDefinition
    ) -> FlowInstance:
        if events is not None:
            return replay(instance, events, definition)
        return await self._follow(instance, definition)

    async def _follow(
        self, instance: FlowInstance, definition: FlowDefinition, limit: int | None = None
    ) -> FlowInstance:
        flow_id, after = instance.id, instance.version - 1
        async with aclosing(
            pages_ahead(self._provider, READ_FACT_PAGE, flow_id, after, limit)
        ) as pages:
            async for first, rows in pages:
                facts = flow_facts(rows, flow_id, first)
                instance = replay_facts(instance, facts, definition.definition_hash)
        return instance
