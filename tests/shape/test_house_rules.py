"""Rules that every file of the library keeps.

These tests pin form rather than behaviour: they measure and read the text of the package's files.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

import chem_persistence
from tests.support.syntax_tree import syntax_tree

REPOSITORY = Path(__file__).parents[2]
PACKAGE = Path(chem_persistence.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
INDEX = PACKAGE / "__init__.py"
"""The public names, two lines for each: as long as there are names."""

DOMAIN = sorted((PACKAGE / "domain").rglob("*.py"))

LONGEST_FILE = 400
LONGEST_FUNCTION = 40
MOST_MODULES = 14
LONGER_FILES = {"bundles/verify.py": "it travels in each bundle, as one file"}

Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
Function = ast.FunctionDef | ast.AsyncFunctionDef


def label(path: Path) -> str:
    return str(path.relative_to(PACKAGE))


def definitions(body: list[ast.stmt]) -> Iterator[Definition]:
    """Yield the public classes, functions and methods, but none that a function contains."""
    for node in body:
        if isinstance(node, Definition) and not node.name.startswith("_"):
            yield node
            if isinstance(node, ast.ClassDef):
                yield from definitions(node.body)


def is_overload(node: Definition) -> bool:
    return any(isinstance(name, ast.Name) and name.id == "overload" for name in node.decorator_list)


def test_no_file_is_too_long() -> None:
    longer = {
        label(path)
        for path in MODULES
        if path != INDEX and len(path.read_text(encoding="utf-8").splitlines()) > LONGEST_FILE
    }
    assert longer == set(LONGER_FILES)


@pytest.mark.parametrize("tree", ["chem_persistence", "tests", "benchmarks", "examples"])
def test_no_folder_has_many_modules(tree: str) -> None:
    folders = Counter(
        str(path.parent.relative_to(REPOSITORY))
        for path in (REPOSITORY / tree).rglob("*.py")
        if path.name != "__init__.py"
    )
    assert {name: count for name, count in folders.items() if count > MOST_MODULES} == {}


def test_docstrings_say_what_is_done_in_standard_verbs() -> None:
    found = [
        f"{label(path)}: {first}"
        for path in MODULES
        for first in re.findall(r'"""(?:Give|Say|Let|Refuse|Tell) .*', path.read_text("utf-8"))
    ]
    assert found == []


def code_lines(function: Function) -> int:
    """Count the lines of a function's body, without its docstring."""
    body = function.body[1:] if ast.get_docstring(function) else function.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_no_function_is_too_long() -> None:
    longer = {
        f"{label(path)} {node.name}"
        for path in MODULES
        for node in ast.walk(syntax_tree(path))
        if isinstance(node, Function) and code_lines(node) > LONGEST_FUNCTION
    }
    assert longer == set()


def test_what_is_public_has_a_docstring() -> None:
    silent = [
        f"{label(path)}: {node.name}, line {node.lineno}"
        for path in MODULES
        for node in definitions(syntax_tree(path).body)
        if not ast.get_docstring(node) and not is_overload(node)
    ]
    assert silent == []
    assert [label(path) for path in MODULES if not ast.get_docstring(syntax_tree(path))] == []


@pytest.mark.parametrize("folder", ["chem_persistence", "sql"])
def test_nothing_is_left_to_do(folder: str) -> None:
    files = [path for path in (REPOSITORY / folder).rglob("*") if path.suffix in {".py", ".sql"}]
    left = re.compile(r"\b(TODO|FIXME|XXX|HACK)\b")
    assert files
    assert [str(path) for path in files if left.search(path.read_text(encoding="utf-8"))] == []


def test_the_domain_never_waits() -> None:
    waiting = (ast.AsyncFunctionDef, ast.Await, ast.AsyncFor, ast.AsyncWith)
    waits = [
        f"{label(path)}, line {node.lineno}"
        for path in DOMAIN
        for node in ast.walk(syntax_tree(path))
        if isinstance(node, waiting)
    ]
    assert waits == []


def test_the_domain_gets_time_and_ids_as_arguments() -> None:
    worldly = re.compile(
        r"now|utcnow|today|monotonic|perf_counter|time_ns|urandom|uuid\d|getenv|environ|open|random"
    )
    used = {
        (label(path), node.attr if isinstance(node, ast.Attribute) else node.id)
        for path in DOMAIN
        for node in ast.walk(syntax_tree(path))
        if isinstance(node, ast.Attribute | ast.Name)
    }
    assert {(place, name) for place, name in used if worldly.fullmatch(name)} == set()


def test_only_the_module_of_assets_makes_markup_that_is_not_escaped() -> None:
    html = PACKAGE / "pages" / "html"
    callers = {
        path.name
        for path in html.glob("*.py")
        for node in ast.walk(syntax_tree(path))
        if isinstance(node, ast.Name)
        and node.id in {"packed_element", "_Made"}
        and path.name != "markup.py"
    }
    assert callers == {"assets.py"}
