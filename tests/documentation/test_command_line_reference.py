"""The reference of the command line agrees with the commands."""

import json
import re
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import asyncpg
import msgspec
import pytest
import pytest_asyncio

from chem_persistence import (
    Anchor,
    FlowEvent,
    InMemoryEventStore,
    PgEventStore,
    PgTransaction,
    PoolProvider,
    StepSignal,
    build_pool,
)
from chem_persistence.cli.app import app
from chem_persistence.cli.exit import BROKEN_PIPE, ExitCode
from chem_persistence.postgres.schema.migrations import known_migrations
from chem_persistence.store.transfer.anchors import writing_anchors
from tests.support.commands import command, command_names, help_of
from tests.support.flows.logged_flows import BINARY, JSON_ARTIFACT, logged_flows, shared_log
from tests.support.servers.server import TestServer

REFERENCE = (
    Path(__file__).parents[2] / "documentation" / "reference" / "command-line.md"
).read_text(encoding="utf-8")
ARGUMENTS: dict[str, list[str]] = {
    "flows": ["-n", "1", "--state", "failed"],
    "show": ["bbbb"],
    "tail": ["-n", "1"],
    "replay": ["bbbb"],
    "diff": ["aaaa", "bbbb"],
    "results": ["bbbb", "--limit", "1"],
    "artifact get": [BINARY.hash],
    "artifact show": [JSON_ARTIFACT.hash],
    "artifact lineage": [JSON_ARTIFACT.hash],
    "retry": ["bbbb", "--reason", "mended"],
    "cancel": ["bbbb", "--reason", "not needed"],
    "consumers release": ["counts", "bbbb"],
    "consumers reset": ["counts", "--to", "end"],
    "consumers resize": ["counts", "4"],
    "consumers remove": ["counts"],
    "invalidate": ["bbbb", "acquire", "--reason", "wrong", "--actor", "Ada"],
    "verify": ["--bundles", "."],
    "seal": ["aaaa"],
    "archive": ["aaaa", "--to", ".", "--actor", "Ada"],
}
NAMES = command_names(app)
READ = {"flows", "show", "tail", "replay", "diff", "stats", "results", "status", "doctor"} | {
    *("artifact get", "artifact show", "artifact lineage", "artifact list"),
    *("verify", "waiting", "workers", "limits"),
}
"""Commands that leave a log as it is."""
NEED_CITUS = {"distribute"}
"""Commands that fail on other servers; tests/postgres/schema/test_citus.py runs them."""
TAKE_JSON = {"answer"}
"""Commands whose option --json is an input; they print a line."""
END_ONLY_WHEN_TOLD = {"serve"}
"""Commands that tests/acceptance/explorer runs."""
NEED_A_MODULE = {"audit", "branch", "submit", "worker"}
"""Commands of flows in a module; tests/acceptance/command_line runs them."""


def section(name: str) -> str:
    """Return the section of the reference about a command."""
    begin = REFERENCE.index(f"### `{name}`\n")
    ends = [REFERENCE.find(mark, begin + 4) for mark in ("\n### ", "\n## ")]
    return REFERENCE[begin : min([end for end in ends if end > 0], default=len(REFERENCE))]


def documented(name: str) -> Any:
    """Read the example of a command's JSON."""
    found = re.search(r"```json\n(.*?)```", section(name), re.DOTALL)
    assert found is not None
    return json.loads(found[1])


def shape(value: Any) -> Any:
    """Return the keys of a value, and of the first object in each list; null has none."""
    match value:
        case {"type": _}:
            return None  # a fact: each kind has its own keys
        case dict():
            return {key: shape(part) for key, part in value.items()}
        case [first, *_]:
            return [shape(first)]
        case _:
            return None


def test_the_examples_are_of_this_librarys_schema() -> None:
    newest = known_migrations()[-1]
    status, migrate = documented("status"), documented("migrate")
    assert (status["schema_version"], status["library_version"]) == (newest.version, newest.version)
    applied = [{"version": newest.version, "name": newest.name}]
    assert migrate == {"schema": "public", "version": newest.version, "applied": applied}


def fits(real: Any, example: Any) -> bool:
    """Return whether two shapes have the same keys wherever both have any."""
    if isinstance(real, dict) and isinstance(example, dict):
        return real.keys() == example.keys() and all(fits(real[key], example[key]) for key in real)
    if isinstance(real, list) and isinstance(example, list):
        return fits(real[0], example[0])
    return real is None or example is None


def test_the_reference_has_every_command_and_no_other() -> None:
    named = re.findall(r"^### `(.+)`$", REFERENCE, re.MULTILINE)
    assert sorted(named) == sorted(NAMES)


def test_the_reference_has_every_exit_code_and_no_other() -> None:
    codes = {int(code) for code in re.findall(r"^\| (\d+) \|", REFERENCE, re.MULTILINE)}
    assert codes == {*ExitCode, BROKEN_PIPE, 130, 143}


@pytest.mark.parametrize("name", NAMES)
def test_every_option_that_the_reference_names_is_the_command_s(name: str) -> None:
    takes = help_of(app, name)
    named = set(re.findall(r"`(--[a-z-]+|-[a-z])\b", section(name)))
    assert {option for option in named if option not in takes} == set()


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def shared_url(server: TestServer) -> AsyncIterator[str]:
    async with shared_log(server, refreshed=True) as url:
        yield url


@pytest.mark.parametrize("name", sorted(READ))
async def test_the_json_of_a_command_that_reads_has_the_keys_of_the_reference(
    shared_url: str, tmp_path: Path, name: str
) -> None:
    arguments = ARGUMENTS.get(name, [])
    done = await command(
        *name.split(), *arguments, "--json", "--database-url", shared_url, cwd=tmp_path
    )
    assert done.stderr == ""
    assert done.returncode in {ExitCode.WELL, ExitCode.FOUND}
    check_keys(name, done.stdout)


def check_keys(name: str, said: str) -> None:
    real, example = shape(json.loads(said)), shape(documented(name))
    assert fits(real, example), f"{real} and {example}"


@pytest.mark.parametrize(
    "name", sorted(set(NAMES) - READ - NEED_CITUS - NEED_A_MODULE - TAKE_JSON - END_ONLY_WHEN_TOLD)
)
async def test_the_json_has_the_keys_of_the_reference(
    admin_url: str, tmp_path: Path, name: str
) -> None:
    url = (await logged_flows(admin_url)).url
    await command("refresh", "--database-url", url)
    arguments = ARGUMENTS.get(name, [])
    if name.startswith("consumers"):
        await park_a_flow(url)
    ending = uuid4().hex[:8]
    if name == "lost":
        arguments = await seen_in_another_log(tmp_path)
    if name in {"export", "import"}:
        arguments = await transferred(url, tmp_path, name)
    if name == "roles":
        arguments = [f"--{part}={part}_{ending}" for part in ("owner", "application", "reader")]
    done = await command(*name.split(), *arguments, "--json", "--database-url", url, cwd=tmp_path)
    assert done.stderr == ""
    assert done.returncode in {ExitCode.WELL, ExitCode.FOUND}
    check_keys(name, done.stdout)
    if name == "roles":
        await drop_roles(url, ending)


async def park_a_flow(url: str) -> None:
    """Create a consumer that has parked the flow whose id begins with bbbb."""
    async with await build_pool(url, max_size=2) as pool:
        store = PgEventStore(PoolProvider(pool))

        async def fail(events: Sequence[FlowEvent], _: PgTransaction) -> None:
            if str(events[0].flow_id).startswith("bbbb"):
                raise ValueError

        consumer = store.consumer("counts", parts=2)
        await consumer.run_to_end(fail, tries=2, page=1, poll_interval=0.01)


async def seen_in_another_log(directory: Path) -> list[str]:
    """Write a position, an event and an anchor that no log of the tests has."""
    store = InMemoryEventStore()
    event = await store.append_kind(uuid4(), StepSignal(0, "acquire", "progress"))
    position, events, anchors = (directory / name for name in ("position", "events", "anchors"))
    position.write_text((await store.position()).to_json(), encoding="utf-8")
    events.write_bytes(msgspec.json.encode(event))
    with writing_anchors(anchors, event.ts) as writer:
        writer.write(Anchor(event.flow_id, 1, "00" * 32))
    return [f"--position={position}", f"--events={events}", f"--anchors={anchors}"]


async def transferred(url: str, directory: Path, name: str) -> list[str]:
    """Return the arguments of `export` or `import`; the bundle of the latter is written first."""
    file = str(directory / "run.zip")
    if name == "export":
        return ["aaaa", file]
    await command("export", "aaaa", file, "--database-url", url)
    return [file]


def promised(name: str) -> list[str]:
    """Return what the reference shows of a command as patterns; three dots stand for any text."""
    found = re.search(rf"```text\n[$] chem-persistence {name}\n(.*?)```", section(name), re.DOTALL)
    assert found is not None
    return [".*".join(map(re.escape, line.split("..."))) for line in found[1].splitlines()]


async def test_what_the_reference_shows_is_what_is_printed(tmp_path: Path) -> None:
    for name in ("demo", "flows", "doctor"):
        own = {"COLUMNS": "80", "XDG_DATA_HOME": str(tmp_path / "share")}  # not the user's data
        done = await command(name, cwd=tmp_path, variables=own)
        assert (done.returncode, done.stderr) == (0, "")
        printed = done.stdout.splitlines()
        assert len(printed) == len(promised(name)), done.stdout
        for pattern, line in zip(promised(name), printed, strict=True):
            assert re.fullmatch(pattern, line)


async def drop_roles(url: str, ending: str) -> None:
    connection = await asyncpg.connect(url)
    for part in ("owner", "application", "reader"):
        await connection.execute(
            f"DROP OWNED BY {part}_{ending} CASCADE; DROP ROLE {part}_{ending}"
        )
    await connection.close()
