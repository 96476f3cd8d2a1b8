"""Whether VACUUM keeps up: transaction ids that run out, dead rows, and what is in its way."""

from datetime import timedelta

from chem_persistence.postgres.admin.doctor.result import CheckResult, Severity
from chem_persistence.postgres.connection.ports import Connection
from chem_persistence.postgres.schema.statements import statement

__all__ = ["check_bloat", "check_old_transactions", "check_wraparound"]

FIND_OLD_TRANSACTIONS = statement("doctor/find_old_transactions")
MEASURE_BLOAT = statement("doctor/measure_bloat")
MEASURE_WRAPAROUND = statement("doctor/measure_wraparound")


LAST_ID = 2**31
"""The age at which a transaction id would lie in the future; the server stops writing before."""

FEWEST_DEAD_ROWS = 10_000
DEAD_FOR_LIVE = 0.4
"""Twice what autovacuum waits for (autovacuum_vacuum_scale_factor, 0.2)."""

OLD = timedelta(hours=1)


async def check_wraparound(connection: Connection) -> list[CheckResult]:
    """Look at the oldest transaction ids of all databases, since one that stops writing stops them all."""
    rows = await connection.fetch(MEASURE_WRAPAROUND)
    results = []
    for row in rows:
        if (
            row["age"] > 2 * row["forced_at"]
        ):  # autovacuum was due at half of that, and has not done it
            severity = Severity.ERROR if row["age"] > LAST_ID / 2 else Severity.WARNING
            finding = (
                f"the oldest {row['kind']} ids of database {row['database']} are {row['age']:,} old; "
                f"at {LAST_ID:,} the server takes no more appends"
            )
            remedy = "vacuumdb --all --freeze # as a superuser"
            results.append(CheckResult("wraparound", severity, finding, remedy))
    used = max((row["age"] for row in rows), default=0) / LAST_ID
    return results or [
        CheckResult("wraparound", Severity.OK, f"{used:.1%} of the transaction ids are in use")
    ]


async def check_bloat(connection: Connection, schema: str) -> list[CheckResult]:
    """Look for tables with many dead rows."""
    results = []
    rows = await connection.fetch(MEASURE_BLOAT, schema)
    for row in rows:
        live, dead = row["live_rows"], row["dead_rows"]
        if dead >= FEWEST_DEAD_ROWS and dead > DEAD_FOR_LIVE * live:
            finding = f"{row['name']} has {dead:,} dead rows and {live:,} live ones"
            remedy = f"VACUUM (ANALYZE) {row['quoted_name']};"
            results.append(CheckResult("bloat", Severity.WARNING, finding, remedy))
    dead = sum(row["dead_rows"] for row in rows)
    return results or [
        CheckResult("bloat", Severity.OK, f"{dead:,} dead rows in {len(rows)} tables")
    ]


async def check_old_transactions(connection: Connection, old: timedelta = OLD) -> list[CheckResult]:
    """Look for transactions that have been open for longer than `old`: no row that died since can be removed."""
    rows = await connection.fetch(FIND_OLD_TRANSACTIONS, old)
    return [
        CheckResult(
            "transactions",
            Severity.WARNING,
            f"{row['name']} has been open for {timedelta(seconds=round(row['seconds']))}: VACUUM cannot do its work",
            row["remedy"] + ";",
        )
        for row in rows
    ] or [CheckResult("transactions", Severity.OK, f"none has been open for {old}")]
