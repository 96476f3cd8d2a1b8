"""The rules of leases hold over all interleavings of a bound, and each guard is needed.

The model, and the statement that each of its transitions stands for, are in `model.py`.
"""

import re
from pathlib import Path
from types import ModuleType

import pytest

from tests.unit.leases import family_model, model, program_model, slot_model
from tests.unit.leases.model import Bound, Guards, explore

SOUND = Guards()

BOUNDS = {
    "a signal and a retry": Bound(outsiders=("G", "R"), claims=2),
    "a signal and a retry, at length": Bound(outsiders=("G", "R"), claims=3),
    "a cancel": Bound(outsiders=("Q",), outcomes=("FC", "X", "XR", "W")),
    "a cancel by the one who asks": Bound(outsiders=("K", "R"), outcomes=("FC", "X", "W")),
    "calls of children": Bound(outsiders=(), calls=2, outcomes=("FC", "W")),
    "a program that takes it": Bound(
        outsiders=("G", "R"), takes=True, claims=2, outcomes=("FC", "XR", "W", "T")
    ),
    "a lost row": Bound(outsiders=("G",), losses=1, rebuilds=1, claims=2, outcomes=("FC", "W")),
}
SLEEPING = Bound(outsiders=("G",), losses=1, rebuilds=1, claims=1, outcomes=("W",))


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if "at length" in name else [])
        for name in BOUNDS
    ],
)
def test_no_interleaving_breaks_an_invariant(name: str) -> None:
    found = explore(SOUND, BOUNDS[name])
    assert (found.fault, found.way) == (None, ())
    assert found.states > 1_000


TAKEN_OUT = [
    ("fence", BOUNDS["a cancel"], "an append of an older lease after one of a newer"),
    ("called", BOUNDS["calls of children"], "a lost wake-up"),
    ("same_lease", BOUNDS["a signal and a retry"], "a gap in the versions"),
    ("lock_before_rebuild", SLEEPING, "a lost wake-up"),
]


@pytest.mark.parametrize(("guard", "bound", "fault"), TAKEN_OUT, ids=[t[0] for t in TAKEN_OUT])
def test_a_guard_that_is_taken_out_is_missed(guard: str, bound: Bound, fault: str) -> None:
    found = explore(SOUND._replace(**{guard: False}), bound)
    assert found.fault == fault
    assert found.way


REPOSITORY = Path(__file__).parents[3]
CODE = "".join(
    path.read_text(encoding="utf-8")
    for path in [*REPOSITORY.glob("chem_persistence/**/*.py"), *REPOSITORY.glob("sql/**/*.sql")]
)


@pytest.mark.parametrize(
    "described",
    [model, family_model, slot_model, program_model],
    ids=["one flow", "a family", "slots", "a program"],
)
def test_the_statements_that_a_model_stands_for_exist(described: ModuleType) -> None:
    transitions = (described.__doc__ or "").partition("\n- ")[2]
    named = {name.rpartition(".")[2] for name in re.findall(r"`([A-Za-z_.]+)", transitions)}
    missing = {name for name in named if not re.search(rf"\b{name}\b", CODE)}
    assert missing - {"py"} == set()
    assert len(named) > 5
