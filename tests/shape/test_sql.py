"""SQL stands in sql/ alone, under names that are all used.

These tests pin form rather than behaviour: they read the text of the package's files.
"""

import ast
import re
from pathlib import Path

import pytest

from chem_persistence.postgres.schema import statements
from tests.support.syntax_tree import syntax_tree

REPOSITORY = Path(__file__).parents[2]
QUERIES = REPOSITORY / "sql" / "queries"
QUERY_NAMES = sorted(
    f"{path.stem}/{name}"
    for path in QUERIES.glob("*.sql")
    for name in statements.statements(path.stem)
)


def test_there_are_statements() -> None:
    assert len(QUERY_NAMES) > 10


def test_a_statement_opens_with_a_sentence_before_its_parameters() -> None:
    assert [name for name in QUERY_NAMES if not opens_with_a_sentence(name)] == []


def opens_with_a_sentence(name: str) -> bool:
    lines = statements.statement(name).splitlines()
    heading = " ".join(line.removeprefix("--").strip() for line in lines if line.startswith("--"))
    return (
        lines[0].startswith("-- ")
        and re.match(r"[A-Z][^$]*\.( |$)", heading) is not None
        and not any(line.startswith("--") for line in lines[heading_length(lines) :])
    )


def heading_length(lines: list[str]) -> int:
    return next(place for place, line in enumerate(lines) if not line.startswith("--"))


def test_every_statement_is_asked_for_and_every_one_asked_for_is_there() -> None:
    modules = (REPOSITORY / "chem_persistence").rglob("*.py")
    sources = "".join(path.read_text(encoding="utf-8") for path in modules)
    assert sorted(set(re.findall(r'\bstatement\(\s*"([^"]+)"\s*\)', sources))) == QUERY_NAMES


@pytest.mark.parametrize("topic", sorted(path.stem for path in QUERIES.iterdir()))
def test_a_topic_has_a_sentence_and_names_each_statement_once(topic: str) -> None:
    text = (QUERIES / f"{topic}.sql").read_text(encoding="utf-8")
    named = re.findall(r"^-- name: (.*)$", text, re.MULTILINE)
    assert re.match(r"-- [A-Z][^\n]*\.\n\n-- name: ", text)
    assert named == sorted(set(named)) == sorted(statements.statements(topic))


SQL = re.compile(
    r"""
    \b(?:
        select\b.+\bfrom | insert\s+into | update\s+\w+\s+set | delete\s+from\s+\w+
        | merge\s+into | truncate\s+\w+
        | (?:create|alter|drop)\s+
          (?:table|index|view|schema|trigger|function|sequence|role|database|extension)
    )\b
    | ^\s*(?:SELECT|INSERT|UPDATE|DELETE|WITH|BEGIN|COMMIT|ROLLBACK|SAVEPOINT|LISTEN|NOTIFY
        |LOCK|SET|SHOW|COPY)\b
    """,
    re.VERBOSE | re.DOTALL,
)
LOWER_SQL = re.compile(SQL.pattern.partition("| ^")[0], re.VERBOSE | re.DOTALL | re.IGNORECASE)


def docstrings(tree: ast.AST) -> set[int]:
    """Return the ids of the strings that are statements of their own."""
    return {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}


def sql_in(path: Path) -> list[str]:
    tree = syntax_tree(path)
    documentation = docstrings(tree)
    strings = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and id(node) not in documentation
    ]
    return [
        f"{path.name}:{node.lineno}: {text}"
        for node in strings
        if isinstance(text := node.value, str) and (SQL.search(text) or LOWER_SQL.search(text))
    ]


SHOWN = {
    "postgres/admin/distribute.py": "advice in an error message",
    "postgres/admin/doctor/connections.py": "a command for the operator",
    "postgres/admin/doctor/feed.py": "a command for the operator",
    "postgres/admin/doctor/schema.py": "a command for the operator",
    "postgres/admin/doctor/server.py": "a command for the operator",
    "postgres/connection/pool.py": "advice in an error message",
    "postgres/schema/locks.py": "patterns of the statements of migrations",
    "telemetry/observer.py": "the name of an operation in OpenTelemetry",
}
"""Modules whose SQL is shown to a person and never run, each with its purpose."""

RUNS = {"execute", "fetch", "fetchrow", "fetchval"}

MODULES = {
    str(path.relative_to(REPOSITORY / "chem_persistence")): path
    for path in (REPOSITORY / "chem_persistence").rglob("*.py")
}


def test_no_sql_stands_in_python() -> None:
    assert [
        found for name, path in MODULES.items() if name not in SHOWN for found in sql_in(path)
    ] == []


@pytest.mark.parametrize("name", SHOWN)
def test_sql_that_is_shown_is_never_run(name: str) -> None:
    assert sql_in(MODULES[name])
    calls = [
        node
        for node in ast.walk(syntax_tree(MODULES[name]))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr in RUNS
    ]
    assert all(isinstance(call.args[0], ast.Name) and call.args[0].id.isupper() for call in calls)


def test_sql_in_python_would_be_found(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    for text in (
        "SELECT 1",
        "select seq from event_log",
        "insert into event_log",
        "COMMIT",
        " DROP TABLE x",
        "drop table x",
    ):
        module.write_text(
            f"def f():\n    '''Select one from many.'''\n    return f'{text} {{1}}'\n",
            encoding="utf-8",
        )
        assert len(sql_in(module)) == 1
