"""Statistics of the log: read as of their last refresh, and refreshed."""

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

READ_ARTIFACT_STATISTICS = statement("statistics/read_artifact_statistics")
READ_FAILURE_STATISTICS = statement("statistics/read_failure_statistics")
READ_HOURLY_THROUGHPUT = statement("statistics/read_hourly_throughput")
READ_STATISTICS_REFRESH = statement("statistics/read_statistics_refresh")
READ_STEP_STATISTICS = statement("statistics/read_step_statistics")
REFRESH_ARTIFACT_STATISTICS = statement("statistics/refresh_artifact_statistics")
REFRESH_FAILURE_STATISTICS = statement("statistics/refresh_failure_statistics")
REFRESH_HOURLY_THROUGHPUT = statement("statistics/refresh_hourly_throughput")
REFRESH_STATISTICS_REFRESH = statement("statistics/refresh_statistics_refresh")
REFRESH_STEP_STATISTICS = statement("statistics/refresh_step_statistics")

_REFRESHES = (  # in this order, so that a concurrent refresh waits at the first one
    REFRESH_STATISTICS_REFRESH,
    REFRESH_STEP_STATISTICS,
    REFRESH_FAILURE_STATISTICS,
    REFRESH_HOURLY_THROUGHPUT,
    REFRESH_ARTIFACT_STATISTICS,
)

Figures = TypeVar("Figures", bound=msgspec.Struct)


async def read_statistics(provider: ConnectionProvider) -> Statistics:
    """Read the statistics, all of one refresh.

    Raises:
        StoreUnavailable, StoreError: they could not be read.
    """
    return await Session(provider).transaction(_read_all, isolation="repeatable_read")


async def refresh_statistics(provider: ConnectionProvider) -> None:
    """Compute the statistics anew, while readers see the last ones.

    Source: PostgreSQL manual, REFRESH MATERIALIZED VIEW.

    Raises:
        StoreError: the role is neither the owner of the tables nor a member of it.
        StoreUnavailable: the database could not be reached.
    """
    try:
        await Session(provider).transaction(_refresh_all, isolation="read_committed")
    except StoreError as error:
        if isinstance(error.__cause__, asyncpg.InsufficientPrivilegeError):
            reason = (
                "only the owner of the tables, or a role that is a member of it, "
                "may refresh the statistics"
            )
            raise StoreError(reason, error.sqlstate) from error
        raise


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


async def _refresh_all(connection: Connection) -> None:
    for refresh in _REFRESHES:
        await connection.execute(refresh)
