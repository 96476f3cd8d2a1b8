"""Rows that a superuser altered at random raise only the library's errors, and always do."""

from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chem_persistence import (
    Artifact,
    ArtifactCorrupt,
    ArtifactNotFound,
    ChemPersistenceError,
    FlowEventKind,
    PgEventStore,
    PgFlowRepository,
    PoolProvider,
    StepFinished,
    UnreadableEvent,
)
from chem_persistence.postgres.audit.verification import verify_log
from chem_persistence.store.transfer.anchors import Anchor
from tests.support.examples import examples
from tests.support.flows.flows import DEFINITION, new_flow_id, whole_history
from tests.support.flows.hostile import EVENT_TEXTS, JSON_TEXTS

BOUNDED = settings(
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=examples(60),
    suppress_health_check=list(HealthCheck),
)
AT_LENGTH = settings(BOUNDED, derandomize=False, max_examples=3_000, print_blob=True)

ARTIFACT = Artifact.from_payload(
    kind="Molecule", payload={"name": "benzene", "energy": 6.02214076e23}
)
CONTENT = Artifact.from_content(
    kind="Spectrum", content=b"\x00\xff", media_type="application/octet-stream"
)
TABLES = {"event_log": "version", "workflow_step_artifacts": "artifact_hash"}
TIMES = st.sampled_from(
    ["infinity", "-infinity", "0044-03-15 BC", "4713-01-01 BC", "10000-01-01", "294276-12-31"]
) | st.sampled_from(
    [
        "0001-01-01 00:00+00",
        "9999-12-31 23:59:59.999999+00",
        "9999-12-31 23:59:59+14",
        "1999-12-31 23:59+00",
    ]
)
INTEGERS = st.integers(-(2**63), 2**63 - 1) | st.sampled_from(
    [-(2**63), -(2**31), -1, 0, 2**31 - 1, 2**63 - 1]
)
BYTES = st.sampled_from([r"\x", r"\x00", r"\x" + "00" * 32]) | st.binary(max_size=33).map(
    lambda data: rf"\x{data.hex()}"
)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=70)
EVENT_TYPES = (
    st.sampled_from(["stepstarted", "stepfinished", "flowcompleted", "stepskipped", ""]) | TEXTS
)
VALUES: dict[tuple[str, str], tuple[str, st.SearchStrategy[Any]]] = {
    ("event_log", "payload"): ("jsonb", EVENT_TEXTS | JSON_TEXTS),
    ("event_log", "metadata"): ("jsonb", JSON_TEXTS),
    ("event_log", "ts"): ("timestamptz", TIMES),
    ("event_log", "event_type"): ("text", EVENT_TYPES),
    ("event_log", "event_id"): ("uuid", st.uuids().map(str)),
    ("event_log", "version"): (
        "integer",
        INTEGERS.filter(lambda value: abs(value) < 2**31).map(str),
    ),
    ("event_log", "seq"): ("bigint", INTEGERS.map(str)),
    ("event_log", "chain_hash"): ("bytea", BYTES),
    ("workflow_step_artifacts", "payload"): ("jsonb", JSON_TEXTS),
    ("workflow_step_artifacts", "metadata"): ("jsonb", JSON_TEXTS),
    ("workflow_step_artifacts", "content"): ("bytea", BYTES),
    ("workflow_step_artifacts", "kind"): ("text", TEXTS),
    ("workflow_step_artifacts", "media_type"): ("text", TEXTS),
    ("workflow_step_artifacts", "artifact_hash"): ("text", TEXTS | st.just("0" * 64)),
    ("workflow_step_artifacts", "produced_in_seq"): ("bigint", INTEGERS.map(str)),
}
"""By column: its type, and the values that it is changed to, as text."""


class Change(msgspec.Struct, frozen=True):
    """A statement that changes the row at an offset in the order of the table's key."""

    table: str
    place: int
    column: str
    type: str
    value: str | None

    def statement(self) -> str:
        row = (
            f"SELECT ctid FROM {self.table} "
            f"ORDER BY {TABLES[self.table]}, ctid OFFSET {self.place} LIMIT 1"
        )
        if self.column == "delete":
            return f"DELETE FROM {self.table} WHERE ctid = ({row})"
        return f"UPDATE {self.table} SET {self.column} = $1::text::{self.type} WHERE ctid = ({row})"


@st.composite
def changes(draw: st.DrawFn) -> Change:
    table, column = draw(
        st.sampled_from([*VALUES, ("event_log", "delete"), ("workflow_step_artifacts", "delete")])
    )
    kind, values = VALUES.get((table, column), ("", st.none()))
    place = draw(st.integers(0, 8 if table == "event_log" else 1))
    return Change(
        table, place, column, kind, draw(values if draw(st.integers(0, 9)) else st.none())
    )


def history() -> list[FlowEventKind]:
    """Return a flow's events; the last one names a second artifact."""
    return [*whole_history(ARTIFACT), StepFinished(0, "acquire", (CONTENT.hash,), "f" * 64)]


@pytest.fixture
async def vandal(admin_url: str) -> "AsyncIterator[asyncpg.Connection[asyncpg.Record]]":
    """Connect as a superuser without triggers and constraints, except primary keys."""
    connection = await asyncpg.connect(admin_url)
    for table in TABLES:
        checks = (
            "SELECT conname FROM pg_constraint WHERE conrelid = $1::text::regclass "
            "AND contype IN ('c', 'u')"
        )
        for row in await connection.fetch(checks, table):
            await connection.execute(f"ALTER TABLE {table} DROP CONSTRAINT {row['conname']}")
    for table, column in VALUES:
        with suppress(asyncpg.InvalidTableDefinitionError):  # part of the primary key
            await connection.execute(f"ALTER TABLE {table} ALTER COLUMN {column} DROP NOT NULL")
    await connection.execute("SET session_replication_role = replica")
    yield connection
    await connection.close()


async def outcome_of(work: Callable[[], Any], *expected: type[Exception]) -> Any:
    """Return the work's result, or the name of the error that it may raise."""
    try:
        return await work()
    except expected as error:
        return type(error).__name__


async def seen(provider: PoolProvider, flow_id: UUID) -> list[Any]:
    """Read a flow and its artifacts; seq and an artifact's description are not in the hash."""
    store = PgEventStore(provider)
    events = await outcome_of(lambda: store.list(flow_id), UnreadableEvent)
    if isinstance(events, list):
        events = [msgspec.structs.replace(event, seq=0) for event in events]
    artifacts = [
        await outcome_of(lambda at=at: store.get_artifact(at), ArtifactCorrupt, ArtifactNotFound)  # type: ignore[misc]
        for at in (ARTIFACT.hash, CONTENT.hash)
    ]
    return [events, *(one if isinstance(one, str) else one.encoded() for one in artifacts)]


async def vandalise(vandal: Any, provider: PoolProvider, wanted: list[Change]) -> None:
    await vandal.execute("DELETE FROM event_log; DELETE FROM workflow_step_artifacts")
    flow_id, heads = new_flow_id(), list[Anchor]()
    await PgEventStore(provider).append_kinds(flow_id, history(), artifacts=[ARTIFACT, CONTENT])
    assert (await verify_log(provider, on_head=heads.append)).findings == []
    before = await seen(provider, flow_id)
    for change in wanted:
        with suppress(
            asyncpg.DataError, asyncpg.IntegrityConstraintViolationError
        ):  # the primary key
            arguments = [] if change.column == "delete" else [change.value]
            await vandal.execute(change.statement(), *arguments)
    after = await seen(provider, flow_id)
    await outcome_of(
        lambda: PgFlowRepository(provider).load(flow_id, None, DEFINITION), ChemPersistenceError
    )
    await verify_log(provider, flow_ids=[flow_id])
    verification = await verify_log(provider, anchors=heads)
    assert msgspec.json.encode(verification)
    assert verification.findings or after == before


@BOUNDED
@given(wanted=st.lists(changes(), min_size=1, max_size=3))
async def test_rows_altered_at_random_are_reported_and_crash_nothing(
    vandal: Any, provider: PoolProvider, wanted: list[Change]
) -> None:
    await vandalise(vandal, provider, wanted)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@AT_LENGTH
@given(wanted=st.lists(changes(), min_size=1, max_size=4))
async def test_at_length_rows_altered_at_random_are_reported_and_crash_nothing(
    vandal: Any, provider: PoolProvider, wanted: list[Change]
) -> None:
    await vandalise(vandal, provider, wanted)
