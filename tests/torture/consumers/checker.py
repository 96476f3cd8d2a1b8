"""The checker of the effects: plain SQL over the log and the table of effects."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import asyncpg
import msgspec

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]

__all__ = ["Verdict", "check", "count_beyond_parked", "is_over"]

COPY = """
    CREATE TEMP TABLE all_events AS SELECT flow_id, version, seq FROM event_log;
    CREATE TEMP TABLE all_effects AS SELECT id, flow_id, version, seq, pid FROM effects
"""
"""On Citus the two tables may be on other nodes than that of the consumers' positions."""

COUNT = """
    SELECT
        (SELECT count(*) FROM all_events) AS events,
        (SELECT count(*) FROM all_effects) AS effects,
        (SELECT count(*) FROM all_events AS event WHERE NOT EXISTS
            (SELECT 1 FROM all_effects AS own WHERE own.flow_id = event.flow_id
                AND own.version = event.version AND own.seq = event.seq)) AS lost,
        (SELECT count(*) - count(DISTINCT (flow_id, version)) FROM all_effects) AS doubled,
        (SELECT count(*) FROM all_effects AS own WHERE NOT EXISTS
            (SELECT 1 FROM all_events AS event WHERE event.flow_id = own.flow_id
                AND event.version = own.version)) AS foreign_effects,
        (SELECT count(*) FROM (SELECT version,
                lag(version, 1, -1) OVER (PARTITION BY flow_id ORDER BY id) AS before
            FROM all_effects) AS step WHERE step.version <> step.before + 1) AS out_of_order,
        (SELECT count(*) FROM feed_parked) AS parked,
        (SELECT count(DISTINCT pid) FROM all_effects) AS processes,
        (SELECT count(DISTINCT get_byte(sha256(uuid_send(flow_id)), 0) % $1::integer)
            FROM all_effects) AS parts
"""
READ_PARKED = "SELECT flow_id, seq FROM feed_parked"
BEYOND = "SELECT count(*) FROM effects WHERE flow_id = $1 AND seq >= $2"
LAST = "SELECT coalesce(max(seq), 0) FROM event_log"
BEHIND = """
    SELECT (SELECT count(*) FROM feed_consumers AS own WHERE own.seq < $1)
        + (SELECT count(*) FROM feed_parked WHERE is_released)
"""


class Verdict(msgspec.Struct):
    """What was counted, and what of it is wrong."""

    counted: Mapping[str, int]
    findings: list[str]


async def check(pool: "Pool", parts: int) -> Verdict:
    """Check that each event has one effect, in the order of its flow, and that nothing is left."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(COPY)
        row = await connection.fetchrow(COUNT, parts)
        await connection.execute("DROP TABLE all_events, all_effects")
    assert row is not None
    counted: dict[str, int] = dict(row)
    wrong = ("lost", "doubled", "foreign_effects", "out_of_order", "parked")
    findings = [f"{counted[name]} {name}" for name in wrong if counted[name]]
    if not await is_over(pool):
        findings.append("a part is behind the end of the log")
    if counted["parts"] < min(parts, counted["events"]):
        findings.append(f"only {counted['parts']} of {parts} parts did anything")
    return Verdict(counted, findings)


async def count_beyond_parked(pool: "Pool") -> int:
    """Count the effects of parked flows at or after the event that was parked."""
    parked = await pool.fetch(READ_PARKED)
    counts = [await pool.fetchval(BEYOND, row["flow_id"], row["seq"]) for row in parked]
    return sum(counts)


async def is_over(pool: "Pool") -> bool:
    """Return whether every part has passed the last event, and no released flow is left."""
    last = await pool.fetchval(LAST)
    behind: int = await pool.fetchval(BEHIND, last)
    return behind == 0
