"""Flow states from PostgreSQL: read as events and snapshots, replayed by `domain.replay`."""

from collections.abc import Sequence
from contextlib import aclosing
from uuid import UUID

from chem_persistence.domain.definition import FlowDefinition
from chem_persistence.domain.events import FlowEvent
from chem_persistence.domain.instance import FlowInstance, check_steps, initial_instance
from chem_persistence.domain.replay import replay, replay_facts
from chem_persistence.errors import InvalidArgument
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.read.flows import Reached, fact_pages_ahead
from chem_persistence.postgres.read.snapshots import find_snapshot, keep_snapshot
from chem_persistence.store.checks import check_flow_id
from chem_persistence.telemetry.hooks import watched_replay

__all__ = ["PgFlowRepository"]

SHORT_FLOW = 100
"""The snapshot of a flow with fewer events is not read, since replaying them costs less."""


class PgFlowRepository:
    """Replays the events it is given, or those that it reads through `provider`, page by page.

    A load that replays `snapshot_after` events or more stores the state as the flow's snapshot, and
    later loads continue from there; None turns snapshots off. The state is the same either way.

    Raises:
        InvalidArgument: `snapshot_after` is less than 1.
    """

    def __init__(self, provider: ConnectionProvider, *, snapshot_after: int | None = 1_000) -> None:
        if snapshot_after is not None and snapshot_after < 1:
            raise InvalidArgument("snapshot_after", f"must be at least 1, not {snapshot_after}")
        self._provider = provider
        self._snapshot_after = snapshot_after

    async def load(
        self, flow_id: UUID, events: Sequence[FlowEvent] | None, definition: FlowDefinition
    ) -> FlowInstance:
        """Replay a flow; see `FlowRepository.load`.

        The events before a snapshot are not read again; `verify_log` finds those altered since.
        """
        check_flow_id(flow_id)
        begin = initial_instance(flow_id, definition)
        return await watched_replay(self._load(begin, events, definition), flow_id)

    async def _load(
        self, begin: FlowInstance, events: Sequence[FlowEvent] | None, definition: FlowDefinition
    ) -> FlowInstance:
        if events is not None:
            return replay(begin, events, definition)
        reached = Reached()
        if self._snapshot_after is None:
            return await self._follow(begin, definition, reached)
        short = min(SHORT_FLOW, self._snapshot_after)
        begun = await self._follow(begin, definition, reached, short)
        if begun.version < short:
            return begun
        snapshot = await find_snapshot(self._provider, begin.id, definition)
        if snapshot is None:
            instance = await self._follow(begun, definition, reached)
        else:
            begin, link = snapshot
            reached = Reached(begin.version, (begin.version - 1, link))
            instance = await self._follow(begin, definition, reached)
        if instance.version - begin.version >= self._snapshot_after:
            await keep_snapshot(self._provider, instance, definition)
        return instance

    async def catch_up(
        self, instance: FlowInstance, events: Sequence[FlowEvent] | None, definition: FlowDefinition
    ) -> FlowInstance:
        """Replay the events after `instance.version`: those given, or with None those stored.

        Raises:
            InvalidArgument: the instance has other steps than the definition.
            ChemPersistenceError: as `FlowRepository.load` raises.
        """
        check_steps(instance, definition)
        return await watched_replay(self._catch_up(instance, events, definition), instance.id)

    async def _catch_up(
        self, instance: FlowInstance, events: Sequence[FlowEvent] | None, definition: FlowDefinition
    ) -> FlowInstance:
        if events is not None:
            return replay(instance, events, definition)
        return await self._follow(instance, definition, Reached(instance.version))

    async def _follow(
        self,
        instance: FlowInstance,
        definition: FlowDefinition,
        reached: Reached,
        limit: int | None = None,
    ) -> FlowInstance:
        reading = fact_pages_ahead(self._provider, instance.id, reached, limit)
        async with aclosing(reading) as pages:
            async for facts in pages:
                instance = replay_facts(instance, facts, definition.definition_hash)
        return instance
