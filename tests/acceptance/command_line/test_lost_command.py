"""`chem-persistence lost`, as an operator types it after a failover."""

import json
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID

import asyncpg
import msgspec
import pytest

from chem_persistence import (
    FeedPosition,
    FlowEvent,
    PgEventStore,
    PoolProvider,
    StepSignal,
    build_pool,
    embedded_postgres,
)
from tests.support.commands import command
from tests.support.servers.standby import standby_of

FLOW, OTHER = UUID(int=1), UUID(int=2)  # the same in each process: names of tests have them


async def append(url: str, flow_id: UUID, count: int, data: object = None) -> list[FlowEvent]:
    async with await build_pool(url, max_size=1) as pool:
        signals = [StepSignal(0, "acquire", "progress", data) for _ in range(count)]
        return await PgEventStore(PoolProvider(pool)).append_kinds(flow_id, signals)


async def position(url: str) -> FeedPosition:
    async with await build_pool(url, max_size=1) as pool:
        return await PgEventStore(PoolProvider(pool)).position()


async def cut(url: str, flow_id: UUID, version: int) -> None:
    connection = await asyncpg.connect(url)
    await connection.execute("SET session_replication_role = replica")
    await connection.execute(
        "DELETE FROM event_log WHERE flow_id = $1 AND version >= $2", flow_id, version
    )
    await connection.close()


def written(file: Path, lines: Sequence[object]) -> Path:
    file.write_bytes(b"\n".join(msgspec.json.encode(line) for line in lines))
    return file


async def test_what_is_there_is_not_lost(database_url: str, tmp_path: Path) -> None:
    events = await append(database_url, FLOW, 3)
    at = ("--database-url", database_url)
    saved, anchors = tmp_path / "position", tmp_path / "anchors"
    saved.write_text((await position(database_url)).to_json(), encoding="utf-8")
    assert (await command("verify", *at, "--write-anchors", anchors)).returncode == 0
    tail = await command("tail", "--json", *at)
    seen = tmp_path / "seen"
    seen.write_text(tail.stdout, encoding="utf-8")
    await append(database_url, FLOW, 2)
    done = await command("lost", *at, "--position", saved, "--events", seen, "--anchors", anchors)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [
        f"position {events[-1].seq}, flow {FLOW}: holds",
        "3 events compared, 0 lost",
        "1 flow compared, 0 lost events",
        "nothing is lost",
    ]


@pytest.mark.superuser
async def test_what_is_gone_and_what_was_replaced_is_named(
    database_url: str, tmp_path: Path
) -> None:
    at = ("--database-url", database_url)
    events, others = await append(database_url, FLOW, 4), await append(database_url, OTHER, 3)
    anchors = tmp_path / "anchors"
    assert (await command("verify", *at, "--write-anchors", anchors)).returncode == 0
    await cut(database_url, FLOW, 2)
    await cut(database_url, OTHER, 1)
    (new,) = await append(database_url, FLOW, 1, "another life")
    seen = written(tmp_path / "seen", [*events, *others])
    done = await command("lost", *at, "--events", seen, "--anchors", anchors)
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert lines[:4] == [
        f"flow {FLOW}, version 2, event {events[2].event_id}: replaced by {new.event_id}",
        f"flow {FLOW}, version 3, event {events[3].event_id}: gone",
        f"flow {OTHER}, version 1, event {others[1].event_id}: gone",
        f"flow {OTHER}, version 2, event {others[2].event_id}: gone",
    ]
    assert sorted(lines[4:6]) == sorted(
        [f"flow {FLOW}: had 4 events, has 3", f"flow {OTHER}: had 3 events, has 1"]
    )
    assert lines[6:] == ["7 events compared, 4 lost", "2 flows compared, 2 lost events"]
    await append(database_url, OTHER, 5, "another life")
    done = await command("lost", *at, "--anchors", anchors, "--json")
    assert done.returncode == 1
    found = {UUID(flow["flow_id"]): flow for flow in json.loads(done.stdout)["flows"]}
    assert (found[OTHER]["state"], found[OTHER]["known"], found[OTHER]["found"]) == (
        "replaced",
        3,
        6,
    )


@pytest.mark.superuser
async def test_the_newest_position_that_holds_is_named(database_url: str, tmp_path: Path) -> None:
    at = ("--database-url", database_url)
    saved: list[FeedPosition] = []
    for flow_id in (FLOW, OTHER, FLOW, FLOW):
        await append(database_url, flow_id, 1)
        saved.append(await position(database_url))
    await cut(database_url, FLOW, 2)
    file = tmp_path / "positions"
    file.write_text("\n".join(each.to_json() for each in saved) + "\n\n", encoding="utf-8")
    done = await command("lost", *at, "--position", file)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.splitlines() == [
        f"position {saved[3].seq}, flow {FLOW}: event gone",
        f"position {saved[2].seq}, flow {FLOW}: holds",
        f"position {saved[1].seq}, flow {OTHER}: holds",
        f"position {saved[0].seq}, flow {FLOW}: holds",
        f"newest that holds: {saved[2].seq}",
    ]
    await cut(database_url, FLOW, 1)
    done = await command("lost", *at, "--position", file, "--json")
    assert [each["state"] for each in json.loads(done.stdout)["positions"]] == [
        "event gone",
        "event gone",
        "holds",
        "holds",
    ]
    await cut(database_url, FLOW, 0)
    done = await command("lost", *at, "--position", file, "--json")
    found = json.loads(done.stdout)
    assert [each["state"] for each in found["positions"]] == [
        "event gone",
        "event gone",
        "an event before it is gone or replaced",
        "event gone",
    ]
    assert found["newest_that_holds"] is None


@pytest.mark.parametrize(
    ("content", "option"),
    [
        ("", "--position"),
        ("7", "--position"),
        ("{}\n{}", "--position"),
        ('{"flow_id": 1}', "--events"),
        ('{"flow_id": "a", "version": 0, "event_id": "b"}', "--events"),
        ("not json", "--events"),
        ("[" * 100_000, "--events"),
        (f'{{"flow_id": "{FLOW}", "version": -1, "event_id": "{FLOW}"}}', "--events"),
        (f'{{"flow_id": "{FLOW}", "version": 2147483648, "event_id": "{FLOW}"}}', "--events"),
        ("{}", "--anchors"),
    ],
)
async def test_a_file_of_something_else_is_wrong_use(
    database_url: str, tmp_path: Path, content: str, option: str
) -> None:
    file = tmp_path / "file"
    file.write_text(content, encoding="utf-8")
    done = await command("lost", option, file, "--database-url", database_url)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: ")
    assert len(done.stderr.splitlines()) == 1


async def test_nothing_to_compare_with_is_wrong_use(database_url: str, tmp_path: Path) -> None:
    done = await command("lost", "--database-url", database_url)
    assert (done.returncode, done.stdout) == (2, "")
    done = await command("lost", "--position", tmp_path / "none", "--database-url", database_url)
    assert done.returncode == 2


@pytest.mark.slow
async def test_a_standby_that_lags_is_not_taken_for_a_loss(tmp_path: Path) -> None:
    async with embedded_postgres() as primary:
        events = await append(primary, FLOW, 2)
        async with standby_of(primary) as standby:
            connection = await asyncpg.connect(standby)
            await connection.execute("SELECT pg_wal_replay_pause()")
            late = await append(primary, FLOW, 1)
            saved = tmp_path / "position"
            saved.write_text((await position(primary)).to_json(), encoding="utf-8")
            anchors, at = tmp_path / "anchors", ("--database-url", standby)
            await command("verify", "--database-url", primary, "--write-anchors", anchors)
            for arguments, code in (
                (("--events", written(tmp_path / "there", events)), 0),
                (("--events", written(tmp_path / "late", late)), 3),
                (("--anchors", anchors), 3),
                (("--position", saved), 3),
            ):
                done = await command("lost", *arguments, *at)
                assert done.returncode == code, done
                assert ("standby" in done.stderr) is bool(code)
            await connection.execute("SELECT pg_wal_replay_resume()")
            await connection.close()
