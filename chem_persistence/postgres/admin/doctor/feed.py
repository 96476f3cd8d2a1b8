"""Check that no open transaction holds back the feed, and what durable consumers have parked."""

from collections.abc import Sequence
from datetime import timedelta

from chem_persistence.postgres.admin.doctor.commands import Commands
from chem_persistence.postgres.admin.doctor.result import CheckResult, Severity
from chem_persistence.postgres.connection.ports import Connection
from chem_persistence.postgres.schema.statements import statement

__all__ = ["check_consumers", "check_feed"]

FIND_FEED_HOLDERS = statement("doctor/find_feed_holders")
SUM_CONSUMERS = statement("doctor/sum_consumers")

LONGEST = timedelta(seconds=30)
"""A transaction that has appended should be committed long before."""


async def check_feed(connection: Connection, longest: timedelta = LONGEST) -> list[CheckResult]:
    """Check for transactions that have appended and stay open: the feed ends before them."""
    rows = await connection.fetch(FIND_FEED_HOLDERS, longest)
    return [
        CheckResult(
            "feed",
            Severity.WARNING,
            f"session {row['pid']} of {row['usename']}{_program(row['application_name'])} has "
            f"appended in a transaction that is open for {_length(row['seconds'])}: until it ends, "
            "no subscriber and no consumer gets what others append. Append last in a transaction",
            f"SELECT pg_terminate_backend({row['pid']});",
        )
        for row in rows
    ] or [CheckResult("feed", Severity.OK, "no open transaction holds it back")]


async def check_consumers(connection: Connection, commands: Commands) -> list[CheckResult]:
    """Check for parked flows, and for parts whose last tries have failed."""
    rows = await connection.fetch(SUM_CONSUMERS)
    remedy = commands.complete("consumers list")
    results: list[CheckResult] = []
    for row in rows:
        troubles = [
            *_counted(row["parked"], "flow is parked", "flows are parked"),
            *_counted(row["failing"], "part fails", "parts fail"),
        ]
        if troubles:
            finding = f"{' and '.join(troubles)} of consumer {row['name']}: {row['error']}"
            results.append(CheckResult("consumers", Severity.WARNING, finding, remedy))
    return results or [CheckResult("consumers", Severity.OK, _well(rows))]


def _well(rows: Sequence[object]) -> str:
    if not rows:
        return "there are none"
    noun = "consumer has" if len(rows) == 1 else "consumers have"
    return f"{len(rows)} {noun} parked nothing, and no part fails"


def _counted(count: int, one: str, many: str) -> list[str]:
    return [f"{count:,} {one if count == 1 else many}"] if count else []


def _program(name: str) -> str:
    return f" ({name})" if name else ""


def _length(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
