"""Check that VACUUM keeps up: transaction ids, dead rows, and transactions that block it."""

from datetime import timedelta

from chem_persistence.postgres.admin.doctor.result import CheckResult, Severity
from chem_persistence.postgres.connection.ports import Connection
from chem_persistence.postgres.schema.statements import statement

__all__ = ["check_bloat", "check_old_transactions", "check_wraparound"]

FIND_OLD_TRANSACTIONS = statement("doctor/find_old_transactions")
MEASURE_BLOAT = statement("doctor/measure_bloat")
MEASURE_WRAPAROUND = statement("doctor/measure_wraparound")

LAST_ID = 2**31
"""The age at which transaction ids would wrap around; the server stops writes before that."""

FEWEST_DEAD_ROWS = 10_000
DEAD_FOR_LIVE = 0.4
"""Twice the default of autovacuum_vacuum_scale_factor, 0.2."""

OLD = timedelta(hours=1)


async def check_wraparound(connection: Connection) -> list[CheckResult]:
    """Check the oldest ids of all databases, since wraparound in one stops them all."""
    rows = await connection.fetch(MEASURE_WRAPAROUND)
    results = []
    for row in rows:
        if row["age"] > 2 * row["forced_at"]:  # the forced VACUUM did not happen
            severity = Severity.ERROR if row["age"] > LAST_ID / 2 else Severity.WARNING
            finding = (
                f"the oldest {row['kind']} ids of database {row['database']} "
                f"are {row['age']:,} old; "
                f"at {LAST_ID:,} the server stops all writes"
            )
            remedy = "vacuumdb --all --freeze # as a superuser"
            results.append(CheckResult("wraparound", severity, finding, remedy))
    used = max((row["age"] for row in rows), default=0) / LAST_ID
    return results or [
        CheckResult("wraparound", Severity.OK, f"{used:.1%} of the transaction ids are in use")
    ]


async def check_bloat(connection: Connection, schema: str) -> list[CheckResult]:
    """Check for tables with many dead rows."""
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
    """Check for transactions older than `old`: VACUUM cannot remove rows that died since."""
    rows = await connection.fetch(FIND_OLD_TRANSACTIONS, old)
    return [
        CheckResult(
            "transactions",
            Severity.WARNING,
            f"{row['name']} has been open for {timedelta(seconds=round(row['seconds']))}: "
            "VACUUM cannot remove rows that died since",
            row["remedy"] + ";",
        )
        for row in rows
    ] or [CheckResult("transactions", Severity.OK, f"none has been open for {old}")]
