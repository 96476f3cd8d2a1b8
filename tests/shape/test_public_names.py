"""What a user may import is listed and sorted, and every module lists what it offers.

These tests pin form rather than behaviour: they read `__all__` of the package and its modules.
"""

import ast
import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import chem_persistence
from chem_persistence import errors
from tests.support.syntax_tree import syntax_tree

PACKAGE = Path(chem_persistence.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))

CONTRACT = [
    "FlowEvent",
    "FlowEventKind",
    "FlowInitialized",
    "StepStarted",
    "StepFinished",
    "StepFailed",
    "StepSignal",
    "PropertyPreferenceAssigned",
    "RetryScheduled",
    "BranchCreated",
    "UserInteractionRequested",
    "UserInteractionProvided",
    "FlowCompleted",
    "EventStore",
    "FlowRepository",
    "ConnectionProvider",
    "Clock",
    "InMemoryEventStore",
    "PgEventStore",
    "InMemoryFlowRepository",
    "PgFlowRepository",
    "PoolProvider",
    "build_pool",
    "build_dev_pool_from_env",
    "embedded_postgres",
    "Artifact",
    "FlowDefinition",
    "FlowInstance",
    "StepSlot",
    "StepStatus",
    "canonical_json",
    "content_hash",
    "Step",
    "StepKind",
    "StepContext",
    "FlowEngine",
    "ChemPersistenceError",
    "ConcurrencyConflict",
    "EventIdReused",
    "InvalidPayload",
    "UnreadableEvent",
    "ArtifactNotFound",
    "ArtifactCorrupt",
    "StoreUnavailable",
    "MigrationError",
    "FlowAlreadyCompleted",
    "FlowHasFailed",
    "StepRaised",
    "DefinitionMismatch",
]


def sorted_names(names: list[str]) -> list[str]:
    """Sort as the linter does: constants, then classes, then functions."""
    return sorted(names, key=lambda name: (not name.isupper(), not name[0].isupper(), name))


def name_of(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def public_definitions(path: Path) -> set[str]:
    """Return the classes and functions that a module defines under a public name."""
    body = syntax_tree(path).body
    definitions = (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return {
        node.name
        for node in body
        if isinstance(node, definitions) and not node.name.startswith("_")
    }


def test_the_public_names_are_sorted() -> None:
    assert chem_persistence.__all__ == sorted_names(chem_persistence.__all__)


def test_the_public_names_are_what_the_package_holds() -> None:
    assert set(dir(chem_persistence)) >= {"PgEventStore", "__all__"}
    assert callable(chem_persistence.PgEventStore)  # the first name that is used imports them all
    held = {
        name
        for name, value in vars(chem_persistence).items()
        if not name.startswith("_") and not isinstance(value, ModuleType)
    }
    assert held == set(chem_persistence.__all__)


@pytest.mark.parametrize("name", ["PgEventstore", "_MODULE", "__signature__"])
def test_a_name_that_the_package_has_not_is_an_attribute_error(name: str) -> None:
    with pytest.raises(AttributeError, match=rf"'chem_persistence' has no attribute '{name}'"):
        getattr(chem_persistence, name)


@pytest.mark.parametrize("name", ["errors", "domain", "PgEventStore"])
def test_the_first_name_that_is_used_is_found_without_an_import_of_its_module(name: str) -> None:
    program = f"import chem_persistence; chem_persistence.{name}"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_public_names_are_imported_by_a_star() -> None:
    namespace: dict[str, object] = {}
    exec("from chem_persistence import *", namespace)
    assert set(namespace) - {"__builtins__"} == set(chem_persistence.__all__)


def test_the_names_of_the_contract_are_public() -> None:
    assert set(CONTRACT) - set(chem_persistence.__all__) == set()
    assert [name for name in CONTRACT if getattr(chem_persistence, name) is None] == []


def test_every_error_is_public() -> None:
    assert set(errors.__all__) <= set(chem_persistence.__all__)


def test_a_module_names_what_it_offers() -> None:
    for path in MODULES:
        module = importlib.import_module(name_of(path))
        offered = getattr(module, "__all__", [])
        assert offered == sorted_names(offered), path
        assert [name for name in offered if not hasattr(module, name)] == [], path
        assert public_definitions(path) <= set(offered), path


def test_the_package_says_that_it_is_typed() -> None:
    assert (PACKAGE / "py.typed").is_file()
