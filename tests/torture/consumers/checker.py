"""The checker of the effects: plain SQL over the log and the table of effects."""

from collections.abc import Mapping
from typing import Any

import msgspec

__all__ = ["Verdict", "check", "count_beyond_parked", "is_over"]

COUNT = """
    SELECT
        (SELECT count(*) FROM event_log) AS events,
        (SELECT count(*) FROM effects) AS effects,
        (SELECT count(*) FROM event_log AS event WHERE NOT EXISTS
            (SELECT 1 FROM effects AS own WHERE own.flow_id = event.flow_id
                AND own.version = event.version AND own.seq = event.seq)) AS lost,
        (SELECT count(*) FROM effects) - (SELECT count(DISTINCT (flow_id, version)) FROM effects)
            AS doubled,
        (SELECT count(*) FROM effects AS own WHERE NOT EXISTS
            (SELECT 1 FROM event_log AS event WHERE event.flow_id = own.flow_id
                AND event.version = own.version)) AS foreign_effects,
        (SELECT count(*) FROM (SELECT version,
                lag(version, 1, -1) OVER (PARTITION BY flow_id ORDER BY id) AS before
            FROM effects) AS step WHERE step.version <> step.before + 1) AS out_of_order,
        (SELECT count(*) FROM feed_parked) AS parked,
        (SELECT count(DISTINCT pid) FROM effects) AS processes,
        (SELECT count(DISTINCT get_byte(sha256(uuid_send(flow_id)), 0) % $1::integer)
            FROM effects) AS parts
"""
BEYOND_PARKED = """
    SELECT count(*) FROM effects AS own
    JOIN feed_parked AS parked ON parked.flow_id = own.flow_id
    WHERE own.seq >= parked.seq
"""
BEHIND = """
    SELECT (SELECT count(*) FROM feed_consumers AS own
            WHERE own.seq < (SELECT coalesce(max(event.seq), 0) FROM event_log AS event))
        + (SELECT count(*) FROM feed_parked WHERE is_released)
"""


class Verdict(msgspec.Struct):
    """What was counted, and what of it is wrong."""

    counted: Mapping[str, int]
    findings: list[str]


async def check(asks: Any, parts: int) -> Verdict:
    """Check that each event has one effect, in the order of its flow, and that nothing is left."""
    row = await asks.fetchrow(COUNT, parts)
    counted: dict[str, int] = dict(row)
    wrong = ("lost", "doubled", "foreign_effects", "out_of_order", "parked")
    findings = [f"{counted[name]} {name}" for name in wrong if counted[name]]
    if await asks.fetchval(BEHIND):
        findings.append("a part is behind the end of the log")
    if counted["parts"] < min(parts, counted["events"]):
        findings.append(f"only {counted['parts']} of {parts} parts did anything")
    return Verdict(counted, findings)


async def count_beyond_parked(asks: Any) -> int:
    """Count the effects of parked flows at or after the event that was parked."""
    found: int = await asks.fetchval(BEYOND_PARKED)
    return found


async def is_over(asks: Any) -> bool:
    """Return whether every part has passed the last event, and no released flow is left."""
    behind: int = await asks.fetchval(BEHIND)
    return behind == 0
