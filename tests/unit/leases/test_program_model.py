"""The rules of flows that programs run hold over all interleavings, and each guard is needed."""

import pytest

from tests.unit.leases.program_model import Guards, explore

SOUND = Guards()


def test_no_interleaving_breaks_an_invariant() -> None:
    found = explore(SOUND)
    assert (found.fault, found.way) == (None, ())
    assert found.states > 1_000


@pytest.mark.parametrize(
    ("guard", "fault"),
    [
        ("held_at_once", "a worker may claim a flow whose program lives"),
        ("keeps", "a worker may claim a flow whose program lives"),
        ("own_lease", "a flow that nobody goes on with"),
        ("left_to_nobody", "a worker may claim a flow that its program has left"),
    ],
)
def test_a_guard_that_is_taken_out_is_missed(guard: str, fault: str) -> None:
    found = explore(SOUND._replace(**{guard: False}))
    assert found.fault == fault
    assert found.way
