"""What commands print on a narrow terminal, of ambiguous names, and of hostile and dead flows."""

import asyncio
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from chem_persistence import (
    FlowEventKind,
    FlowInitialized,
    PgEventStore,
    PoolProvider,
    RetryScheduled,
    StepError,
    StepFailed,
    StepStarted,
    UserInteractionRequested,
)
from tests.acceptance.command_line.test_command_line_surroundings import ESCAPE, on_a_terminal
from tests.support.commands import command
from tests.support.flows.logged_flows import COMPLETED, FAILED
from tests.support.servers.backends import migrated_pool

DEFINITIONS = ["a" * 63 + "1", "a" * 63 + "2", "b" * 64]
LIKE = [UUID(f"0193e4f0-1234-7{number:03x}-8000-000000000000") for number in range(8)]


async def append(url: str, flow_id: UUID, *kinds: FlowEventKind) -> None:
    await append_all(url, {flow_id: kinds})


async def append_all(url: str, flows: Mapping[UUID, Sequence[FlowEventKind]]) -> None:
    async with await migrated_pool(url, max_size=1) as pool:
        store = PgEventStore(PoolProvider(pool))
        for flow_id, kinds in flows.items():
            await store.append_kinds(flow_id, list(kinds))
        await store.aclose()


async def drawn(url: str, *arguments: str, columns: int) -> list[str]:
    _, written = await asyncio.to_thread(
        on_a_terminal, *arguments, "--database-url", url, columns=columns
    )
    return ESCAPE.sub("", written).splitlines()


@pytest.mark.parametrize("columns", [50, 60])
async def test_a_narrow_list_shortens_ids_to_prefixes_that_name_a_flow(
    database_url: str, columns: int
) -> None:
    begun = (FlowInitialized("a" * 64, 2), StepStarted(0, "embed"))
    await append_all(database_url, dict.fromkeys(LIKE, begun))
    heading, *rows = await drawn(database_url, "flows", columns=columns)
    assert heading.split() == ["flow", "state", "steps", "began"]
    assert [row for row in rows if len(row) > columns or "\u2026" in row] == []
    firsts = [row.split()[0] for row in rows if row[0] != " "]
    assert sorted(firsts) == sorted(str(flow_id)[: len(firsts[0])] for flow_id in LIKE)
    assert all("running" in row and row.endswith(" s ago") for row in rows if row[0] != " ")
    for first in firsts[:2]:
        assert (await command("show", first, "--database-url", database_url)).returncode == 0


@pytest.mark.parametrize("columns", [30, 40, 60])
@pytest.mark.parametrize(
    "arguments", [["flows"], ["replay", "bbbb"], ["show", "bbbb"], ["stats"], ["status"]]
)
async def test_no_id_state_time_or_number_is_cut_on_a_narrow_terminal(
    refreshed_url: str, arguments: Sequence[str], columns: int
) -> None:
    lines = await drawn(refreshed_url, *arguments, columns=columns)
    assert [line for line in lines if len(line) > columns] == []
    text = " ".join(" ".join(lines).split())
    whole = {
        "flows": ["completed", "failed", " ago"],
        "replay": ["finished", "failed", "UTC", str(FAILED)[:8]],
        "show": ["finished", "failed", "UTC", str(FAILED)[:8]],
        "stats": ["acquire", "laboratory.Spilled"],
        "status": ["event_log", "workflow_step_artifacts", "KiB"],
    }
    assert [word for word in whole[arguments[0]] if word not in text.replace("- ", "-")] == []


AMBIGUOUS: list[tuple[list[str], list[str]]] = [
    (["show", "0193e4f0"], [str(flow_id) for flow_id in LIKE[:5]] + [" and more"]),
    (["tail", "0193e4f01234700"], [str(flow_id) for flow_id in LIKE[:5]]),
    (["flows", "--definition", "aaaa"], DEFINITIONS[:2]),
    (["flows", "--before", "0193-e4f0"], [str(LIKE[0])]),
]


async def test_an_ambiguous_prefix_lists_what_it_could_mean(database_url: str) -> None:
    begun = {
        flow_id: [FlowInitialized(DEFINITIONS[number % 3], 1)]
        for number, flow_id in enumerate(LIKE)
    }
    await append_all(database_url, begun)
    for arguments, listed in AMBIGUOUS:
        done = await command(*arguments, "--database-url", database_url)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"begin with {arguments[-1]}: " in done.stderr
        assert [text for text in listed if text not in done.stderr] == []


async def test_flows_are_chosen_by_the_beginning_of_a_definition(database_url: str) -> None:
    begun = {
        flow_id: [FlowInitialized(definition, 1)]
        for flow_id, definition in zip(LIKE, DEFINITIONS, strict=False)
    }
    await append_all(database_url, begun)
    for typed in ("bbbb", "b" * 20, "B" * 64, "b" * 64):
        said = await command(
            "flows", "--definition", typed, "--json", "--database-url", database_url
        )
        listed = json.loads(said.stdout)["flows"]
        assert [flow["flow_id"] for flow in listed] == [str(LIKE[2])], typed


@pytest.mark.parametrize(
    ("message", "line"),
    [
        ("too hot\n", "E: too hot"),
        ("a\r\n  b\n\n", "E: a b"),
        ("\n", "E"),
        ("one\x1b[2J\n", "E: one\\x1b[2J"),
    ],
)
async def test_line_breaks_of_an_error_are_not_printed(
    database_url: str, message: str, line: str
) -> None:
    failed = StepFailed(0, "weigh", StepError("E", message, ""), "f" * 64)
    await append(
        database_url, FAILED, FlowInitialized("a" * 64, 1), StepStarted(0, "weigh"), failed
    )
    await append(database_url, COMPLETED, FlowInitialized("a" * 64, 1))
    for name, *flows in (
        ("flows",),
        ("show", "bbbb"),
        ("replay", "bbbb"),
        ("diff", COMPLETED, FAILED),
        ("tail",),
    ):
        done = await command(name, *flows, "--database-url", database_url)
        assert "\\n" not in done.stdout
        assert re.search(rf"(?:^| ){re.escape(line)}:?$", done.stdout, re.MULTILINE), name


async def test_line_breaks_of_a_question_and_of_a_retrys_reason_are_not_printed(
    database_url: str,
) -> None:
    asked = UserInteractionRequested(0, "weigh", {}, hint="which\n one?\n")
    retried = RetryScheduled("weigh", 1, "dry\nagain\n")
    failed = StepFailed(0, "weigh", StepError("E", "wet", ""), "f" * 64)
    started = StepStarted(0, "weigh")
    await append(
        database_url, FAILED, FlowInitialized("a" * 64, 1), started, failed, retried, started, asked
    )
    shown = (await command("show", "bbbb", "--database-url", database_url)).stdout
    assert "in weigh: which one?" in shown
    tailed = (await command("tail", "--database-url", database_url)).stdout
    assert tailed.count("weigh asks a person: which one?\n") == 1
    assert "weigh is retried (1): dry again" in tailed


HOSTILE = "\x1b[2J \x07 \x7f \x9b31m \u202e \u2066 \u200b \U000e0001 \u00a0"


async def test_json_has_no_character_that_changes_a_terminal(database_url: str) -> None:
    failed = StepFailed(0, HOSTILE.strip(), StepError("E", HOSTILE, HOSTILE), "f" * 64)
    await append(database_url, FAILED, FlowInitialized("a" * 64, 1), failed)
    for name, *flow in (("show", "bbbb"), ("tail",), ("flows",), ("replay", "bbbb")):
        done = await command(name, *flow, "--json", "--database-url", database_url)
        assert done.returncode == 0, done.stderr
        assert [c for c in done.stdout if not c.isprintable() and c != "\n"] == []
        values = [json.loads(line) for line in done.stdout.splitlines()]
        assert HOSTILE.strip() in " ".join(text for value in values for text in texts(value))


def texts(value: object) -> list[str]:
    match value:
        case dict():
            return [text for part in value.values() for text in texts(part)]
        case list():
            return [text for part in value for text in texts(part)]
        case str():
            return [value]
        case _:
            return []


@pytest.mark.parametrize(
    ("age", "printed"),
    [
        (timedelta(minutes=7), "7 min ago"),
        (timedelta(hours=3), "3 h ago"),
        (timedelta(days=12), "12 d ago"),
    ],
)
async def test_a_dead_flow_shows_the_time_since_its_last_event(
    database_url: str, admin_url: str, age: timedelta, printed: str
) -> None:
    await append(database_url, FAILED, FlowInitialized("a" * 64, 1), StepStarted(0, "weigh"))
    connection = await asyncpg.connect(admin_url)
    await connection.execute("SET session_replication_role = replica")
    await connection.execute("UPDATE event_log SET ts = $1", datetime.now(UTC) - age)
    await connection.close()
    listed = (await command("flows", "--database-url", database_url)).stdout
    assert f"last event {printed}" in listed
    shown = (await command("show", "bbbb", "--database-url", database_url)).stdout
    assert f", the last {printed}" in shown
