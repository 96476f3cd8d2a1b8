"""Every statement keeps to what Citus runs on distributed tables, as far as its text shows it.

The tests read the text, without a server. On a real cluster tests/postgres/schema/test_citus.py
runs each statement. The rules are those that Citus 13.2 refused statements by, or
answered wrongly: it sends a statement about one flow to a worker as a whole.
"""

import re
from itertools import pairwise
from pathlib import Path

import pytest

from chem_persistence.postgres.schema import statements
from chem_persistence.postgres.schema.distribution import DISTRIBUTED_TABLES
from chem_persistence.postgres.schema.migrations import known_migrations

SQL = Path(__file__).parents[2] / "sql"
COLOCATED = DISTRIBUTED_TABLES - {"workflow_step_artifact_chunks"}
VOLATILE = re.compile(
    r"\b(now|clock_timestamp|statement_timestamp|transaction_timestamp|random|gen_random_uuid"
    r"|nextval|current_timestamp|set_config|pg_advisory\w*)\b",
    re.IGNORECASE,
)
OF_THE_COORDINATOR = re.compile(
    r"\b(feed_end|find_last_seq|pg_sequence_last_value|currval|pg_locks)\b"
)
"""What a worker answers otherwise than the coordinator, without an error."""
CLOCK = re.compile(
    r"\b(now|clock_timestamp|statement_timestamp|transaction_timestamp|current_timestamp)\b",
    re.IGNORECASE,
)
"""A query that is sent to a worker reads the clock there; leases end by the coordinator's."""

SET_RETURNING = (
    r"(?:unnest|json_to_recordset|jsonb_array_elements\w*|generate_series|string_to_table"
    r"|ROWS\s+FROM)"
)
TABLES = "|".join(sorted(DISTRIBUTED_TABLES))
FROM_DISTRIBUTED = re.compile(
    rf"\b(?:FROM|JOIN)\s+({TABLES})\s+AS\s+(\w+)\b|\b(?:FROM|JOIN)\s+({TABLES})\b"
)

EXCEPTIONS = {
    "doctor/find_future_flow": "an aggregate: the coordinator compares it with its clock",
    "rebuild/insert_missing_executions": "a flow's own rows: Citus gathers them on the coordinator",
    "search/walk_kept_artifacts": "not run there: `list_kept_artifacts_of_flows` has its place",
    "work/next_due_run": "not run there: `next_due_run_of_nodes` has its place",
    "work/next_due_run_of_nodes": "the clock of a worker bounds how far ahead is looked, no "
    "more: the time that is returned is the coordinator's, beside an aggregate of all shards",
    "work/remember_imports": "ids alone, once a batch: Citus copies them from the coordinator",
}
"""Statements that a real cluster was seen to run against a rule, or never runs, with the reason."""


def text_of(sql: str) -> str:
    """Return SQL without its comments, in single spaces."""
    return " ".join(re.sub(r"--[^\n]*", "", sql).split())


def parts_of(path: Path) -> dict[str, str]:
    """Return the statements of a file of sql/citus, by the line that they begin with."""
    return divided(path.name, path.read_text(encoding="utf-8"))


def divided(name: str, text: str) -> dict[str, str]:
    """Return the statements of a text, by its name and the line that they begin with."""
    text = re.sub(r"--[^\n]*", "", text)
    parts = [text_of(part) for part in re.split(r";\s*\n", text)]
    return {f"{name}: {number} {part[:40]}": part for number, part in enumerate(parts) if part}


def kept_functions() -> dict[str, str]:
    """Return the statements of the functions that migrations define and sql/citus does not."""
    newest = {
        found[1]: text
        for migration in known_migrations()
        for text in migration.statements
        if (found := re.match(r"CREATE (?:OR REPLACE )?FUNCTION (\w+)", text_of(text)))
    }
    replaced = {
        name
        for path in (SQL / "citus").glob("*.sql")
        for name in re.findall(r"FUNCTION (\w+)\(", path.read_text(encoding="utf-8"))
    }
    return {
        name: part
        for function, text in newest.items()
        if function not in replaced
        for name, part in divided(function, text).items()
    }


STATEMENTS = (
    {
        f"{path.stem}/{name}": text_of(text)
        for path in sorted((SQL / "queries").glob("*.sql"))
        for name, text in statements.statements(path.stem).items()
    }
    | {
        name: part
        for path in sorted((SQL / "citus").glob("*.sql"))
        for name, part in parts_of(path).items()
    }
    | kept_functions()
)


def violations(sql: str) -> list[str]:
    """Return the rules that a statement breaks, which is in single spaces."""
    if not re.search(rf"\b({TABLES})\b", sql):
        return []
    found = []
    if sql.startswith(("SELECT", "WITH")) and OF_THE_COORDINATOR.search(sql):
        found.append("a function of the coordinator beside a table")
    if re.search(r"\b(SELECT|PERFORM)\b", sql) and CLOCK.search(sql):
        found.append("a clock beside a table")
    returning = re.search(r"\bRETURNING\b(.*)", sql)
    if returning and VOLATILE.search(returning[1]):
        found.append("a volatile function in RETURNING")
    if re.search(r"\bUPDATE (?!SET\b)\w+", sql) and not re.search(r"\bFOR UPDATE\b", sql):
        changes = re.search(r"\bUPDATE \w+.*?\bSET\b(.*)", sql)
        if changes and VOLATILE.search(changes[1]):
            found.append("a volatile function in UPDATE")
    insert = re.search(rf"\bINSERT INTO ({TABLES})\b(.*)", sql)
    if insert and re.search(rf"\bSELECT\b.*\bFROM {SET_RETURNING}\b", insert[2]):
        found.append("INSERT ... SELECT over a function")
    if correlated(sql):
        found.append("a correlated subquery over a function or CTE")
    found += [f"a join of {pair} that is not on flow_id" for pair in unrelated_tables(sql)]
    return found


def correlated(sql: str) -> bool:
    """Return whether a subquery on a distributed table names a function or CTE outside of it."""
    aliases = re.findall(r"\b(\w+) AS MATERIALIZED \(", sql)
    for match in re.finditer(rf"\b(?:FROM|JOIN|LATERAL) {SET_RETURNING} ?\(", sql):
        end = closing(sql, sql.index("(", match.end() - 1))
        alias = re.match(r"\)?(?: WITH ORDINALITY)?(?: AS)? (\w+)", sql[end:])
        aliases += [alias[1]] if alias else []
    return any(
        re.search(rf"\b{alias}\.", subquery)
        and re.search(rf"\b({TABLES})\b", subquery)
        and not re.search(rf"\b{alias}\b(?!\.)", subquery)
        for alias in aliases
        for subquery in subqueries(sql)
    )


def closing(sql: str, opening: int) -> int:
    """Return the position of the parenthesis that closes the one at `opening`."""
    depth = 0
    for place in range(opening, len(sql)):
        depth += {"(": 1, ")": -1}.get(sql[place], 0)
        if depth == 0:
            return place
    return len(sql)


def subqueries(sql: str) -> list[str]:
    """Return the texts in parentheses that begin with SELECT."""
    return [
        sql[match.start() + 1 : closing(sql, match.start())]
        for match in re.finditer(r"\( ?(?=SELECT\b)", sql)
    ]


def own_level(sql: str) -> str:
    """Return a query without its subqueries."""
    for subquery in sorted(subqueries(sql), key=len, reverse=True):
        sql = sql.replace(f"({subquery})", "()")
    return sql


def unrelated_tables(sql: str) -> list[str]:
    """Return the pairs of distributed tables that one level joins without comparing flow_id."""
    found = []
    for level in (sql, *subqueries(sql)):
        for query in re.split(r"\b(?:UNION ALL|UNION|EXCEPT)\b", own_level(level)):
            tables = [match[2] or match[3] for match in FROM_DISTRIBUTED.finditer(query)]
            for first, second in pairwise(tables):
                related = (
                    rf"\b{second}\.flow_id = \w+\.flow_id\b|\b\w+\.flow_id = {second}\.flow_id\b"
                )
                if first != second and not re.search(related, query):
                    found.append(f"{first} and {second}")
    return found


def test_the_statements_keep_to_what_citus_runs_and_the_exceptions_are_needed() -> None:
    found = {name: violations(sql) for name, sql in STATEMENTS.items()}
    refused = {name: rules for name, rules in found.items() if rules}
    assert {name: rules for name, rules in refused.items() if name not in EXCEPTIONS} == {}
    assert EXCEPTIONS.keys() <= refused.keys()


REFUSED = {
    "a function of the coordinator beside a table": """
        SELECT feed_end() AS seq,
            (SELECT chain_hash FROM event_log WHERE flow_id = $1 AND seq = $2) AS link""",
    "a clock beside a table": """
        SELECT run.flow_id FROM flow_runs AS run WHERE run.due_at <= now()""",
    "a volatile function in RETURNING": """
        INSERT INTO event_log (seq) VALUES ($1) RETURNING seq, now()""",
    "a volatile function in UPDATE": """
        UPDATE workflow_step_executions SET finished_at = now() WHERE flow_id = $1""",
    "INSERT ... SELECT over a function": """
        INSERT INTO event_log AS log (flow_id)
        SELECT e.flow_id FROM unnest($1::uuid[]) AS e (flow_id)""",
    "a correlated subquery over a function or CTE": """
        SELECT wanted.hash FROM unnest($1::text[]) AS wanted (hash)
        WHERE NOT EXISTS (SELECT 1 FROM workflow_step_artifacts AS stored
            WHERE stored.artifact_hash = wanted.hash)""",
    "a join of event and artifact that is not on flow_id": """
        SELECT 1 FROM event_log AS event
        JOIN workflow_step_artifacts AS artifact ON artifact.produced_in_seq = event.seq""",
}


@pytest.mark.parametrize("rule", REFUSED)
def test_each_rule_finds_a_statement_that_breaks_it(rule: str) -> None:
    assert violations(text_of(REFUSED[rule])) == [rule]


def test_a_subquery_that_names_a_cte_outside_of_it_would_be_found() -> None:
    sql = """
        WITH product AS MATERIALIZED (SELECT event.flow_id, event.version FROM event_log AS event)
        SELECT product.flow_id FROM product WHERE NOT EXISTS (SELECT 1 FROM event_log AS later
            WHERE later.flow_id = product.flow_id AND later.version > product.version)"""
    assert violations(text_of(sql)) == ["a correlated subquery over a function or CTE"]


def test_the_heads_as_they_were_read_before_would_be_found() -> None:
    sql = """
        SELECT ends.flow_id, (SELECT last.chain_hash FROM event_log AS last
            WHERE last.flow_id = ends.flow_id)
        FROM (SELECT asked.flow_id, (SELECT max(event.version) + 1 FROM event_log AS event
                WHERE event.flow_id = asked.flow_id) AS version
            FROM unnest($1::uuid[], $2::integer[]) AS asked (flow_id, version)) AS ends"""
    assert violations(text_of(sql)) == ["a correlated subquery over a function or CTE"]
