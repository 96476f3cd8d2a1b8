"""The register of archives and the bundles that it names prove what left the log."""

import hashlib
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias
from uuid import UUID

import asyncpg
import pytest

from chem_persistence import (
    Anchor,
    ArchiveAudit,
    PgEventStore,
    PoolProvider,
    RegisterHead,
    StepSignal,
    Tampering,
    archive_flows,
    audit_archive,
    build_pool,
    export_flows,
    import_bundle,
    verify_log,
)
from tests.support.archived_flows import archive as archive_by_force
from tests.support.archived_flows import forget
from tests.support.archiving import ended_flow
from tests.support.bundles import chained, exported, rewritten, small_store

Owner: TypeAlias = "asyncpg.Connection[asyncpg.Record]"


@pytest.fixture
async def store(admin_url: str) -> AsyncIterator[PgEventStore]:
    """Yield a store on connections that may archive."""
    async with await build_pool(admin_url) as pool:
        yield PgEventStore(PoolProvider(pool))


async def past_the_triggers(owner: Owner, statement: str, *arguments: object) -> None:
    async with owner.transaction():
        await owner.execute("SET LOCAL session_replication_role = replica")
        await owner.execute(statement, *arguments)


class Archived(NamedTuple):
    """Two flows in two bundles, the first of which is in the log again, and what was kept of them.

    `before` is the register when only the first was archived, `kept` that with both.
    """

    folder: Path
    flows: tuple[UUID, UUID]
    bundles: tuple[Path, Path]
    anchors: tuple[Anchor, ...]
    before: RegisterHead
    kept: RegisterHead


@pytest.fixture
async def archived(store: PgEventStore, provider: PoolProvider, tmp_path: Path) -> Archived:
    first, second, _ = [await ended_flow(store) for _ in range(3)]
    anchors = list[Anchor]()
    await verify_log(provider, on_head=anchors.append)
    one = await archive_flows(store, [first], tmp_path, actor="Ada", patience=0)
    before = (await audit_archive(store)).head
    two = await archive_flows(store, [second], tmp_path, actor="Ada", patience=0)
    await import_bundle(store, one.path)
    kept = (await audit_archive(store)).head
    bundles = (one.path, two.path)
    return Archived(tmp_path, (first, second), bundles, tuple(anchors), before, kept)


async def audited(store: PgEventStore, archived: Archived) -> list[tuple[str, str, str]]:
    """Return what is found by the anchors and the head of the register that were kept."""
    audit = await audit_archive(
        store, archived.folder, anchors=archived.anchors, register=archived.kept
    )
    return [(file, place, reason) for file, place, reason in audit.findings]


async def test_what_was_archived_is_in_its_bundles(
    store: PgEventStore, provider: PoolProvider, archived: Archived
) -> None:
    assert await audited(store, archived) == []
    assert (await verify_log(provider, anchors=archived.anchors)).findings == []
    archived.bundles[1].rename(archived.folder / "renamed.zip")
    live = await ended_flow(store)
    await export_flows(store, [live, archived.flows[0]], archived.folder / "export.zip")
    (archived.folder / ".draft.zip").write_bytes(b"half")
    again = await archive_flows(store, [archived.flows[0]], archived.folder, actor="Bob")
    assert again.path == archived.bundles[0]
    progress = list[int]()
    audit = await audit_archive(
        store, archived.folder, register=archived.before, on_progress=progress.append
    )
    assert audit == ArchiveAudit(
        flows=3, bundles=3, spare=["export.zip"], findings=[], head=audit.head
    )
    assert (progress, audit.head.rows, archived.kept.rows) == ([3], 3, 2)
    assert (await audit_archive(store, archived.folder, register=archived.kept)).findings == []


def missing(archived: Archived) -> list[tuple[str, str]]:
    archived.bundles[1].unlink()
    return [(archived.bundles[1].name, "")]


def altered(archived: Archived) -> list[tuple[str, str]]:
    content = archived.bundles[1].read_bytes()
    name = f"flows/{archived.flows[1]}/events.jsonl"
    at = content.index(b'"event_id"', content.index(name.encode()))
    archived.bundles[1].write_bytes(content[:at] + b"'" + content[at + 1 :])
    bundle = archived.bundles[1].name
    return [(bundle, ""), (f"{bundle}/{name}", "line 1, byte 1")]


def exchanged(archived: Archived) -> list[tuple[str, str]]:
    shutil.copy(archived.bundles[0], archived.bundles[1])
    name = archived.bundles[1].name
    return [(name, ""), (name, f"row 2, flow {archived.flows[1]}")]


def no_bundle(archived: Archived) -> list[tuple[str, str]]:
    (archived.folder / "notes.zip").write_bytes(b"PK")
    return [("notes.zip", "byte 2")]


def misnamed(archived: Archived) -> list[tuple[str, str]]:
    name = f"{'a' * 64}.zip"
    shutil.copy(archived.bundles[0], archived.folder / name)
    return [(name, "")]


@pytest.mark.parametrize("damage", [missing, altered, exchanged, no_bundle, misnamed])
async def test_what_became_of_a_bundle_is_named_by_file_and_place(
    store: PgEventStore, archived: Archived, damage: Callable[[Archived], list[tuple[str, str]]]
) -> None:
    places = damage(archived)
    assert [(file, place) for file, place, _ in await audited(store, archived)] == places


async def test_a_bundle_of_a_flow_that_nobody_knows_is_found(
    store: PgEventStore, archived: Archived
) -> None:
    """The log and its register went back to before the flow, or it is of another log."""
    other = await small_store()
    await exported(other, archived.folder / "other.zip")
    ((file, place, reason),) = await audited(store, archived)
    assert (file, place.split()[0]) == ("other.zip", "flow")
    assert reason == "is not in the register, and the log does not have its 5 events"


async def test_a_chain_that_was_made_anew_is_found_by_the_anchors(
    store: PgEventStore, owner: Owner, archived: Archived
) -> None:
    """Who can write the register and the bundles cannot write the anchors."""
    flow_id, bundle = archived.flows[1], archived.bundles[1]
    name, link = f"flows/{flow_id}/events", b""

    def forged(content: bytes) -> bytes:
        nonlocal link
        content, link = chained(
            content, lambda lines: [each.replace(b'"late"', b'"lost"') for each in lines]
        )
        return content

    events: dict[str, Any] = {name: forged}
    rewritten(bundle, **events)
    old = await owner.fetchval("SELECT chain_hash FROM archived_flows WHERE flow_id = $1", flow_id)
    content = rewritten(bundle, ends=(old.hex().encode(), link), **events)
    bundle.unlink()
    sha256 = hashlib.sha256(content).hexdigest()
    (archived.folder / f"{sha256}.zip").write_bytes(content)
    await past_the_triggers(
        owner,
        "UPDATE archived_flows SET chain_hash = $2, bundle_sha256 = $3 WHERE flow_id = $1",
        flow_id,
        bytes.fromhex(link.decode()),
        sha256,
    )
    assert (await audit_archive(store, archived.folder)).findings == []
    anchors, register = await audited(store, archived)
    assert register[2] == "the 2 anchored rows are there, and not as they were"
    assert anchors[0] == f"{sha256}.zip/{name}.jsonl"
    assert anchors[2] == "is not the event of the anchors that were given"


ONE_MORE = """
    INSERT INTO archived_flows (archive_no, flow_id, version, chain_hash, first_seq, last_seq,
        bundle_sha256, consumers, actor) OVERRIDING SYSTEM VALUE
    SELECT 0, flow_id, version, chain_hash, 1, 1, bundle_sha256, '{}', 'Eve'
    FROM archived_flows
    LIMIT 1
"""
MANY = """
    INSERT INTO archived_flows (flow_id, version, chain_hash, first_seq, last_seq, bundle_sha256,
        consumers, actor)
    SELECT gen_random_uuid(), 1, decode(repeat('00', 32), 'hex'), 1, 1,
        CASE WHEN n > 2000 THEN repeat('c', 64) ELSE repeat('b', 64) END, '{}', 'Ada'
    FROM generate_series(1, 2100) AS n
"""
CHANGES = {
    "its first row": (
        "DELETE FROM archived_flows WHERE archive_no = 1",
        "1 of the 2 anchored rows are gone",
    ),
    "its last row": (
        "DELETE FROM archived_flows WHERE archive_no = 2",
        "1 of the 2 anchored rows are gone",
    ),
    "its rows": ("DELETE FROM archived_flows", "2 of the 2 anchored rows are gone"),
    "who archived": (
        "UPDATE archived_flows SET actor = 'Eve' WHERE archive_no = 2",
        "the 2 anchored rows are there, and not as they were",
    ),
    "a number": (
        "UPDATE archived_flows SET first_seq = -9007199254740993 WHERE archive_no = 1",
        "the 2 anchored rows are there, and not as they were",
    ),
    "a time": (
        "UPDATE archived_flows SET archived_at = 'infinity' WHERE archive_no = 1",
        "the 2 anchored rows are there, and not as they were",
    ),
    "one more": (ONE_MORE, "1 rows were added to the 2 anchored ones"),
}


@pytest.mark.parametrize("what", CHANGES)
async def test_a_register_that_was_changed_is_found_by_old_anchors(
    store: PgEventStore, owner: Owner, archived: Archived, what: str
) -> None:
    await past_the_triggers(owner, CHANGES[what][0])
    findings = await audited(store, archived)
    assert ("archived_flows", "rows up to 2", CHANGES[what][1]) in findings
    without = await audit_archive(store, archived.folder)
    assert bool(without.findings) is (what in {"its last row", "its rows"})


async def test_a_register_that_names_another_end_is_found_without_anchors(
    store: PgEventStore, owner: Owner, archived: Archived
) -> None:
    first, second = archived.flows
    await past_the_triggers(owner, "UPDATE archived_flows SET version = version + 1")
    expected = [
        ("archived_flows", f"row 1, flow {first}"),
        (archived.bundles[0].name, f"row 1, flow {first}"),
        (archived.bundles[1].name, f"row 2, flow {second}"),
    ]
    audit = await audit_archive(store, archived.folder)
    assert [finding[:2] for finding in audit.findings] == expected


async def test_a_delete_is_told_apart_from_an_archive(
    store: PgEventStore, provider: PoolProvider, owner: Owner, archived: Archived
) -> None:
    """A gap, a flow without its end, a whole flow, and one that the register names falsely."""
    gap, short, gone, forged = [await ended_flow(store) for _ in range(4)]
    anchors = list[Anchor]()
    await verify_log(provider, on_head=anchors.append)
    await past_the_triggers(owner, "DELETE FROM event_log WHERE flow_id = $1 AND version = 1", gap)
    await forget(owner, short, 2)
    await forget(owner, gone, 0)
    await archive_by_force(owner, forged)
    verification = await verify_log(provider, anchors=anchors)
    assert {(each.flow_id, each.tampering) for each in verification.findings} == {
        (gap, Tampering.MISSING),
        (short, Tampering.TRUNCATED),
        (gone, Tampering.TRUNCATED),
    }
    await forget(owner, archived.flows[0], 3)  # which is in the log again
    audit = await audit_archive(store, archived.folder)
    assert [finding[:2] for finding in audit.findings] == [
        ("archived_flows", f"row 1, flow {archived.flows[0]}"),
        (f"{'b' * 64}.zip", ""),
    ]
    assert str(forged) in audit.findings[1].reason


async def test_flows_of_one_bundle_are_read_together_over_many_pages(
    store: PgEventStore, owner: Owner, tmp_path: Path
) -> None:
    """A bundle with more flows than a page of the register has is verified once."""
    flow_id = await ended_flow(store)
    await store.append_kind(flow_id, StepSignal(0, "acquire", "more"))
    await owner.execute(MANY)
    audit = await audit_archive(store, tmp_path)
    assert [finding.file for finding in audit.findings] == [f"{c * 64}.zip" for c in "bc"]
    assert audit.findings[1].reason.endswith(" and 97 more")
    assert audit.flows == audit.head.rows == 2_100
