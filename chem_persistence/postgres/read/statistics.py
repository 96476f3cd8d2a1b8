"""Statistics of the log: read as of their last refresh, and refreshed by what is new."""

from functools import partial
from typing import TypeVar

import asyncpg
import msgspec

from chem_persistence.domain.answers import (
    ArtifactStatistics,
    FailureStatistics,
    HourlyThroughput,
    Statistics,
    StepStatistics,
)
from chem_persistence.errors import StoreError
from chem_persistence.postgres.connection.ports import Connection, ConnectionProvider
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.schema.statements import statement

__all__ = ["read_statistics", "refresh_statistics"]

FOLD_STATISTICS = statement("statistics/fold_statistics")
READ_ARTIFACT_STATISTICS = statement("statistics/read_artifact_statistics")
READ_FAILURE_STATISTICS = statement("statistics/read_failure_statistics")
READ_HOURLY_THROUGHPUT = statement("statistics/read_hourly_throughput")
READ_STATISTICS_REFRESH = statement("statistics/read_statistics_refresh")
READ_STEP_STATISTICS = statement("statistics/read_step_statistics")

Figures = TypeVar("Figures", bound=msgspec.Struct)


async def read_statistics(provider: ConnectionProvider) -> Statistics:
    """Read the statistics, all of one refresh.

    Raises:
        StoreUnavailable, StoreError: they could not be read.
    """
    return await Session(provider).transaction(_read_all, isolation="repeatable_read")


async def refresh_statistics(provider: ConnectionProvider) -> None:
    """Add to the statistics what is new in the log, up to the end of the feed.

    Each transaction adds a bounded number of events; if one fails, what those before it have added
    stays, and the next refresh goes on from there. A second refresh waits for each of the first.

    Raises:
        StoreError: the role is neither the owner of the tables nor a member of it.
        StoreUnavailable: the database could not be reached.
    """
    # imported only here, as only this needs the feed
    from chem_persistence.postgres.read.feed import find_feed_end  # noqa: PLC0415

    session = Session(provider)
    try:
        end = await find_feed_end(provider)  # before the statements that read events up to it
        counted = -1
        while counted < end:
            fold = partial(_fold, upto=end)
            counted = await session.transaction(fold, isolation="read_committed")
    except StoreError as error:
        if isinstance(error.__cause__, asyncpg.InsufficientPrivilegeError):
            reason = (
                "only the owner of the tables, or a role that is a member of it, "
                "may refresh the statistics"
            )
            raise StoreError(reason, error.sqlstate) from error
        raise


async def _fold(connection: Connection, upto: int) -> int:
    (row,) = await connection.fetch(FOLD_STATISTICS, upto)
    counted: int = row["seq"]
    return counted


async def _read_all(connection: Connection) -> Statistics:
    (refresh,) = await connection.fetch(READ_STATISTICS_REFRESH)
    return Statistics(
        refreshed_at=refresh["refreshed_at"],
        steps=await _read(connection, READ_STEP_STATISTICS, StepStatistics),
        failures=await _read(connection, READ_FAILURE_STATISTICS, FailureStatistics),
        hours=await _read(connection, READ_HOURLY_THROUGHPUT, HourlyThroughput),
        artifacts=await _read(connection, READ_ARTIFACT_STATISTICS, ArtifactStatistics),
    )


async def _read(
    connection: Connection, statement: str, figures: type[Figures]
) -> tuple[Figures, ...]:
    return tuple(figures(**row) for row in await connection.fetch(statement))
