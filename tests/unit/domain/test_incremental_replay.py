"""A replay in parts is the replay of the whole, wherever it is cut."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st

from chem_persistence import ChemPersistenceError, FlowEvent, FlowEventKind, FlowInstance
from chem_persistence.domain.instance import initial_instance
from chem_persistence.domain.replay import replay
from chem_persistence.domain.snapshot import restore_snapshot, take_snapshot
from tests.support.examples import examples
from tests.support.flows.flows import DEFINITION
from tests.support.flows.histories import GARBAGE_KINDS, PLAUSIBLE_KINDS, legal_kinds

FLOW_ID = UUID(int=42)
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
BOUNDED = settings(deadline=None, derandomize=True, database=None, max_examples=examples(200))
KINDS = st.one_of(PLAUSIBLE_KINDS, GARBAGE_KINDS, legal_kinds())


def events(kinds: list[FlowEventKind]) -> list[FlowEvent]:
    return [
        FlowEvent(
            seq=version + 1,
            flow_id=FLOW_ID,
            version=version,
            event_id=UUID(int=version + 1),
            ts=BEGIN + timedelta(microseconds=1000003 * version),
            kind=kind,
        )
        for version, kind in enumerate(kinds)
    ]


def outcome(instance: FlowInstance, history: list[FlowEvent]) -> FlowInstance | tuple[Any, ...]:
    """Return the state, or the error's class and attributes."""
    try:
        return replay(instance, history, DEFINITION)
    except ChemPersistenceError as error:
        return type(error), vars(error)


@BOUNDED
@given(kinds=KINDS)
def test_a_history_cut_anywhere_leads_to_the_same_state_or_the_same_error(
    kinds: list[FlowEventKind],
) -> None:
    history, begin = events(kinds), initial_instance(FLOW_ID, DEFINITION)
    whole = outcome(begin, history)
    for cut in range(len(history) + 1):
        part = outcome(begin, history[:cut])
        if isinstance(part, FlowInstance):
            assert part.version == cut
            assert outcome(part, history[cut:]) == whole
        else:
            assert part == whole


@BOUNDED
@given(kinds=KINDS)
def test_a_replay_from_a_snapshot_at_any_version_is_the_same(kinds: list[FlowEventKind]) -> None:
    history, begin = events(kinds), initial_instance(FLOW_ID, DEFINITION)
    whole = outcome(begin, history)
    for cut in range(1, len(history) + 1):
        part = outcome(begin, history[:cut])
        if isinstance(part, FlowInstance):
            restored = restore_snapshot(take_snapshot(part, DEFINITION), DEFINITION)
            assert restored == part
            assert outcome(restored, history[cut:]) == whole
