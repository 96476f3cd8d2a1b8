"""Checks of one append: stored once, whole, and as it was sent and acknowledged."""

from collections.abc import Sequence

import msgspec

from chem_persistence import FlowEvent
from tests.torture.checker.findings import Finding, Flaw
from tests.torture.checker.ledger import Append
from tests.torture.writers.recording import TOKEN
from tests.torture.writers.records import Told, told

__all__ = ["Logged", "check_append", "check_order"]


class Logged(msgspec.Struct, frozen=True):
    """An event of the log, its append's token, and the answer that a writer would have got."""

    event: FlowEvent
    token: str
    told: Told

    @classmethod
    def of(cls, event: FlowEvent) -> "Logged":
        return cls(event, str(event.metadata.get(TOKEN)), told(event))

    @property
    def version(self) -> int:
        return self.event.version


def check_order(logged: Sequence[Logged]) -> list[Finding]:
    """Check that the versions of a flow are 0, 1, 2, ... and that seq ascends.

    The events are ordered by version.
    """
    found: list[Finding] = []
    version, seq = -1, -1
    for event in logged:
        place = f"version {event.version} after {version}"
        if event.version == version:
            found.append(
                Finding(Flaw.FORKED, f"version {version}", event.event.flow_id, event.token)
            )
        elif event.version != version + 1:
            found.append(Finding(Flaw.GAP, place, event.event.flow_id, event.token))
        elif event.event.seq <= seq:
            detail = f"version {event.version} has seq {event.event.seq} after {seq}"
            found.append(Finding(Flaw.DISORDER, detail, event.event.flow_id, event.token))
        version, seq = event.version, event.event.seq
    return found


def check_append(append: Append, logged: Sequence[Logged]) -> list[Finding]:
    """Compare an append with the events that carry its token (one or more), by version."""

    def find(flaw: Flaw, detail: str) -> None:
        found.append(Finding(flaw, detail, append.flow_id, append.token))

    found: list[Finding] = []
    sent, there = len(append.hashes), len(logged)
    versions = [event.version for event in logged]
    if append.refused:
        find(Flaw.REFUSED, f"versions {versions}")
    if there > sent:
        find(Flaw.DOUBLED, f"{sent} events are {there}, versions {versions}")
    elif there < sent:
        find(Flaw.TORN, f"{there} of {sent} events, versions {versions}")
    elif append.expected_version not in {None, versions[0]}:
        find(Flaw.MISPLACED, f"expected {append.expected_version}, stored at {versions[0]}")
    elif versions != list(range(versions[0], versions[0] + sent)):
        find(Flaw.TORN, f"its events stand apart, versions {versions}")
    elif [event.told.hash for event in logged] != list(append.hashes):
        find(Flaw.ALTERED, "other events than were sent")
    elif append.event_ids is not None and [event.event.event_id for event in logged] != list(
        append.event_ids
    ):
        find(Flaw.ALTERED, "other event ids than were sent")
    found += _check_told(append, logged)
    return found


def _check_told(append: Append, logged: Sequence[Logged]) -> list[Finding]:
    """Check that what each acknowledged call returned is in the log, unchanged."""
    found: list[Finding] = []
    by_id = {event.event.event_id: event.told for event in logged}
    for answer in dict.fromkeys(append.told):
        gone = [event for event in answer if event.event_id not in by_id]
        if gone:
            detail = f"versions {[event.version for event in gone]}"
            found.append(Finding(Flaw.LOST, detail, append.flow_id, append.token))
        for event in answer:
            stored = by_id.get(event.event_id, event)
            if stored != event:
                detail = f"acknowledged as {event}, stored as {stored}"
                found.append(Finding(Flaw.ALTERED, detail, append.flow_id, append.token))
    return found
