"""Find out what was done to a flow whose hash chain does not verify.

A wrong link proves only that something was changed. What it was follows from the links around it:
each link was computed from the event's content, its version and the link before it, so an event
that still fits one of them shows which of the others was changed.
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from chem_persistence.domain.canonical_json.encode import canonical_json, read_json
from chem_persistence.domain.hash_chain import GENESIS, chain_link
from chem_persistence.errors import InvalidPayload

__all__ = ["ChainedEvent", "Finding", "FlowCheck", "Tampering"]

LONGEST_RENUMBERING = 1_000
"""The most removed events that are found if those after them were renumbered to close the gap."""


class Tampering(StrEnum):
    """What was done to the log, to an artifact or to a snapshot."""

    ALTERED = "altered"
    MISSING = "missing"
    INSERTED = "inserted"
    REORDERED = "reordered"
    TRUNCATED = "truncated"
    ARTIFACT_ALTERED = "artifact altered"
    ARTIFACT_MISSING = "artifact missing"
    ARTIFACT_UNREADABLE = "artifact unreadable"
    SNAPSHOT_FALSE = "snapshot false"


class Finding(msgspec.Struct, frozen=True):
    """The first fault of a flow, at `version`, or of its snapshot or one of its artifacts.

    `detail` describes it in words; it has the artifact's hash.
    """

    flow_id: UUID
    version: int
    tampering: Tampering
    detail: str


class _Named(msgspec.Struct, frozen=True):
    """A payload's type and the artifacts that it names."""

    type: str = ""
    outputs: tuple[str, ...] = ()
    input: str | None = None

    @classmethod
    def of(cls, payload: bytes) -> "_Named":
        return msgspec.json.decode(payload, type=cls)


class ChainedEvent(msgspec.Struct, frozen=True):
    """A stored event with what its link was computed from.

    `payload` and `metadata` are JSON in any rendering. `ts` is None if the log has a time that no
    datetime can hold: no event was made with it.
    """

    flow_id: UUID
    version: int
    seq: int
    event_id: UUID
    ts: datetime | None
    event_type: str
    payload: bytes
    metadata: bytes
    link: bytes

    def link_at(self, previous: bytes, version: int) -> bytes | None:
        """Return the event's link at a version after `previous`; None if it cannot have had one."""
        if self.ts is None:
            return None
        try:
            payload = canonical_json(read_json(self.payload))
            metadata = canonical_json(read_json(self.metadata))
        except (msgspec.DecodeError, InvalidPayload, OverflowError, RecursionError):
            return None
        return chain_link(
            previous,
            flow_id=self.flow_id,
            version=version,
            event_id=self.event_id,
            ts=self.ts,
            payload=payload,
            metadata=metadata,
        ).hash

    def type_matches(self) -> bool:
        """Return whether the event type beside the payload is the payload's own."""
        try:
            return _Named.of(self.payload).type == self.event_type
        except msgspec.DecodeError:
            return False

    def named_artifacts(self) -> tuple[str, ...]:
        """Return the hashes of the artifacts that an event names whose link was verified."""
        named = _Named.of(self.payload)
        return named.outputs if named.input is None else (*named.outputs, named.input)


class FlowCheck:
    """Verifies one flow's hash chain, event by event, in constant memory."""

    def __init__(self, flow_id: UUID) -> None:
        self.flow_id = flow_id
        self.version = 0
        self.link = GENESIS
        self.seq = 0  # below every number of a sequence

    def fits(self, event: ChainedEvent) -> bool:
        """Return whether the event continues the chain, and move on to it if it does."""
        fits = (
            event.version == self.version
            and event.link_at(self.link, self.version) == event.link
            and event.type_matches()
            and event.seq > self.seq
        )
        if fits:
            self.version += 1
            self.link = event.link
            self.seq = event.seq
        return fits

    def diagnose(self, rest: Sequence[ChainedEvent]) -> Finding:
        """Return the fault; `rest` are the events from the first that does not fit, in order."""
        first = rest[0]
        if first.version > self.version:
            count = first.version - self.version
            return self._finding(Tampering.MISSING, f"{count} of the flow's events")
        if first.version < self.version:
            return self._finding(
                Tampering.INSERTED, f"a second event at version {first.version}", first.version
            )
        own = first.link_at(self.link, self.version)
        follower = rest[1] if len(rest) > 1 else None
        if own == first.link:
            other = (
                "event type is not its payload's"
                if not first.type_matches()
                else "seq does not ascend"
            )
            return self._finding(Tampering.ALTERED, f"its {other}")
        if follower is not None and follower.link_at(first.link, follower.version) == follower.link:
            genuine = self._genuine_place(rest)
            if genuine is None and self._is_renumbered(first, follower):
                return self._finding(
                    Tampering.MISSING, "events were removed, and those after them renumbered"
                )
            return self._finding(Tampering.ALTERED, "its content is not what its link was made of")
        if (
            follower is not None
            and own is not None
            and follower.link_at(own, follower.version) == follower.link
        ):
            return self._finding(Tampering.ALTERED, "its link was replaced")
        return self._displaced(rest)

    def _displaced(self, rest: Sequence[ChainedEvent]) -> Finding:
        first = rest[0]
        place = self._genuine_place(rest)
        if place is None:
            if len(rest) > 1 and self._is_renumbered(first, rest[1]):
                return self._finding(
                    Tampering.MISSING, "events were removed, and those after them renumbered"
                )
            return self._finding(
                Tampering.ALTERED, "neither its content nor its link continues the chain"
            )
        genuine = rest[place]
        before = genuine.link if place == 1 else rest[place - 1].link
        if first.link_at(before, genuine.version) == first.link:
            return self._finding(
                Tampering.REORDERED, f"versions {self.version} and {genuine.version} were exchanged"
            )
        return self._finding(Tampering.INSERTED, f"{place} events stand before the genuine one")

    def _genuine_place(self, rest: Sequence[ChainedEvent]) -> int | None:
        """Return the index in `rest` of the event made for the current version, or None."""
        for place, event in enumerate(rest):
            if place > 0 and event.link_at(self.link, self.version) == event.link:
                return place
        return None

    @staticmethod
    def _is_renumbered(first: ChainedEvent, follower: ChainedEvent) -> bool:
        """Return whether the follower continues `first` under a version above its own."""
        return any(
            follower.link_at(first.link, follower.version + shift) == follower.link
            for shift in range(1, LONGEST_RENUMBERING + 1)
        )

    def _finding(self, tampering: Tampering, detail: str, version: int | None = None) -> Finding:
        return Finding(
            self.flow_id, self.version if version is None else version, tampering, detail
        )
