"""The golden rows are what the server returns for the same events."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import pytest

from chem_persistence import EventStore, FlowEventKind, PgEventStore, PoolProvider
from chem_persistence.domain.events import event_type
from tests.golden.kinds import ADDED, KINDS, METADATA, appendable, golden_rows
from tests.support.flows.flows import new_flow_id

if TYPE_CHECKING:
    import asyncpg


@pytest.fixture
def store(provider: PoolProvider) -> EventStore:
    return PgEventStore(provider)


@pytest.mark.parametrize(
    ("given", "folder"), [(KINDS, "."), (ADDED, "added_fields")], ids=["all", "added fields"]
)
async def test_the_server_gives_each_golden_row(
    store: EventStore,
    pool: "asyncpg.Pool[asyncpg.Record]",
    given: Sequence[FlowEventKind],
    folder: str,
) -> None:
    flow_id = new_flow_id()
    kinds = [appendable(kind) for kind in given]
    await store.append_kinds(flow_id, kinds, metadata=METADATA)
    rows = await pool.fetch(
        "SELECT event_type, payload::text AS payload, metadata::text AS metadata "
        "FROM event_log ORDER BY version"
    )
    golden = golden_rows(folder)
    assert [tuple(row) for row in rows] == [
        (row.event_type, row.payload, row.metadata)
        for row in (golden[event_type(kind)].of(kind) for kind in kinds)
    ]


@pytest.mark.parametrize("kind", KINDS, ids=event_type)
async def test_a_golden_row_from_an_old_log_is_read(
    store: EventStore, pool: "asyncpg.Pool[asyncpg.Record]", kind: FlowEventKind
) -> None:
    flow_id, row = new_flow_id(), golden_rows()[event_type(kind)]
    await pool.execute(
        "INSERT INTO event_log "
        "(flow_id, version, event_id, ts, event_type, payload, metadata, chain_hash) "
        "VALUES ($1, 0, gen_random_uuid(), now(), "
        "$2, $3::text::jsonb, $4::text::jsonb, sha256('by hand'))",
        flow_id,
        row.event_type,
        row.payload,
        row.metadata,
    )
    [event] = await store.list(flow_id)
    assert (event.kind, event.metadata) == (kind, METADATA)
