"""Check the clock of this machine, which gives events their times, against the server's."""

from datetime import timedelta

from chem_persistence.postgres.admin.doctor.result import CheckResult, Severity
from chem_persistence.postgres.connection.ports import Connection
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.ports import Clock

__all__ = ["check_clock", "check_newest_flow"]

FIND_FUTURE_FLOW = statement("doctor/find_future_flow")
READ_CLOCK = statement("doctor/read_clock")

TOLERANCE = timedelta(seconds=1)
ROUNDS = 5
"""The server's clock is read so often; the fastest reading counts (RFC 5905, section 10)."""

_REMEDY = "timedatectl set-ntp true # on both machines"


async def check_clock(connection: Connection, clock: Clock) -> list[CheckResult]:
    """Compare this machine's clock with the server's, as exactly as a round trip permits."""
    best_trip, skew = timedelta.max, timedelta()
    for _ in range(ROUNDS):
        before = clock.now()
        (row,) = await connection.fetch(READ_CLOCK)
        trip = clock.now() - before
        if trip < best_trip:
            best_trip, skew = trip, row["now"] - (before + trip / 2)
    seconds = skew.total_seconds()
    if abs(skew) > TOLERANCE + best_trip / 2:
        ahead = "ahead of" if seconds > 0 else "behind"
        finding = f"the server's clock is {abs(seconds):,.1f} s {ahead} this machine's"
        return [CheckResult("clock", Severity.WARNING, finding, _REMEDY)]
    finding = (
        f"within {max(abs(seconds), best_trip.total_seconds() / 2) * 1000:.0f} ms of the server's"
    )
    return [CheckResult("clock", Severity.OK, finding)]


async def check_newest_flow(connection: Connection) -> list[CheckResult]:
    """Check whether the newest flow began later than the server's present time."""
    (row,) = await connection.fetch(FIND_FUTURE_FLOW)
    if row["seconds"] is None or row["seconds"] <= TOLERANCE.total_seconds():
        return []
    finding = (
        f"the newest flow began {row['seconds']:,.1f} s in the future: "
        "the clock of the machine that appended it is ahead"
    )
    return [CheckResult("clock", Severity.WARNING, finding, _REMEDY)]
