"""A snapshot is used only if every byte of it is as it was taken."""

import hashlib
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from chem_persistence import FlowDefinition, StepDefinition
from chem_persistence.domain.snapshot import (
    SNAPSHOT_FORMAT,
    Snapshot,
    read_snapshot,
    restore_snapshot,
    take_snapshot,
)
from tests.golden.snapshot import INSTANCE, GoldenSnapshot, golden_snapshots
from tests.support.examples import examples
from tests.support.flows.flows import DEFINITION

TAKEN = take_snapshot(INSTANCE, DEFINITION)
OTHER = FlowDefinition(tuple(replace(step, version="2") for step in DEFINITION.steps))
BOUNDED = settings(deadline=None, derandomize=True, database=None, max_examples=examples(300))


def sealed(state: bytes) -> Snapshot:
    """Return a forged snapshot of a state, with the right hash."""
    return replace(TAKEN, state=state, state_hash=hashlib.sha256(state).digest())


def test_a_snapshot_gives_the_state_that_was_taken() -> None:
    assert restore_snapshot(TAKEN, DEFINITION) == INSTANCE


def test_a_snapshot_names_what_it_is_of() -> None:
    assert (TAKEN.flow_id, TAKEN.version, TAKEN.definition_hash, TAKEN.format) == (
        INSTANCE.id,
        INSTANCE.version,
        DEFINITION.definition_hash,
        SNAPSHOT_FORMAT,
    )


@BOUNDED
@given(place=st.integers(0, len(TAKEN.state) - 1), byte=st.integers(1, 255))
def test_a_state_with_another_byte_is_not_believed(place: int, byte: int) -> None:
    state = bytearray(TAKEN.state)
    state[place] ^= byte
    assert restore_snapshot(replace(TAKEN, state=bytes(state)), DEFINITION) is None


@BOUNDED
@given(
    state=st.binary(max_size=60)
    | st.integers(0, len(TAKEN.state) - 1).map(lambda end: TAKEN.state[:end])
)
def test_bytes_that_are_no_state_are_not_believed_with_their_own_hash(state: bytes) -> None:
    assert restore_snapshot(sealed(state), DEFINITION) is None


@pytest.mark.parametrize(
    "change",
    [
        {"flow_id": UUID(int=7)},
        {"version": INSTANCE.version + 1},
        {"definition_hash": OTHER.definition_hash},
        {"format": SNAPSHOT_FORMAT + 1},
        {"state_hash": bytes(32)},
        {"state_hash": b""},
    ],
)
def test_a_state_that_is_of_something_else_than_its_row_says_is_not_believed(
    change: dict[str, Any],
) -> None:
    assert read_snapshot(replace(TAKEN, **change)) is None


def test_a_state_of_another_definition_is_not_believed() -> None:
    assert restore_snapshot(TAKEN, OTHER) is None
    assert restore_snapshot(replace(TAKEN, definition_hash=OTHER.definition_hash), OTHER) is None


def test_a_state_with_other_steps_than_its_definition_is_not_believed() -> None:
    definition = FlowDefinition((*DEFINITION.steps, StepDefinition("archive")))
    assert restore_snapshot(take_snapshot(INSTANCE, definition), definition) is None


def test_a_state_of_another_format_is_not_believed() -> None:
    mark = b'"format":%d' % SNAPSHOT_FORMAT
    assert mark in TAKEN.state
    assert read_snapshot(sealed(TAKEN.state.replace(mark, b'"format":0'))) is None


@pytest.mark.parametrize("golden", golden_snapshots(), ids=lambda golden: f"format {golden.format}")
def test_a_golden_snapshot_is_read_as_the_same_state_or_ignored(golden: GoldenSnapshot) -> None:
    expected = INSTANCE if golden.format == SNAPSHOT_FORMAT else None
    assert restore_snapshot(golden.snapshot(), DEFINITION) == expected


def test_the_format_is_raised_when_the_bytes_change() -> None:
    assert golden_snapshots()[-1].snapshot() == TAKEN
