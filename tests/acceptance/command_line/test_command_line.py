"""The commands, each as a user types it, on a log of two flows."""

import hashlib
import json
import os
import re
from pathlib import Path
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from chem_persistence import (
    Artifact,
    FlowEventKind,
    FlowInitialized,
    PgEventStore,
    PoolProvider,
    RetryScheduled,
    StepError,
    StepFailed,
    StepFinished,
    StepSignal,
    StepStarted,
    UserInteractionProvided,
    UserInteractionRequested,
)
from chem_persistence.cli.app import app
from chem_persistence.postgres.schema.migrations import known_migrations, migrate
from tests.support.commands import command, command_names, help_of
from tests.support.flows.flows import initialized
from tests.support.flows.logged_flows import (
    BINARY,
    COMPLETED,
    FAILED,
    HOSTILE,
    JSON_ARTIFACT,
)
from tests.support.servers.backends import migrated_pool

LAST = len(known_migrations())
NOWHERE = "postgresql://nobody@localhost:1/none"


async def output(*arguments: object, code: int = 0) -> str:
    done = await command(*arguments)
    assert (done.returncode, done.stderr) == (code, "")
    return done.stdout


async def parsed(*arguments: object, code: int = 0) -> Any:
    return json.loads(await output(*arguments, "--json", code=code))


async def complaint(*arguments: object, code: int = 2) -> str:
    done = await command(*arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


@pytest.mark.parametrize("name", command_names(app))
def test_help_says_what_a_command_does_and_takes(name: str) -> None:
    said = help_of(app, name)
    assert said.startswith(f"Usage: chem-persistence {name} ")
    assert "--json" in said
    assert "--database-url" in said


async def test_flows_lists_the_newest_first_and_says_why_one_failed(url: str) -> None:
    heading, failed, completed = (await output("flows", "--database-url", url)).splitlines()
    assert heading.split() == ["flow", "state", "steps", "began", "events", "took", "failure"]
    assert failed.startswith(f"{FAILED}  failed ")
    assert "laboratory.Spilled" in failed
    assert completed.startswith(f"{COMPLETED}  completed    3/3  ") or "completed" in completed


async def test_flows_gives_pages(url: str) -> None:
    first = await parsed("flows", "--database-url", url, "-n", 1)
    assert [flow["flow_id"] for flow in first["flows"]] == [str(FAILED)]
    assert first["next"] == str(FAILED)
    second = await parsed("flows", "--database-url", url, "-n", 1, "--before", first["next"])
    assert [flow["flow_id"] for flow in second["flows"]] == [str(COMPLETED)]
    assert second["next"] is None
    assert second["flows"][0]["state"] == "completed"


async def test_flows_chooses_by_state_and_definition(url: str) -> None:
    listed = await parsed("flows", "--database-url", url, "--state", "failed")
    assert [flow["flow_id"] for flow in listed["flows"]] == [str(FAILED)]
    assert await output("flows", "--database-url", url, "--definition", "f" * 64) == "no flows\n"


async def test_show_draws_every_attempt_and_tells_artifacts_and_errors(url: str) -> None:
    said = await output("show", "bbbb", "--database-url", url)
    attempts = [line for line in said.splitlines() if "━" in line]
    assert [line.split()[-1] for line in attempts] == ["failed", "finished", "failed"]
    assert (
        f"{BINARY.hash[:12]}  spectrum (application/octet-stream)  10 KiB  output of step acquire"
        in said
    )
    assert "error in acquire, try 1: laboratory.Spilled: " in said


async def test_show_lists_the_first_artifacts_and_counts_the_others(database_url: str) -> None:
    artifacts = [Artifact.from_payload(kind="Number", payload=number) for number in range(60)]
    outputs = tuple(artifact.hash for artifact in artifacts)
    async with await migrated_pool(database_url, max_size=1) as pool:
        kinds: list[FlowEventKind] = [
            initialized(),
            StepStarted(0, "acquire"),
            StepFinished(0, "acquire", outputs, "f" * 64),
        ]
        store = PgEventStore(PoolProvider(pool))
        await store.append_kinds(COMPLETED, kinds, artifacts=artifacts, expected_version=0)
    said = (await output("show", COMPLETED, "--database-url", database_url)).splitlines()
    assert len([line for line in said if "step acquire" in line]) == 50
    assert said[-1] == "and 10 more: --json has them all"
    told = await parsed("show", COMPLETED, "--database-url", database_url)
    assert [artifact["hash"] for artifact in told["artifacts"]] == list(outputs)


async def test_show_names_every_step_that_gave_an_artifact(url: str) -> None:
    told = await parsed("show", COMPLETED, "--database-url", url)
    assert [(artifact["version"], artifact["role"]) for artifact in told["artifacts"]] == [
        (2, "output of steps acquire, compute, report")
    ]


async def test_show_as_json_has_every_attempt(url: str) -> None:
    told = await parsed("show", FAILED, "--database-url", url)
    outcomes = [[attempt["outcome"] for attempt in step["attempts"]] for step in told["steps"]]
    assert outcomes == [["failed", "finished"], ["failed"]]
    assert told["steps"][0]["retry_count"] == 1
    assert told["artifacts"][0]["hash"] == BINARY.hash
    assert told["artifacts"][0]["content_bytes"] == 10_240


async def test_show_prints_the_question_that_a_flow_waits_for(database_url: str) -> None:
    asks = UserInteractionRequested(0, "acquire", {}, f"which one? {HOSTILE}")
    await append(database_url, FAILED, initialized(), StepStarted(0, "acquire"), asks)
    last = (await output("show", FAILED, "--database-url", database_url)).splitlines()[-1]
    assert last.startswith("question in acquire: which one? ")
    assert "\x1b" not in last
    await append(database_url, FAILED, UserInteractionProvided(0, "acquire", {}))
    assert "question" not in await output("show", FAILED, "--database-url", database_url)


async def test_show_says_of_a_flow_that_was_not_initialized_what_is_not_known(
    database_url: str,
) -> None:
    await append(database_url, FAILED, StepSignal(0, "acquire", "warm"))
    said = (await output("show", FAILED, "--database-url", database_url)).splitlines()
    assert [line.split(maxsplit=1)[0] for line in said] == [
        "flow",
        "state",
        "steps",
        "began",
        "definition",
    ]
    assert said[2].split(maxsplit=1)[1] == "0 of ? finished"
    assert said[4].split(maxsplit=1)[1] == "not initialized"


async def test_show_writes_a_page(url: str, tmp_path: Path) -> None:
    done = await command("show", "aaaa", "--html", tmp_path / "page.html", "--database-url", url)
    assert (done.returncode, done.stderr) == (0, f"page written to {tmp_path / 'page.html'}\n")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert str(COMPLETED) in page


async def test_tail_prints_the_last_events_in_order(url: str) -> None:
    lines = (await output("tail", "--database-url", url, "-n", 3)).splitlines()
    assert [line[36:40].strip() for line in lines] == ["5", "6", "7"]
    assert lines[0].endswith(f"F acquire finished: {BINARY.hash[:12]}")


async def test_tail_of_a_flow_has_only_its_events_and_json_is_a_line_each(url: str) -> None:
    lines = (await output("tail", "aaaa", "-n", 2, "--database-url", url, "--json")).splitlines()
    events = [json.loads(line) for line in lines]
    assert [(event["flow_id"], event["version"]) for event in events] == [
        (str(COMPLETED), 6),
        (str(COMPLETED), 7),
    ]
    assert events[-1]["kind"]["type"] == "flowcompleted"


async def test_replay_gives_the_state_after_a_version(url: str) -> None:
    at = {
        version: await parsed("replay", FAILED, "--at", version, "--database-url", url)
        for version in (2, 3, 5)
    }
    assert [at[version]["steps"][0]["status"] for version in at] == [
        "failed",
        "pending",
        "finished",
    ]
    assert [at[version]["version"] for version in at] == [3, 4, 6]
    assert at[5]["steps"][0]["outputs"] == [BINARY.hash]
    assert at[5]["cursor"] == 1


async def test_replay_gives_the_state_at_a_time(url: str) -> None:
    third = (await parsed("replay", FAILED, "--at", 2, "--database-url", url))["at"]
    for time in (third, third.replace("Z", "+00:00")):
        at_time = await parsed("replay", FAILED, "--at", time, "--database-url", url)
        assert at_time["version"] >= 3
        assert at_time["at"] <= third
    wrong = await complaint("replay", FAILED, "--at", "1999-01-01T00:00Z", "--database-url", url)
    assert "had no event at that time; it began at " in wrong


async def test_replay_shows_a_step_that_no_event_names_as_unknown(url: str) -> None:
    last = (await output("replay", "bbbb", "--database-url", url)).splitlines()[-1]
    assert last.split() == ["2", "?", "pending", "0", "0"]
    told = await parsed("replay", "bbbb", "--database-url", url)
    assert told["steps"][2]["step_id"] is None


async def test_replay_of_events_that_contradict_each_other_finds_that(
    own_url: str, admin_url: str
) -> None:
    connection = await asyncpg.connect(admin_url)
    await connection.execute("SET session_replication_role = replica")
    await connection.execute(
        "UPDATE event_log SET payload = jsonb_set(payload, '{retry_index}', '7') "
        "WHERE event_type = 'retryscheduled'"
    )
    await connection.close()
    said = await complaint("replay", FAILED, "--database-url", own_url, code=1)
    assert said == f"error: flow {FAILED}, version 3: retry 7 follows retry 0\n"


async def test_diff_of_a_flow_with_itself_finds_nothing(url: str) -> None:
    said = await output("diff", COMPLETED, COMPLETED, "--database-url", url)
    assert said == "the same: definition, input, steps, outputs and fingerprints\n"


async def test_diff_names_what_differs_and_the_exit_code_is_1(url: str) -> None:
    told = await parsed("diff", COMPLETED, FAILED, "--database-url", url, code=1)
    assert told["same"] is False
    assert {"step": None, "what": "state", "left": "completed", "right": "failed"} in told[
        "differences"
    ]
    outputs = [
        part for part in told["differences"] if (part["step"], part["what"]) == (0, "outputs")
    ]
    assert [(part["left"], part["right"]) for part in outputs] == [
        ([JSON_ARTIFACT.hash], [BINARY.hash])
    ]


async def test_diff_does_not_call_a_step_different_that_one_flow_has_not_begun(url: str) -> None:
    told = await parsed("diff", COMPLETED, FAILED, "--database-url", url, code=1)
    of_the_last = [part["what"] for part in told["differences"] if part["step"] == 2]
    assert of_the_last == ["status", "fingerprint", "outputs"]


async def append(url: str, flow_id: UUID, *kinds: FlowEventKind) -> None:
    async with await migrated_pool(url, max_size=1) as pool:
        await PgEventStore(PoolProvider(pool)).append_kinds(flow_id, list(kinds))


async def test_diff_does_not_compare_the_errors_that_retries_mended(database_url: str) -> None:
    finished = StepFinished(0, "acquire", (), "f" * 64)
    failed = StepFailed(0, "acquire", StepError("laboratory.Spilled", "wet", ""), "f" * 64)
    tried: list[FlowEventKind] = [
        StepStarted(0, "acquire"),
        failed,
        RetryScheduled("acquire", 1, "wiped up"),
    ]
    await append(database_url, COMPLETED, initialized(), StepStarted(0, "acquire"), finished)
    await append(database_url, FAILED, initialized(), *tried, StepStarted(0, "acquire"), finished)
    assert (await parsed("diff", COMPLETED, FAILED, "--database-url", database_url))["same"] is True


async def test_diff_shows_the_error_of_a_step_that_stands_failed(url: str) -> None:
    told = await parsed("diff", COMPLETED, FAILED, "--database-url", url, code=1)
    errors = [
        (part["step"], part["right"]) for part in told["differences"] if part["what"] == "error"
    ]
    assert errors == [(1, f"laboratory.Spilled: {HOSTILE}")]


async def test_diff_cuts_hashes_and_no_other_text_of_their_length(database_url: str) -> None:
    ids, messages = ["a" * 64, "b" * 64], ["x" * 61, "y" * 61]
    for flow_id, step, message in zip((COMPLETED, FAILED), ids, messages, strict=True):
        failed = StepFailed(0, step, StepError("E", message, ""), "f" * 64)
        await append(database_url, flow_id, FlowInitialized(step, 1), StepStarted(0, step), failed)
    rows = (
        await output("diff", COMPLETED, FAILED, "--database-url", database_url, code=1)
    ).splitlines()
    assert [row.split()[-2:] for row in rows if " definition " in row] == [["a" * 12, "b" * 12]]
    assert [row.split()[-2:] for row in rows if " id " in row] == [ids]
    assert [row.split()[-3::2] for row in rows if " error " in row] == [messages]


async def test_diff_does_not_call_no_step_and_no_outputs_different(database_url: str) -> None:
    await append(database_url, COMPLETED, FlowInitialized("a" * 64, 4))
    await append(database_url, FAILED, FlowInitialized("a" * 64, 5))
    told = await parsed("diff", COMPLETED, FAILED, "--database-url", database_url, code=1)
    assert told["differences"] == [{"step": 4, "what": "status", "left": None, "right": "pending"}]


async def test_one_is_counted_as_one(database_url: str) -> None:
    for flow_id, definition in ((COMPLETED, "a" * 64), (FAILED, "b" * 64)):
        await append(database_url, flow_id, FlowInitialized(definition, 1))
    at = ("--database-url", database_url)
    assert (await output("diff", COMPLETED, FAILED, *at, code=1)).endswith("\n1 difference\n")
    assert "; 1 event in 0 ms, the last " in await output("show", COMPLETED, *at)
    assert "1 of 1 event, at" in await output("replay", COMPLETED, *at)
    assert "initialized: 1 step, definition" in await output("tail", COMPLETED, *at)
    verified = await output("verify", "--flow", COMPLETED, *at)
    assert verified == "1 flow, 1 event, 0 artifacts verified\nclean\n"


async def test_an_artifact_goes_into_a_file_byte_for_byte(url: str, tmp_path: Path) -> None:
    path = tmp_path / "spectrum"
    done = await command("artifact", "get", BINARY.hash[:8], "-o", path, "--database-url", url)
    assert (done.returncode, done.stdout) == (0, "")
    assert path.read_bytes() == BINARY.content
    assert [file.name for file in tmp_path.iterdir()] == ["spectrum"]


async def test_an_artifact_on_standard_output_has_its_hash(url: str) -> None:
    said = await output("artifact", "get", JSON_ARTIFACT.hash, "--database-url", url)
    assert hashlib.sha256(said.encode()).hexdigest() == JSON_ARTIFACT.hash


async def test_an_artifact_is_described_as_json(url: str) -> None:
    told = await parsed("artifact", "get", BINARY.hash, "--database-url", url)
    assert (told["kind"], told["content_bytes"], told["flow_id"]) == (
        "spectrum",
        10_240,
        str(FAILED),
    )
    assert told["version"] == 5


async def test_of_a_corrupt_artifact_no_file_is_left(
    own_url: str, admin_url: str, tmp_path: Path
) -> None:
    connection = await asyncpg.connect(admin_url)
    await connection.execute("SET session_replication_role = replica")
    await connection.execute(
        "UPDATE workflow_step_artifacts SET content = '\\x00' WHERE kind = 'spectrum'"
    )
    await connection.close()
    said = await complaint(
        "artifact", "get", BINARY.hash, "-o", tmp_path / "copy", "--database-url", own_url, code=1
    )
    assert BINARY.hash in said
    assert list(tmp_path.iterdir()) == []


async def test_stats_are_those_of_the_last_refresh(own_url: str, admin_url: str) -> None:
    before = await command("stats", "--json", "--database-url", own_url)
    assert (before.returncode, json.loads(before.stdout)["steps"]) == (0, [])
    assert before.stderr.startswith("nothing was in the log at ")
    refreshed = await parsed("refresh", "--database-url", admin_url)
    after = await parsed("stats", "--database-url", own_url)
    assert after["refreshed_at"] == refreshed["refreshed_at"]
    acquire = next(step for step in after["steps"] if step["step_id"] == "acquire")
    assert (acquire["executions"], acquire["failures"], acquire["retries"]) == (2, 1, 1)
    said = await output("stats", "--database-url", own_url)
    assert "acquire: laboratory.Spilled" in said
    assert re.search(r"^hour +events  begun  completed  step failures$", said, re.MULTILINE)
    assert "━" in said


async def test_stats_before_a_refresh_say_that_nothing_was_counted(url: str) -> None:
    said = await output("stats", "--database-url", url)
    assert re.fullmatch(
        r"nothing was in the log at .{19} UTC, when the statistics were last refreshed; the "
        r"owner of the tables refreshes them: chem-persistence refresh --database-url URL\n",
        said,
    )


async def test_stats_have_no_heading_without_rows(database_url: str, admin_url: str) -> None:
    await append(database_url, FAILED, initialized())
    await output("refresh", "--database-url", admin_url)
    parts = (await output("stats", "--database-url", database_url)).split("\n\n")
    assert [part.split()[0] for part in parts] == ["as", "hour"]


async def test_rebuild_repairs_the_step_rows_and_says_how_many(
    own_url: str, admin_url: str
) -> None:
    assert "nothing had to be rebuilt" in await output("rebuild", "--database-url", own_url)
    connection = await asyncpg.connect(admin_url)
    await connection.execute("UPDATE workflow_step_executions SET attempts = 99")
    await connection.close()
    told = await parsed("rebuild", "--database-url", admin_url)
    assert told == {
        "projection": "workflow_step_executions",
        "flows": 2,
        "events": 16,
        "rebuilt": 2,
    }


async def test_status_counts_what_there_is(url: str) -> None:
    told = await parsed("status", "--database-url", url)
    assert (told["schema_state"], told["schema_version"], told["library_version"]) == (
        "current",
        LAST,
        LAST,
    )
    rows = {table["name"]: table["rows"] for table in told["tables"] if table["exact"]}
    assert rows == {"event_log": 16, "workflow_step_artifacts": 2}
    assert "which is this library's" in await output("status", "--database-url", url)


async def test_doctor_finds_a_sound_database_sound(own_url: str) -> None:
    told = await parsed("doctor", "--database-url", own_url)
    assert told["sound"] is True
    assert {check["check"] for check in told["checks"]} >= {
        "server",
        "schema",
        "objects",
        "rights",
        "clock",
    }
    assert (await output("doctor", "--database-url", own_url)).splitlines()[-1] == "all is well"


async def test_doctor_says_what_to_type_and_the_exit_code_is_1(
    own_url: str, admin_url: str
) -> None:
    connection = await asyncpg.connect(admin_url)
    await connection.execute("DROP INDEX event_log_completed_idx")
    await connection.close()
    said = await output("doctor", "--database-url", own_url, code=1)
    assert "error  indexes       index event_log_completed_idx is missing" in said
    assert "CREATE INDEX event_log_completed_idx ON event_log" in said
    assert said.splitlines()[-1] == "1 to look after"


async def test_migrate_says_what_it_applied(empty_database_url: str) -> None:
    before = await parsed("status", "--database-url", empty_database_url, code=1)
    assert (before["schema_state"], before["schema_version"]) == ("missing", 0)
    told = await parsed("migrate", "--database-url", empty_database_url)
    assert told["version"] == LAST
    assert [migration["version"] for migration in told["applied"]] == list(range(1, LAST + 1))
    assert await output("migrate", "--database-url", empty_database_url) == (
        f"schema public is at migration {LAST}, which is this library's\n"
    )


async def test_migrate_says_before_what_it_will_lock_and_changes_nothing(
    empty_database_url: str,
) -> None:
    known = known_migrations()
    first = next(each.version for each in known if each.name == "one_check")
    connection = await asyncpg.connect(empty_database_url)
    try:
        await migrate(connection, "public", known[: first - 1])
        for _ in range(2):  # the second time it is still to be applied
            said = await output("migrate", "--plan", "--database-url", empty_database_url)
            lines = [" ".join(line.split()) for line in said.splitlines()]
            number = f"{first:04} one_check event_log"
            assert f"{number} access exclusive reads and appends milliseconds" in lines
            end = "share update exclusive nothing after the commit, reads 0 rows"
            assert f"{number} {end}" in lines
        told = await parsed("migrate", "--plan", "--database-url", empty_database_url)
        assert (told["locks"][0]["table"], told["locks"][0]["mode"]) == (
            "event_log",
            "ACCESS EXCLUSIVE",
        )
        await migrate(connection, "public")
    finally:
        await connection.close()
    assert await output("migrate", "--plan", "--database-url", empty_database_url) == (
        "0 migrations to apply, in one transaction\n"
    )


async def test_a_command_that_looks_does_not_migrate(empty_database_url: str) -> None:
    said = await complaint("flows", "--database-url", empty_database_url, code=3)
    assert said.endswith(
        "has no tables of this library: chem-persistence migrate --database-url URL\n"
    )
    after = await parsed("status", "--database-url", empty_database_url, code=1)
    assert after["schema_state"] == "missing"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["flows", "--nope"], "--nope"),
        (["show", "--nope"], "(try: chem-persistence show --help)"),
        (["flows", "--state", "asleep"], "Invalid value for '--state': 'asleep' is not one of"),
        (["flows", "--limit", "0"], "Invalid value for '--limit'"),
        (["show"], "Missing argument 'FLOW'"),
        (["tail", "-n", "-1"], "Invalid value for '--lines'"),
        (["diff", "aaaa"], "Missing argument 'FLOW'"),
        (["rebuild", "flows"], "Invalid value for 'PROJECTION': 'flows' is not"),
        (["stats", "--schema", "pg_x"], "schema: information_schema and names that begin with pg_"),
        (
            ["refresh", "--data", "d"],
            "--data: cannot be combined with --database-url: give one of them",
        ),
        (["status", "now"], "unexpected extra argument"),
        (["doctor", "--pool-size", "many"], "Invalid value for '--pool-size'"),
        (["migrate", "--schema", ""], "schema: must have 1 to 63 bytes"),
        (["demo", "--html", "/nowhere/page.html"], "--html: there is no directory /nowhere"),
        (["artifact", "put"], "No such command 'put'"),
        (["molecules"], "No such command 'molecules'"),
    ],
)
async def test_a_mistake_is_one_line_and_the_exit_code_is_2(
    arguments: list[str], said: str
) -> None:
    assert said in await complaint(*arguments, "--database-url", NOWHERE)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ["show", "benzene"],
            "'benzene' is not the id of a flow, nor a beginning of 4 hexadecimal digits or more",
        ),
        (["show", "abc"], "'abc' is not the id of a flow"),
        (["show", "cccc"], "there is no flow whose id begins with cccc"),
        (["show", str(COMPLETED).replace("1", "3")], "there is no flow aaaa"),
        (
            ["show", "aaaa", "--html", "/nowhere/page.html"],
            "error: /nowhere/page.html: No such file or directory",
        ),
        (["show", "aaaa", "--html", "/"], "error: /: Is a directory"),
        (
            ["artifact", "get", BINARY.hash, "-o", "/nowhere/s"],
            "error: /nowhere/s: No such file or directory",
        ),
        (["artifact", "get", BINARY.hash, "-o", "/"], "error: /: Is a directory"),
        (["verify", "--flow", "benzene"], "--flow: 'benzene' is not the id of a flow"),
        (["verify", "--flow", "cccc"], "there is no flow whose id begins with cccc"),
        (
            ["verify", "--flow", str(COMPLETED), "--flow", "0" * 32],
            "--flow: there is no flow 00000000-",
        ),
        (["verify", "--anchors", "/nowhere"], "error: /nowhere: No such file or directory"),
        (["replay", "aaaa", "--at", "8"], f"--at: flow {COMPLETED} has the versions 0 to 7"),
        (["artifact", "get", "xyz"], "'xyz' is not the hash of an artifact"),
        (["artifact", "get", "0" * 64], f"no artifact has the hash {'0' * 64}"),
        (["artifact", "get", "0" * 10], "there is no artifact whose hash begins with 0000000000"),
        (
            ["flows", "--definition", "5fba"],
            "--definition: there is no definition whose hash begins with 5fba",
        ),
        (["flows", "--definition", "x"], "--definition: 'x' is not the hash of a definition"),
        (["flows", "--before", "cccc"], "--before: there is no flow whose id begins with cccc"),
        (["flows", "-n", "9" * 20], "limit: must not be negative, nor more than 64 bits can count"),
        (["tail", "-n", "9" * 20], "count: must not be negative, nor more than 64 bits can count"),
        (
            ["tail", "aaaa", "-n", "9" * 20],
            "count: must not be negative, nor more than 64 bits can count",
        ),
        (["roles", "--owner", "public"], "owner: public, none and names that begin with pg_"),
    ],
)
async def test_what_is_not_there_is_one_line_and_the_exit_code_is_2(
    url: str, arguments: list[str], said: str
) -> None:
    assert said in await complaint(*arguments, "--database-url", url)


@pytest.mark.parametrize("name", [name for name in command_names(app) if name != "artifact get"])
async def test_a_server_that_is_not_there_is_one_line_and_the_exit_code_is_3(name: str) -> None:
    flows = {
        "show": ["aaaa"],
        "results": ["screen"],
        "artifact show": ["aaaa"],
        "artifact lineage": ["aaaa"],
        "replay": ["aaaa"],
        "diff": ["aaaa", "bbbb"],
        "lost": ["--events", os.devnull],
        "retry": ["aaaa", "--reason", "mended"],
        "cancel": ["aaaa", "--reason", "not needed"],
        "answer": ["aaaa", "one", "--json", "1", "--actor", "Ada"],
        "invalidate": ["aaaa", "one", "--reason", "wrong", "--actor", "Ada"],
        "audit": ["aaaa", "tests.support.faults.fleet:FLOW", "--actor", "Ada"],
        "branch": ["aaaa", "tests.support.faults.fleet:FLOW", "--reason", "other"],
        "export": ["aaaa", "run.zip"],
        "import": ["run.zip"],
        "seal": ["aaaa"],
        "archive": ["aaaa", "--to", os.curdir, "--actor", "Ada"],
        "submit": ["tests.support.faults.fleet:FLOW", '{"n": 1}'],
        "worker": ["tests.support.faults.fleet:FLOW"],
        "consumers release": ["counts", "aaaa"],
        "consumers reset": ["counts", "--to", "0"],
        "consumers resize": ["counts", "4"],
        "consumers remove": ["counts"],
    }
    said = await complaint(*name.split(), *flows.get(name, []), "--database-url", NOWHERE, code=3)
    assert said.startswith("error: the database is unavailable")


async def test_a_server_that_is_not_there_at_first_is_not_waited_for() -> None:
    said = await complaint("tail", "--follow", "--database-url", NOWHERE, code=3)
    assert said.startswith("error: the database is unavailable")
