"""The rules of slots hold over all interleavings, and each guard is needed.

The model, and the code that each of its transitions stands for, are in `slot_model.py`.
"""

import pytest

from tests.unit.leases.slot_model import Bound, Guards, explore

BOUNDS = {"a failure and a death": Bound(), "two deaths": Bound(failures=0, deaths=2)}


@pytest.mark.parametrize("name", BOUNDS)
def test_no_interleaving_breaks_an_invariant(name: str) -> None:
    found = explore(Guards(), BOUNDS[name])
    assert (found.fault, found.way) == (None, ())
    assert found.states > 1_000


FAULTS = {
    "lock": "too many users",
    "order": "a deadlock",
    "late": "too many users",
    "whole": "a deadlock",
    "turn": "a flow that was overtaken",
    "kept": "too many users",
}


@pytest.mark.parametrize("guard", FAULTS)
def test_a_guard_that_is_taken_out_is_missed(guard: str) -> None:
    found = explore(Guards()._replace(**{guard: False}), Bound())
    assert found.fault == FAULTS[guard]
    assert found.way
