"""Manipulations of the log of `written_log`, as statements; the checker must find each."""

from uuid import UUID

import msgspec

from tests.torture.checker.findings import Flaw
from tests.torture.mutants.written_log import FLOW, OTHER, OWN, UNANSWERED

__all__ = ["PLANTS", "Plant"]


class Plant(msgspec.Struct, frozen=True):
    """A statement about a flow, the flaws that it causes, and the append that one of them names."""

    statement: str
    flow_id: UUID
    flaws: set[Flaw]
    token: str | None = None


COPY = """
    INSERT INTO event_log
        (flow_id, version, event_id, ts, event_type, payload, metadata, chain_hash)
    SELECT flow_id, {version}, {event_id}, ts, event_type, payload, {metadata}, chain_hash
    FROM event_log WHERE flow_id = $1 AND version = 2
"""
PLANTS = {
    "the last event is lost": Plant(
        "DELETE FROM event_log WHERE flow_id = $1 AND version = 5",
        FLOW,
        {Flaw.LOST},
        "late",
    ),
    "an event is lost in the middle": Plant(
        "DELETE FROM event_log WHERE flow_id = $1 AND version = 1",
        FLOW,
        {Flaw.LOST, Flaw.GAP},
        "single",
    ),
    "a flow is lost": Plant(
        "DELETE FROM event_log WHERE flow_id = $1", OTHER, {Flaw.LOST}, "other"
    ),
    "an event has a twin": Plant(
        COPY.format(version=6, event_id="gen_random_uuid()", metadata="metadata"),
        FLOW,
        {Flaw.DOUBLED},
        "batch",
    ),
    "an event has a twin with its id": Plant(
        COPY.format(version=6, event_id="event_id", metadata="metadata"),
        FLOW,
        {Flaw.DOUBLED},
        "batch",
    ),
    "an event has a twin in its place": Plant(
        COPY.format(version=2, event_id="event_id", metadata="metadata"),
        FLOW,
        {Flaw.FORKED, Flaw.DOUBLED},
        "batch",
    ),
    "an event is there that nobody sent": Plant(
        COPY.format(version=6, event_id="gen_random_uuid()", metadata="'{}'"),
        FLOW,
        {Flaw.UNSENT},
        "None",
    ),
    "versions are skipped": Plant(
        "UPDATE event_log SET version = version + 10 WHERE flow_id = $1 AND version = 5",
        FLOW,
        {Flaw.GAP, Flaw.ALTERED},
        "late",
    ),
    "half a batch is there": Plant(
        "DELETE FROM event_log WHERE flow_id = $1 AND version = 1",
        UNANSWERED,
        {Flaw.TORN},
        "unanswered",
    ),
    "an artifact is gone": Plant(
        f"DELETE FROM workflow_step_artifacts WHERE artifact_hash = '{OWN.hash}' AND flow_id = $1",
        FLOW,
        {Flaw.ARTIFACT_MISSING},
        "batch",
    ),
    "an artifact is there without its event": Plant(
        (
            "INSERT INTO workflow_step_artifacts "
            "(artifact_hash, kind, content, media_type, metadata, flow_id, produced_in_seq) "
            "VALUES (encode(sha256('x'), 'hex'), 'Stray', 'x', 'text/plain', '{}', $1, 1)"
        ),
        FLOW,
        {Flaw.ARTIFACT_STRAY},
        None,
    ),
    "an artifact's event is gone": Plant(
        "UPDATE workflow_step_artifacts SET produced_in_seq = 999 WHERE flow_id = $1",
        FLOW,
        {Flaw.ARTIFACT_STRAY},
        None,
    ),
    "the projection counts one more": Plant(
        "UPDATE workflow_step_executions SET attempts = attempts + 1 WHERE flow_id = $1",
        FLOW,
        {Flaw.PROJECTION},
        None,
    ),
    "the projection lacks a step": Plant(
        "DELETE FROM workflow_step_executions WHERE flow_id = $1",
        FLOW,
        {Flaw.PROJECTION},
        None,
    ),
    "seq does not ascend": Plant(
        (
            "UPDATE event_log SET seq = CASE version WHEN 4 THEN seq + 1 ELSE seq - 1 END "
            "WHERE flow_id = $1 AND version IN (4, 5)"
        ),
        FLOW,
        {Flaw.DISORDER, Flaw.ALTERED},
        "late",
    ),
    "a payload is another": Plant(
        (
            "UPDATE event_log SET payload = jsonb_set(payload, '{data}', '1') "
            "WHERE flow_id = $1 AND version = 5"
        ),
        FLOW,
        {Flaw.ALTERED},
        "late",
    ),
    "an event id is another": Plant(
        "UPDATE event_log SET event_id = gen_random_uuid() WHERE flow_id = $1 AND version = 5",
        FLOW,
        {Flaw.ALTERED, Flaw.LOST},
        "late",
    ),
    "a time is another": Plant(
        "UPDATE event_log SET ts = ts + interval '1 second' WHERE flow_id = $1 AND version = 5",
        FLOW,
        {Flaw.ALTERED, Flaw.CHAIN},
        "late",
    ),
    "a link is another": Plant(
        "UPDATE event_log SET chain_hash = sha256('x') WHERE flow_id = $1 AND version = 5",
        FLOW,
        {Flaw.CHAIN},
        None,
    ),
}
