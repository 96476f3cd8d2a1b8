"""Which steps a child process can run, and where it finds them."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from chem_persistence import (
    FlowEngine,
    InMemoryEventStore,
    InMemoryFlowRepository,
    InvalidDefinition,
    ProcessStep,
    StepContext,
)
from tests.support.commands import command_environment
from tests.support.flows.process_steps import Act, Lines, Task


class Outer:
    class Inner(ProcessStep[None, Lines]):
        id = "inner"

        def compute(self, _nothing: None, _context: StepContext) -> Lines:
            return Lines(["inner"])


def engine_of(step: Any) -> FlowEngine[Any]:
    store = InMemoryEventStore()
    return FlowEngine.builder(store, InMemoryFlowRepository(store)).first_step(step).build()


def test_a_class_of_a_function_is_refused() -> None:
    class Local(Act):
        pass

    with pytest.raises(InvalidDefinition, match=r"Local, which its child process cannot import"):
        engine_of(Local())


def test_params_of_a_function_are_refused() -> None:
    class Local(msgspec.Struct):
        by: int = 1

    step = Act()
    step.params = Local()
    with pytest.raises(InvalidDefinition, match=r"Local, which its child process cannot import"):
        engine_of(step)


def test_an_attribute_that_would_be_lost_is_refused() -> None:
    step = Act()
    step.model = object()  # type: ignore[attr-defined]
    with pytest.raises(InvalidDefinition, match=r"the attribute 'model', which its child process"):
        engine_of(step)


async def test_an_inner_class_is_found() -> None:
    engine = engine_of(Outer.Inner())
    assert await engine.event_trace(await engine.run_to_end()) == ["I", "S", "F", "C"]


async def test_an_id_of_the_instance_is_kept() -> None:
    step = Act()
    step.id, step.version = "other", "9"
    engine = engine_of(step)
    flow_id = await engine.run_to_end(input=Task("tell"))
    assert (await engine.load(flow_id)).steps[0].step_id == "other"


PROGRAM = """
import asyncio

import msgspec

from chem_persistence import *


class Number(msgspec.Struct):
    value: int


class Broken(Exception):
    pass


class Double(ProcessStep[Number, Number]):
    id = "double"

    def compute(self, given, context):
        print("computes", __name__ == "__main__")
        if given.value == 13:
            raise Broken("unlucky")
        return Number(2 * given.value)


async def main():
    store = InMemoryEventStore()
    builder = FlowEngine.builder(store, InMemoryFlowRepository(store))
    engine = builder.first_step(Double()).build()
    flow_id = await engine.run_to_end(input=Number(4))
    (slot,) = (await engine.load(flow_id)).steps
    print((await store.get_artifact(slot.outputs[0])).payload)
    try:
        await engine.run_to_end(input=Number(13))
    except StepRaised as error:
        print(type(error.__cause__) is Broken, (await engine.load()).steps[0].error.error_class)
"""
GUARDED = PROGRAM + 'if __name__ == "__main__":\n    asyncio.run(main())\n'
UNGUARDED = PROGRAM + "asyncio.run(main())\n"


def run_program(*arguments: str, cwd: Path) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env=command_environment(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("arguments", [["program.py"], ["-m", "program"], ["-m", "package"]])
def test_steps_of_a_main_program_are_found_as_multiprocessing_finds_them(
    tmp_path: Path, arguments: list[str]
) -> None:
    (tmp_path / "package").mkdir()
    (tmp_path / "package" / "__init__.py").touch()
    for path in (tmp_path / "program.py", tmp_path / "package" / "__main__.py"):
        path.write_text(GUARDED, encoding="utf-8")
    done = run_program(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "computes False\ncomputes False\n")
    assert done.stdout == "{'value': 8}\nTrue __main__.Broken\n"


@pytest.mark.parametrize("arguments", [["program.py"], ["-m", "program"]])
def test_a_main_program_that_an_import_would_run_is_refused(
    tmp_path: Path, arguments: list[str]
) -> None:
    (tmp_path / "program.py").write_text(UNGUARDED, encoding="utf-8")
    done = run_program(*arguments, cwd=tmp_path)
    assert done.returncode == 1
    assert "put what it does under `if __name__ == '__main__':`" in done.stderr.splitlines()[-1]


def test_a_program_without_a_file_is_refused(tmp_path: Path) -> None:
    done = run_program("-c", UNGUARDED, cwd=tmp_path)
    assert done.returncode == 1
    assert "has no file that a child process could import" in done.stderr.splitlines()[-1]
