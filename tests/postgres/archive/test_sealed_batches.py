"""The database itself lets no event follow a seal."""

import asyncio
import json
from typing import TypeAlias
from uuid import uuid4

import asyncpg
import pytest

from chem_persistence import (
    FlowCompleted,
    FlowSealed,
    PgEventStore,
    PoolProvider,
    StepSignal,
    seal_flow,
)
from chem_persistence.domain.events import SEALED, LibrarySignal
from chem_persistence.postgres.schema.statements import statement
from tests.support.flows.flows import initialized, new_flow_id

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
APPEND_EVENTS = statement("events/append_events")


async def test_no_event_of_the_same_statement_follows_a_seal(pool: Pool) -> None:
    flow_id = new_flow_id()

    def document(version: int, signal: str) -> dict[str, object]:
        payload = {"type": "stepsignal", "step_index": 0, "step_id": "a", "signal": signal}
        return {
            "event_id": str(uuid4()),
            "flow_id": str(flow_id),
            "metadata": {},
            "payload": payload,
            "ts": "2026-01-01T00:00:00Z",
            "version": version,
            "chain_hash": "\\x" + f"{version:064x}",
            "first_version": 0,
            "previous_hash": "\\x" + "00" * 32,
        }

    lines = [json.dumps(document(0, SEALED)), json.dumps(document(1, "late"))]
    with pytest.raises(asyncpg.PostgresError, match="an event follows the seal"):
        await pool.fetch(APPEND_EVENTS, "[" + "\n,".join(lines) + "]", *[None] * 6)
    assert await pool.fetchval("SELECT count(*) FROM event_log") == 0


async def test_appends_behind_a_seal_in_one_batch_are_refused(provider: PoolProvider) -> None:
    store, flow_id = PgEventStore(provider), new_flow_id()
    await store.append_kinds(flow_id, [initialized(), FlowCompleted("f" * 64)])
    late = StepSignal(0, "acquire", "late")
    outcomes = await asyncio.gather(
        store.append_kind(flow_id, late),
        store.append_kind(flow_id, late),
        store.append_kind(flow_id, LibrarySignal(0, "acquire", SEALED)),
        store.append_kind(flow_id, late),
        store.append_kind(flow_id, late),
        return_exceptions=True,
    )
    assert [type(outcome) for outcome in outcomes[3:]] == [FlowSealed, FlowSealed]
    assert [outcome for outcome in outcomes[:3] if isinstance(outcome, BaseException)] == []
    assert not await seal_flow(store, flow_id)
