"""Where a child process finds a class of its parent: by module and qualified name.

The parent's main program has another name in the child, `__mp_main__`, as `multiprocessing` calls
it when it spawns: what stands under `if __name__ == "__main__"` is not run again.
"""

import ast
import importlib
import runpy
import sys
import types
from pathlib import Path
from typing import Any

import msgspec

__all__ = [
    "Address",
    "MainProgram",
    "address_of",
    "find_class",
    "load_main",
    "main_program",
    "module_of",
]

MAIN = "__main__"
MAIN_IN_CHILD = "__mp_main__"


class Address(msgspec.Struct, frozen=True):
    """The import path of a class."""

    module: str
    qualname: str


class MainProgram(msgspec.Struct, frozen=True):
    """The program that runs: the module of `python -m`, or None, and the path of its file."""

    module: str | None
    path: str


def address_of(cls: type[Any]) -> Address:
    """Return where a class says that it is defined."""
    return Address(module_of(cls), cls.__qualname__)


def module_of(cls: type[Any]) -> str:
    """Return the module of a class, by the name that it has in the parent."""
    return MAIN if cls.__module__ == MAIN_IN_CHILD else cls.__module__


def find_class(address: Address) -> Any:
    """Return what is found at an address.

    Raises:
        ImportError: the module cannot be imported.
        AttributeError: it has no such name: the class is defined inside a function, for example.
    """
    found: Any = importlib.import_module(address.module)
    for name in address.qualname.split("."):
        found = getattr(found, name)
    return found


def main_program() -> MainProgram:
    """Return the program that runs, which a child process can import.

    Raises:
        ValueError: it has no file, as in an interactive session, or an import would run it.
    """
    main = sys.modules[MAIN]
    path = getattr(main, "__file__", None)
    if path is None or not Path(path).is_file():
        raise ValueError("the main program has no file that a child process could import")
    if not _is_guarded(Path(path)):
        raise ValueError(
            f"an import of {path} would run it: put what it does under `if __name__ == '__main__':`"
        )
    spec = getattr(main, "__spec__", None)
    return MainProgram(None if spec is None else spec.name, str(Path(path).absolute()))


def load_main(program: MainProgram) -> None:
    """Run the parent's main program as `__mp_main__`, once, and let it be found as `__main__`."""
    if MAIN_IN_CHILD in sys.modules:
        return
    module = types.ModuleType(MAIN_IN_CHILD)
    if program.module is None:
        content = runpy.run_path(program.path, run_name=MAIN_IN_CHILD)
    else:
        content = runpy.run_module(program.module, run_name=MAIN_IN_CHILD, alter_sys=True)
    module.__dict__.update(content)
    sys.modules[MAIN] = sys.modules[MAIN_IN_CHILD] = module


def _is_guarded(path: Path) -> bool:
    """Return whether a program asks for its name at its top level."""
    tree = ast.parse(path.read_bytes(), str(path))
    return any(
        isinstance(part, ast.Name) and part.id == "__name__"
        for statement in tree.body
        if isinstance(statement, ast.If)
        for part in ast.walk(statement.test)
    )
