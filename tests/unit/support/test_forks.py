"""A fork of the server of the tests is a process that runs as one that was started."""

import os
import signal
import subprocess
from pathlib import Path

import pytest

from tests.support.commands import COMMAND, FORKED, command_environment
from tests.support.forks import ForkServer

TOOL = ForkServer("json.tool", "--help", variables=command_environment())
NOWHERE = "postgresql://nobody@localhost:1/none"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["--version"], 0),
        (["show", "--help"], 0),
        ([], 2),
        (["flows", "--no-such-option"], 2),
        (["flows", "--database-url", NOWHERE], 3),
        (["flows", "--data", "nowhere"], 2),
    ],
    ids=["version", "help", "nothing", "wrong use", "no database", "no data"],
)
def test_a_fork_prints_and_ends_as_a_process_that_was_started(
    arguments: list[str], code: int, tmp_path: Path
) -> None:
    environment = command_environment(COLUMNS="70", NO_COLOR="1")
    forked = FORKED.run(arguments, variables=environment, folder=tmp_path)
    started = subprocess.run(
        [*COMMAND, *arguments],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert forked.returncode == started.returncode == code
    assert (forked.stdout, forked.stderr) == (started.stdout, started.stderr)


def test_it_reads_its_own_standard_input_and_works_in_its_own_folder(tmp_path: Path) -> None:
    (tmp_path / "given.json").write_text("[2]", encoding="utf-8")
    environment = command_environment()
    assert TOOL.run(["--compact"], variables=environment, stdin="[ 1 ]").stdout == "[1]\n"
    read = TOOL.run(["--compact", "given.json"], variables=environment, folder=tmp_path)
    assert read.stdout == "[2]\n"


def test_an_error_that_nobody_catches_is_a_traceback_and_status_1() -> None:
    ended = TOOL.run(["/nowhere/at/all"], variables=command_environment())
    assert ended.returncode in {1, 2}
    assert "No such file or directory: '/nowhere/at/all'" in ended.stderr


def test_one_that_lasts_too_long_is_killed() -> None:
    reading, writing = os.pipe()
    child = TOOL.start(["-"], streams=(reading, 1, 2), variables=command_environment(), seconds=1)
    assert child.wait() == -signal.SIGKILL
    for file in (reading, writing):
        os.close(file)


def test_each_is_a_process_of_its_own_and_ends_by_a_signal() -> None:
    pipes = [os.pipe() for _ in range(2)]
    variables = command_environment()
    children = [TOOL.start(["-"], streams=(pipe[0], 1, 2), variables=variables) for pipe in pipes]
    assert len({os.getpid(), *(child.pid for child in children)}) == 3
    for child in children:
        os.kill(child.pid, signal.SIGTERM)
    assert [child.wait() for child in children] == [-signal.SIGTERM] * 2
    for pipe in pipes:
        for file in pipe:
            os.close(file)
