"""What `doctor` and `status` print of a schema that is damaged: a finding and a remedy."""

import json
from typing import Any

import asyncpg
import pytest

from chem_persistence.postgres.schema.describe import library_tables
from tests.support.commands import command
from tests.support.flows.logged_flows import logged_flows

FEW = "archived_flows, artifact_statistics, event_log"


async def damaged(url: str, statement: str) -> None:
    await logged_flows(url)
    connection = await asyncpg.connect(url)
    await connection.execute(statement)
    await connection.close()


async def parsed(name: str, url: str) -> Any:
    done = await command(name, "--json", "--database-url", url)
    assert (done.returncode, done.stderr) == (1, "")
    return json.loads(done.stdout)


async def errors(url: str) -> dict[str, str | None]:
    checks = (await parsed("doctor", url))["checks"]
    return {check["finding"]: check["remedy"] for check in checks if check["severity"] == "error"}


@pytest.mark.parametrize("table", sorted(library_tables() - {"schema_migrations"}))
async def test_a_table_that_was_dropped_is_a_finding_with_a_remedy(
    admin_url: str, table: str
) -> None:
    await damaged(admin_url, f"DROP TABLE {table} CASCADE")
    found = await errors(admin_url)
    remedy = found[f"table {table} is missing"]
    assert remedy is not None
    has_history = table in {
        "archived_flows",
        "event_log",
        "workflow_step_artifacts",
        "workflow_step_artifact_chunks",
        "workflow_step_artifact_uses",
    }
    # its CREATE TABLE is all that it needs
    is_alone = table in {"flow_workers", "imported_flows", "resource_slots", "feed_parked"} | {
        "step_durations",
        "failure_statistics",
        "hourly_throughput",
        "artifact_statistics",
        "statistics_refresh",
    }
    beginning = "CREATE TABLE " if is_alone else "less "
    assert remedy.startswith("# restore the database from a backup" if has_history else beginning)
    assert [finding for finding in found if "index" in finding or "trigger" in finding] == []
    status = await parsed("status", admin_url)
    assert status["schema_state"] == "unusable"
    assert table in status["trouble"]
    said = (await command("status", "--database-url", admin_url)).stdout
    assert "; type chem-persistence doctor --database-url URL" in " ".join(said.split())


async def test_the_record_of_migrations_that_was_dropped_is_a_finding(admin_url: str) -> None:
    await damaged(admin_url, "DROP TABLE schema_migrations")
    (found,) = (await errors(admin_url)).items()
    assert found == (
        f"schema public has {FEW} and 17 more tables, but no record of its migrations",
        "# restore the table schema_migrations from a backup",
    )
    assert (await parsed("status", admin_url))["schema_state"] == "unusable"


@pytest.mark.parametrize(
    ("statement", "finding"),
    [
        ("DROP VIEW flows", "view flows is missing"),
        ("DROP INDEX event_log_completed_idx", "index event_log_completed_idx is missing"),
        ("DROP FUNCTION feed_end", "function feed_end is missing"),
        ("DROP FUNCTION append_events", "function append_events is missing"),
        ("DROP FUNCTION append_rows", "function append_rows is missing"),
        ("DROP FUNCTION append_one", "function append_one is missing"),
        ("DROP TRIGGER event_log_append_only ON event_log", "event_log_append_only is missing"),
    ],
)
async def test_another_object_that_was_dropped_is_a_finding_with_a_remedy(
    admin_url: str, statement: str, finding: str
) -> None:
    await damaged(admin_url, statement)
    ((found, remedy),) = (await errors(admin_url)).items()
    assert finding in found
    assert remedy


@pytest.mark.parametrize("name", ["version", "ts", "payload"])
async def test_a_column_that_was_dropped_is_a_finding(admin_url: str, name: str) -> None:
    await damaged(admin_url, f"ALTER TABLE event_log DROP COLUMN {name} CASCADE")
    found = [finding for finding in await errors(admin_url) if f"column {name}" in finding]
    assert found


@pytest.mark.parametrize(
    ("statement", "missing"),
    [
        ("ALTER TABLE event_log DROP COLUMN version CASCADE", "column event_log.version"),
        ("ALTER TABLE event_log DROP COLUMN metadata", "column event_log.metadata"),
        ("ALTER TABLE event_log RENAME ts TO at", "column event_log.ts"),
        ("ALTER TABLE flow_snapshots DROP COLUMN state", "column flow_snapshots.state"),
        ("ALTER TABLE schema_migrations DROP COLUMN applied_at", "schema_migrations.applied_at"),
        ("DROP VIEW flows", "view flows"),
        ("DROP TABLE step_statistics", "table step_statistics"),
        ("DROP FUNCTION append_events", "function append_events"),
        ("DROP FUNCTION feed_end", "function feed_end"),
    ],
)
async def test_22_status_names_what_is_missing_and_exits_with_1(
    admin_url: str, statement: str, missing: str
) -> None:
    await damaged(admin_url, statement)
    status = await parsed("status", admin_url)
    assert status["schema_state"] == "unusable"
    assert missing in status["trouble"]
    done = await command("status", "--database-url", admin_url)
    assert (done.returncode, done.stderr) == (1, "")
    assert "type chem-persistence doctor" in " ".join(done.stdout.split())


@pytest.mark.parametrize("kind", ["INDEX event_log_completed_idx", "TRIGGER event_log_append_only"])
async def test_22_status_leaves_what_reads_do_without_to_doctor(admin_url: str, kind: str) -> None:
    table = " ON event_log" if kind.startswith("TRIGGER") else ""
    await damaged(admin_url, f"DROP {kind}{table}")
    done = await command("status", "--json", "--database-url", admin_url)
    assert (done.returncode, json.loads(done.stdout)["schema_state"]) == (0, "current")
