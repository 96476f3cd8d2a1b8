"""Flow states from PostgreSQL: it streams the events, and leaves the replay to the one meaning that memory has."""

from collections.abc import Sequence
from contextlib import aclosing
from uuid import UUID

from chem_persistence.argument_checks import check_flow_id
from chem_persistence.domain.definition import FlowDefinition
from chem_persistence.domain.events import FlowEvent
from chem_persistence.domain.instance import FlowInstance, check_steps, initial_instance
from chem_persistence.domain.replay import replay_facts
from chem_persistence.errors import InvalidArgument
from chem_persistence.memory.flow_repository import InMemoryFlowRepository
from chem_persistence.ports import ConnectionProvider
from chem_persistence.postgres.event_store import PgEventStore
from chem_persistence.postgres.read_ahead import pages_ahead
from chem_persistence.postgres.rows import flow_facts
from chem_persistence.postgres.snapshots import find_snapshot, keep_snapshot
from chem_persistence.postgres.statements import READ_FACT_PAGE
from chem_persistence.telemetry.watched import watched_replay

__all__ = ["PgFlowRepository"]

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
        self._replay = InMemoryFlowRepository(PgEventStore(provider))

    async def load(
        self, flow_id: UUID, events: Sequence[FlowEvent] | None, definition: FlowDefinition
    ) -> FlowInstance:
        """Replay a flow; see `FlowRepository.load`.

        What a snapshot stands for is not read again: `verify_log` is what finds events altered since.
        """
        if events is not None:
            return await self._replay.load(flow_id, events, definition)
        check_flow_id(flow_id)
        return await watched_replay(self._load(initial_instance(flow_id, definition), definition), flow_id)

    async def _load(self, begin: FlowInstance, definition: FlowDefinition) -> FlowInstance:
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
        if events is not None:
            return await self._replay.catch_up(instance, events, definition)
        check_steps(instance, definition)
        return await watched_replay(self._follow(instance, definition), instance.id)

    async def _follow(
        self, instance: FlowInstance, definition: FlowDefinition, limit: int | None = None
    ) -> FlowInstance:
        flow_id, after = instance.id, instance.version - 1
        async with aclosing(pages_ahead(self._provider, READ_FACT_PAGE, flow_id, after, limit)) as pages:
            async for first, rows in pages:
                facts = flow_facts(rows, flow_id, first)
                instance = replay_facts(instance, facts, definition.definition_hash)
        return instance
