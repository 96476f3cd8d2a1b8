"""A flow's state in bytes, so that a later replay need not begin at the first event.

A snapshot is a cache: it is taken from a replay, and if it is damaged in any way, a replay from the
first event returns the same state. Format: the JSON of {definition_hash, format, instance}, and the
SHA-256 (FIPS 180-4) of these bytes.
"""

import hashlib
from uuid import UUID

import msgspec

from chem_persistence.domain.definition import FlowDefinition
from chem_persistence.domain.instance import FlowInstance, has_steps_of

__all__ = ["SNAPSHOT_FORMAT", "Snapshot", "read_snapshot", "restore_snapshot", "take_snapshot"]

SNAPSHOT_FORMAT = 2
"""The number of the format: increased if replay makes another state of the same events, or if
the state is encoded in another way. Snapshots of other formats are ignored.
"""


class Snapshot(msgspec.Struct, frozen=True, kw_only=True):
    """A flow's state after `version` events, under the definition with this hash.

    `state_hash` is the SHA-256 of `state`.
    """

    flow_id: UUID
    version: int
    definition_hash: str
    format: int
    state: bytes
    state_hash: bytes


class _State(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The content of the bytes; it names flow and definition, whatever is stored beside them."""

    definition_hash: str
    format: int
    instance: FlowInstance


_decoder = msgspec.json.Decoder(_State)


def take_snapshot(instance: FlowInstance, definition: FlowDefinition) -> Snapshot:
    """Return a snapshot of a state that was replayed under this definition."""
    definition_hash = definition.definition_hash
    state = msgspec.json.encode(
        _State(definition_hash=definition_hash, format=SNAPSHOT_FORMAT, instance=instance)
    )
    return Snapshot(
        flow_id=instance.id,
        version=instance.version,
        definition_hash=definition_hash,
        format=SNAPSHOT_FORMAT,
        state=state,
        state_hash=hashlib.sha256(state).digest(),
    )


def read_snapshot(snapshot: Snapshot) -> FlowInstance | None:
    """Return the state that was encoded, or None if the snapshot is not valid.

    That is: its bytes do not have its hash, or are of another flow, version or definition.
    """
    if hashlib.sha256(snapshot.state).digest() != snapshot.state_hash:
        return None
    try:
        state = _decoder.decode(snapshot.state)
    except (ValueError, OverflowError, RecursionError):
        return None
    fits = (
        state.format == snapshot.format == SNAPSHOT_FORMAT
        and state.definition_hash == snapshot.definition_hash
        and (state.instance.id, state.instance.version) == (snapshot.flow_id, snapshot.version)
    )
    return state.instance if fits else None


def restore_snapshot(snapshot: Snapshot, definition: FlowDefinition) -> FlowInstance | None:
    """Return the state that was encoded; None if it is not valid or of another definition."""
    instance = read_snapshot(snapshot)
    if instance is None or snapshot.definition_hash != definition.definition_hash:
        return None
    return instance if has_steps_of(instance, definition) else None
