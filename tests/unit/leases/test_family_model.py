"""The rules of parents and children hold over all interleavings, and each guard is needed.

The model, and the code that each of its transitions stands for, are in `family_model.py`.
"""

import pytest

from tests.unit.leases.family_model import Bound, Guards, explore

SOUND = Guards()

BOUNDS = {
    "children end": Bound(claims=3),
    "three children": Bound(children=3, claims=2),
    "a cancel": Bound(cancels=1, claims=2),
    "children end, at length": Bound(),
    "a cancel, at length": Bound(cancels=1, claims=3),
}
LONG = pytest.mark.slow


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=LONG if "at length" in name else ()) for name in BOUNDS]
)
def test_no_interleaving_breaks_an_invariant(name: str) -> None:
    found = explore(SOUND, BOUNDS[name])
    assert (found.fault, found.way) == (None, ())
    assert found.states > 1_000


def test_calls_alone_are_enough_if_no_process_dies() -> None:
    found = explore(SOUND._replace(looks=False), Bound(crashes=0))
    assert (found.fault, found.way) == (None, ())


TAKEN_OUT = [
    ("a call of a held parent", {"called": False, "looks": False}, Bound(crashes=0)),
    ("a look without a call", {"looks": False}, Bound()),
]


@pytest.mark.parametrize(("what", "guards", "bound"), TAKEN_OUT, ids=[t[0] for t in TAKEN_OUT])
def test_a_lost_wake_up_of_a_parent_is_found(
    what: str, guards: dict[str, bool], bound: Bound
) -> None:
    found = explore(SOUND._replace(**guards), bound)
    assert found.fault == "a lost wake-up", what
    assert found.way


RUNS_ON = "a child that runs on although its parent is cancelled"
OTHERS = [
    ("identity", Bound(), "a child that was submitted twice"),
    ("parent", BOUNDS["a cancel"], RUNS_ON),
    ("asks", BOUNDS["a cancel"], RUNS_ON),
]


@pytest.mark.parametrize(("guard", "bound", "fault"), OTHERS, ids=[t[0] for t in OTHERS])
def test_a_guard_that_is_taken_out_is_missed(guard: str, bound: Bound, fault: str) -> None:
    found = explore(SOUND._replace(**{guard: False}), bound)
    assert found.fault == fault
    assert found.way
