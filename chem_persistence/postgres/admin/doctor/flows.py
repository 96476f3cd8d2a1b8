"""Check the flows that workers run: those unserved, overdue, damaged, and failed."""

from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager, nullcontext
from datetime import datetime, timedelta

from chem_persistence.errors import StoreError
from chem_persistence.postgres.admin.doctor.commands import Commands
from chem_persistence.postgres.admin.doctor.result import CheckResult, Severity
from chem_persistence.postgres.admin.doctor.unloadable import MOST_LOADED, find_unloadable
from chem_persistence.postgres.connection.ports import Connection
from chem_persistence.postgres.event_store import PgEventStore
from chem_persistence.postgres.read.rows import Row
from chem_persistence.postgres.read.workers import LATELY, LIST_WORKERS
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.definitions import read_definition

__all__ = ["check_given_flows"]

COUNT_DUE_RUNS = statement("doctor/count_due_runs")
COUNT_FAILED_RUNS = statement("doctor/count_failed_runs")
FIND_DUE_RUN = statement("doctor/find_due_run")
FIND_FAILED_RUN = statement("doctor/find_failed_run")
LIST_RUNS_DUE_SOON = statement("doctor/list_runs_due_soon")
READ_CLOCK = statement("doctor/read_clock")

OVERDUE = timedelta(minutes=10)
"""A flow that is due for longer although workers serve it is overdue."""

MOST_DEFINITIONS = 5
"""So many definitions are named of those that nobody serves, and of those that are overdue, and so
many flows that cannot be loaded."""

MOST_STEPS = 8

MOST_FAILED = 1_000
"""So many flows that have failed are counted: of a large log, the rest is read in vain."""

LONGEST_GIVEN_BACK = timedelta(hours=1)
"""A flow that cannot be loaded is given back for at most so long."""


async def check_given_flows(connection: Connection, commands: Commands) -> list[CheckResult]:
    """Check for flows that no worker serves, or can load, that are overdue, and that have failed.

    A flow is unserved if it has been due for longer than `LATELY`, and no worker that was seen
    within that time serves its definition. The queries read the rows of the flows that are not
    over, and of the log the events of one flow for each finding, and those of at most `MOST_LOADED`
    flows that a worker may have given back.
    """
    (clock,) = await connection.fetch(READ_CLOCK)
    present: datetime = clock["now"]
    rows = await connection.fetch(COUNT_DUE_RUNS, present - LATELY, present - OVERDUE)
    workers = Counter(
        definition_hash
        for worker in await connection.fetch(LIST_WORKERS)
        if worker["seen_at"] >= present - LATELY
        for definition_hash in worker["definitions"]
    )

    def unserved(row: Row, name: str) -> str:
        have = "flow is" if row["flows"] == 1 else "flows are"
        return (
            f"{row['flows']:,} {have} due{_since(row, present)}, and no worker that was seen in "
            f"the last {_length(LATELY)} serves the definition: {name}"
        )

    def overdue(row: Row, name: str) -> str:
        have = "flow has" if row["overdue"] == 1 else "flows have"
        count = workers[row["definition_hash"]]
        serve = "1 worker serves" if count == 1 else f"{count:,} workers serve"
        return (
            f"{row['overdue']:,} {have} been due for longer than {_length(OVERDUE)}"
            f"{_since(row, present)}, although {serve} the definition: {name}"
        )

    alone = [row for row in rows if not workers[row["definition_hash"]]]
    late = [row for row in rows if workers[row["definition_hash"]] and row["overdue"]]
    results = [
        *await _described(connection, commands, alone, unserved, "due, and served by no worker"),
        *await _described(connection, commands, late, overdue, "overdue"),
        *await _unloadable(connection, commands, present),
        *await _failed(connection, commands, present),
    ]
    finding = "none is unserved or overdue, and none has failed"
    return results or [CheckResult("flows", Severity.OK, finding)]


async def _described(
    connection: Connection,
    commands: Commands,
    rows: Sequence[Row],
    finding: Callable[[Row, str], str],
    in_short: str,
) -> list[CheckResult]:
    """Return a warning for each of the first definitions, and one for all others together."""
    remedy = commands.complete("waiting")
    results = [
        CheckResult(
            "flows",
            Severity.WARNING,
            finding(row, await _definition_name(connection, row["definition_hash"])),
            remedy,
        )
        for row in rows[:MOST_DEFINITIONS]
    ]
    if more := rows[MOST_DEFINITIONS:]:
        others = f"flows of {len(more):,} more definitions are {in_short}"
        results.append(CheckResult("flows", Severity.WARNING, others, remedy))
    return results


async def _definition_name(connection: Connection, definition_hash: str) -> str:
    """Return the name of a definition's longest due flow, the definition's hash and its steps."""
    flows = await connection.fetch(FIND_DUE_RUN, definition_hash)
    name = next((flow["name"] for flow in flows if flow["name"]), None)
    try:
        definition = await read_definition(PgEventStore(_Lent(connection)), definition_hash)
    except StoreError:  # other checks name a table or a right that is missing
        definition = None
    parts = [definition_hash[:12] if name is None else f"{name}, {definition_hash[:12]}"]
    if definition is not None:
        ids = [step.id for step in definition.steps]
        more = [f"{len(ids) - MOST_STEPS} more"] if len(ids) > MOST_STEPS else []
        parts.append(f"steps {', '.join(ids[:MOST_STEPS] + more)}")
    return "; ".join(parts)


async def _unloadable(
    connection: Connection, commands: Commands, present: datetime
) -> list[CheckResult]:
    """Return a warning for each of the first flows that cannot be loaded."""
    rows = await connection.fetch(
        LIST_RUNS_DUE_SOON, present, present + LONGEST_GIVEN_BACK, MOST_LOADED
    )
    try:
        found = await find_unloadable(PgEventStore(_Lent(connection)), rows)
    except StoreError:  # other checks name a table or a right that is missing
        return []
    results = [
        CheckResult(
            "flows",
            Severity.WARNING,
            f"flow {flow_id} cannot be loaded, so workers give it back and try again within "
            f"{_length(LONGEST_GIVEN_BACK)}: {error}",
            commands.complete(f"verify {flow_id}"),
        )
        for flow_id, error in found[:MOST_DEFINITIONS]
    ]
    if more := found[MOST_DEFINITIONS:]:
        others = f"{len(more):,} more flows cannot be loaded"
        results.append(CheckResult("flows", Severity.WARNING, others, commands.complete("verify")))
    return results


async def _failed(
    connection: Connection, commands: Commands, present: datetime
) -> list[CheckResult]:
    """Return a warning if flows have failed and no retry of theirs is scheduled."""
    ((flows,),) = await connection.fetch(COUNT_FAILED_RUNS, MOST_FAILED + 1)
    number = f"{flows:,}" if flows <= MOST_FAILED else f"more than {MOST_FAILED:,}"
    found = await connection.fetch(FIND_FAILED_RUN) if flows else []
    return [
        CheckResult(
            "flows",
            Severity.WARNING,
            f"{number} {'flow has' if flows == 1 else 'flows have'} failed, and no retry is "
            f"scheduled; {'it' if flows == 1 else 'the oldest'} failed "
            f"{_length(present - row['failed_at'])} ago: flow {row['flow_id']}",
            commands.complete("flows --state failed"),
        )
        for row in found
    ]


class _Lent:
    """A provider that lends one connection, which somebody else returns."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def acquire(self) -> AbstractAsyncContextManager[Connection]:
        return nullcontext(self._connection)


def _since(row: Row, present: datetime) -> str:
    since = "" if row["flows"] == 1 else "the oldest "
    return f" ({since}for {_length(present - row['due_at'])})"


def _length(length: timedelta) -> str:
    return str(timedelta(seconds=round(length.total_seconds())))
