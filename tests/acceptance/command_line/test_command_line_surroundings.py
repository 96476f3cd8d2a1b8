"""The environment of the command line: URLs, terminals, pipes, signals, shells, hostile texts."""

import asyncio
import json
import os
import pty
import re
import shlex
import signal
import struct
import subprocess
import sys
import tempfile
import termios
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from fcntl import ioctl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

import pytest

from chem_persistence import PgEventStore, PoolProvider, build_pool, embedded_postgres
from tests.support.commands import COMMAND, FORKED, command, command_environment
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.flows.logged_flows import COMPLETED, FAILED
from tests.support.forks import ForkedProcess
from tests.support.servers.server import TestServer

NOWHERE = "postgresql://nobody@localhost:1/none"
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_a_terminal(*arguments: str, columns: int, **variables: str) -> tuple[int, str]:
    """Run a command on a terminal of this width; return its exit code and its output there."""
    controller, terminal = pty.openpty()
    ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    child = FORKED.start(
        arguments,
        streams=(terminal, terminal, terminal),
        variables=command_environment(TERM="xterm-256color", **variables),
    )
    os.close(terminal)
    written = b""
    while True:
        try:
            part = os.read(controller, 65_536)
        except OSError:  # how Linux reports that the other side is closed
            part = b""
        if not part:
            break
        written += part
    os.close(controller)
    return child.wait(), written.decode()


def at_length(*arguments: list[str]) -> list[Any]:
    """Return arguments of commands that the long runs alone start."""
    return [pytest.param(each, marks=pytest.mark.slow) for each in arguments]


@asynccontextmanager
async def running(*arguments: str) -> AsyncIterator[ForkedProcess]:
    process = await FORKED.process(arguments, variables=command_environment())
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_the_url_is_that_of_database_url(url: str, tmp_path: Path) -> None:
    done = await command("flows", cwd=tmp_path, variables={"DATABASE_URL": url})
    assert (done.returncode, done.stderr) == (0, "")
    assert str(COMPLETED) in done.stdout


async def test_without_one_it_is_that_of_a_dotenv_file(url: str, tmp_path: Path) -> None:
    (tmp_path / ".env").write_text(
        f"# the laboratory's\nexport DATABASE_URL='{url}'\n", encoding="utf-8"
    )
    done = await command("flows", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert str(COMPLETED) in done.stdout


async def test_the_option_goes_before_the_variable_and_that_before_the_file(
    url: str, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text(f"DATABASE_URL={NOWHERE}\n", encoding="utf-8")
    assert (await command("flows", cwd=tmp_path, variables={"DATABASE_URL": url})).returncode == 0
    done = await command(
        "flows", "--database-url", url, cwd=tmp_path, variables={"DATABASE_URL": NOWHERE}
    )
    assert done.returncode == 0
    assert (await command("flows", cwd=tmp_path)).returncode == 3


async def test_without_any_nothing_is_created_and_it_says_what_to_do(tmp_path: Path) -> None:
    share = tmp_path / "share"
    done = await command("flows", cwd=tmp_path, variables={"XDG_DATA_HOME": str(share)})
    assert (done.returncode, done.stdout) == (2, "")
    data = share / "chem-persistence" / "demo"
    assert done.stderr == (
        f"error: database: no URL is given, and {data} has no embedded server's data: "
        "give --database-url, set DATABASE_URL, or run `chem-persistence demo`, which creates "
        "some\n"
    )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
async def test_what_is_typed_next_names_the_data_and_the_schema(tmp_path: Path) -> None:
    data = ["--data", str(tmp_path / "my data")]
    assert (await command("migrate", *data)).returncode == 0
    doctor, stats = await command("doctor", *data), await command("stats", *data)
    assert f"chem-persistence roles --data '{tmp_path}/my data' # then" in doctor.stdout
    assert f"refreshes them: chem-persistence refresh --data '{tmp_path}/my data'\n" in stats.stdout
    elsewhere = [*data, "--schema", "lab"]
    status, flows = await command("status", *elsewhere), await command("flows", *elsewhere)
    typed = f"chem-persistence migrate --data '{tmp_path}/my data' --schema lab"
    assert f"has no tables of this library; type {typed}\n" in status.stdout
    assert flows.stderr == f"error: schema 'lab' has no tables of this library: {typed}\n"
    told = json.loads((await command("doctor", *elsewhere, "--json")).stdout)
    assert typed in [check["remedy"] for check in told["checks"]]


async def test_data_that_are_not_there_are_named(tmp_path: Path) -> None:
    done = await command("flows", "--data", "nowhere", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (
        2,
        "error: --data: nowhere has no embedded server's data\n",
    )


@pytest.mark.slow
async def test_the_demo_shows_a_run_leaves_a_page_and_is_found_again(tmp_path: Path) -> None:
    data = tmp_path / "share" / "chem-persistence" / "demo"
    own = {"XDG_DATA_HOME": str(tmp_path / "share")}
    done = await command("demo", cwd=tmp_path, variables=own | {"DATABASE_URL": NOWHERE})
    assert (done.returncode, done.stderr) == (0, "")
    assert "step 'measure' raised" in done.stdout
    assert f"try next:\n  chem-persistence flows --data {data}\n" in done.stdout
    page = (tmp_path / "chem-persistence-demo.html").read_text(encoding="utf-8")
    assert "the melting point apparatus is in use" in page
    (flow_line,) = [line for line in done.stdout.splitlines() if line.startswith("flow         ")]
    listed = await command("flows", cwd=tmp_path, variables=own)
    assert flow_line.split()[1] in listed.stdout
    assert "completed" in listed.stdout


@pytest.mark.slow
async def test_what_the_demo_says_to_try_next_works_as_it_is_typed(tmp_path: Path) -> None:
    named = ["--data", str(tmp_path / "my data"), "--schema", "lab"]
    done = await command("demo", *named, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    typed = [shlex.split(line) for line in done.stdout.partition("try next:\n")[2].splitlines()]
    assert {arguments[1] for arguments in typed} >= {"flows", "show", "tail", "replay", "verify"}
    for _, *arguments in typed:
        tried = await command(*arguments, cwd=tmp_path)
        assert (tried.returncode, tried.stderr) == (0, ""), arguments


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize(
    "arguments",
    [
        ["flows"],
        ["show", "bbbb"],
        ["replay", "bbbb"],
        ["tail"],
        ["diff", "aaaa", "bbbb"],
        ["doctor"],
    ],
)
async def test_nothing_is_wider_than_the_terminal(
    url: str, arguments: list[str], columns: int
) -> None:
    _, written = await asyncio.to_thread(
        on_a_terminal, *arguments, "--database-url", url, columns=columns
    )
    lines = ESCAPE.sub("", written).splitlines()
    assert lines
    assert [line for line in lines if len(line) > columns] == []
    named = str(FAILED)[:4] if arguments == ["flows"] else str(FAILED)  # shortened in a wide table
    assert any(named in line for line in lines) or arguments[0] in {"tail", "doctor"}


async def test_a_terminal_has_colours_unless_told_otherwise(url: str) -> None:
    code, coloured = await asyncio.to_thread(
        on_a_terminal, "flows", "--database-url", url, columns=100
    )
    assert code == 0
    assert "\x1b[31mfailed" in coloured
    _, plain = await asyncio.to_thread(
        on_a_terminal, "flows", "--database-url", url, columns=100, NO_COLOR="1"
    )
    assert "\x1b[31m" not in plain


async def test_long_work_has_a_bar_on_a_terminal_and_is_silent_elsewhere(url: str) -> None:
    code, written = await asyncio.to_thread(
        on_a_terminal, "verify", "--database-url", url, columns=100
    )
    assert code == 0
    assert "events and artifacts verified" in written
    assert written.rstrip().endswith("clean")
    done = await command("verify", "--database-url", url)
    assert done.stderr == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["show", "bbbb"],
        ["replay", "bbbb"],
        ["tail"],
        ["flows"],
        ["diff", "aaaa", "bbbb"],
        ["stats"],
    ],
)
async def test_a_hostile_text_cannot_write_on_the_terminal(
    own_url: str, admin_url: str, arguments: list[str]
) -> None:
    await command("refresh", "--database-url", admin_url)
    done = await command(*arguments, "--database-url", own_url)
    assert "[bold]x[/bold]" in done.stdout
    assert [
        character for character in done.stdout if not character.isprintable() and character != "\n"
    ] == []


async def test_what_cannot_be_written_in_the_encoding_is_replaced(url: str) -> None:
    done = await command(
        "show", "bbbb", "--database-url", url, variables={"PYTHONIOENCODING": "ascii"}
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "━" not in done.stdout
    assert "  =" in done.stdout


@pytest.mark.parametrize(
    "arguments", [["tail"], ["--help"], *at_length(["flows", "--json"], ["flows", "--help"])]
)
async def test_a_closed_pipe_ends_it_silently(url: str, arguments: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    process = await asyncio.create_subprocess_exec(
        *COMMAND,
        *arguments,
        env=command_environment(DATABASE_URL=url),
        stdout=writing,
        stderr=subprocess.PIPE,
    )
    os.close(writing)
    _, error = await process.communicate()
    assert (process.returncode, error) == (141, b"")


@pytest.mark.parametrize(
    "arguments", [["flows"], ["--help"], *at_length(["tail"], ["flows", "--json"], ["--version"])]
)
async def test_a_full_disk_is_one_line(url: str, arguments: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        process = await asyncio.create_subprocess_exec(
            *COMMAND,
            *arguments,
            env=command_environment(DATABASE_URL=url),
            stdout=full,
            stderr=subprocess.PIPE,
        )
        _, error = await process.communicate()
    assert process.returncode == 2
    assert error == b"error: No space left on device\n"


@pytest.mark.parametrize(
    "arguments", [["flows"], ["--help"], *at_length(["show", "bbbb"], ["doctor", "--json"])]
)
async def test_a_shell_may_close_the_output(own_url: str, arguments: list[str]) -> None:
    done = await asyncio.to_thread(  # not the shared log: doctor says that it is read-only
        subprocess.run,
        ["sh", "-c", 'exec "$@" >&-', "sh", *COMMAND, *arguments],
        env=command_environment(DATABASE_URL=own_url),
        stderr=subprocess.PIPE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")


async def test_a_shell_may_close_the_standard_error(url: str) -> None:
    done = await asyncio.to_thread(
        subprocess.run,
        ["sh", "-c", 'exec "$@" 2>&-', "sh", *COMMAND, "verify"],
        env=command_environment(DATABASE_URL=url),
        stdout=subprocess.PIPE,
        check=False,
    )
    assert done.returncode == 0
    assert done.stdout.endswith(b"clean\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_a_tail_that_follows_without_a_word(
    url: str, number: signal.Signals
) -> None:
    async with running(
        "tail", "--follow", "-n", "1", "--interval", "0.05", "--database-url", url
    ) as process:
        assert await process.stdout.readline()
        process.send_signal(number)
        rest, error = await process.communicate()
    assert (process.returncode, rest, error) == (128 + number, b"", b"")


async def test_a_tail_that_follows_prints_what_is_appended(own_url: str) -> None:
    arguments = ["tail", "--follow", "-n", "1", "--interval", "0.05", "--database-url", own_url]
    async with running(*arguments) as process, await build_pool(own_url, max_size=1) as pool:
        await process.stdout.readline()
        event = await PgEventStore(PoolProvider(pool)).append_kind(new_flow_id(), initialized())
        line = (await process.stdout.readline()).decode()
    assert str(event.flow_id)[:13] in line
    assert "initialized: 3 steps" in line


async def append(url: str, flow_id: UUID) -> UUID:
    """Append an event, and return its id."""
    async with await build_pool(url, max_size=1) as pool:
        return (await PgEventStore(PoolProvider(pool)).append_kind(flow_id, initialized())).event_id


@pytest.mark.slow
@pytest.mark.parametrize("of", ["the log", "a flow"])
async def test_a_tail_that_follows_outlives_a_restart_of_the_server(of: str) -> None:
    flow_id, appended, printed = new_flow_id(), [], []
    with tempfile.TemporaryDirectory(prefix="tail-") as directory:
        async with AsyncExitStack() as after:
            async with embedded_postgres(directory) as url:
                appended.append(await append(url, flow_id))
                arguments = [
                    *([str(flow_id)] if of == "a flow" else []),
                    "--follow",
                    "--interval",
                    "0.05",
                ]
                process = await after.enter_async_context(
                    running("tail", *arguments, "--json", "--database-url", url)
                )
                assert process.stderr is not None
                printed.append(await process.stdout.readline())
                appended.append(await append(url, flow_id))
                printed.append(await process.stdout.readline())
            told = await process.stderr.readline()
            assert told.startswith(b"waiting for the database: the database is unavailable")
            async with embedded_postgres(directory) as url:
                for _ in range(2):
                    appended.append(await append(url, flow_id))
                    printed.append(await process.stdout.readline())
                process.send_signal(signal.SIGINT)
                rest, error = await process.communicate()
    assert (process.returncode, rest, error) == (130, b"", b"")
    assert [json.loads(line)["event_id"] for line in printed] == [
        str(event_id) for event_id in appended
    ]


async def test_a_tail_that_follows_ends_with_what_does_not_pass(
    own_url: str, server: TestServer
) -> None:
    arguments = ["tail", "--follow", "-n", "1", "--interval", "0.05", "--database-url", own_url]
    async with running(*arguments) as process:
        await process.stdout.readline()
        await server.administrate(f'DROP DATABASE "{urlsplit(own_url).path[1:]}" WITH (FORCE)')
        _, error = await process.communicate()
        await server.administrate(
            f'CREATE DATABASE "{urlsplit(own_url).path[1:]}"'
        )  # the fixture drops it
    assert process.returncode == 3
    assert b"does not exist" in error.splitlines()[-1]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_a_shell_completes_the_commands(shell: str) -> None:
    done = await command(
        variables={
            "_CHEM_PERSISTENCE_COMPLETE": f"complete_{shell}",
            "COMP_WORDS": "chem-persistence st",
            "COMP_CWORD": "1",
            "_TYPER_COMPLETE_ARGS": "chem-persistence st",
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        }
    )
    assert done.stderr == ""
    assert {"stats", "status"} <= set(re.findall(r"\w+", done.stdout))
    assert "verify" not in done.stdout


async def test_the_version_is_that_of_the_package() -> None:
    done = await command("--version")
    assert re.fullmatch(r"chem-persistence \d+\.\d+\.\d+\n", done.stdout)


async def test_without_its_packages_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise ModuleNotFoundError(name='typer')", encoding="utf-8")
    environment = command_environment()
    environment["PYTHONPATH"] = os.pathsep.join([str(tmp_path), environment["PYTHONPATH"]])
    done = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "chem_persistence", "flows"],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr == (
        "error: the command line needs the package typer: pip install 'chem-persistence[cli]'\n"
    )
