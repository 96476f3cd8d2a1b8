"""A choice follows from the candidates and the policy alone."""

import math
from typing import Any, ClassVar

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chem_persistence import (
    Artifact,
    InvalidArgument,
    MaxScore,
    PreferenceRationale,
    PropertyPreferenceAssigned,
    Weighted,
    content_hash,
)
from chem_persistence.domain.selection.preference import MOST_LISTED, choose, read_rationale


class Conformer(msgspec.Struct, frozen=True):
    name: str
    energy: float
    strain: float = 0.0


FEW = st.sampled_from([0.0, -0.0, 1.0, -2.5, 1e300, -1e300, 5e-324])
CONFORMERS = st.lists(st.builds(Conformer, st.sampled_from("abcdef"), FEW, FEW), min_size=1)
POLICIES = st.sampled_from(
    [
        MaxScore("energy"),
        MaxScore("energy", lowest=True),
        Weighted({"energy": 0.5, "strain": -0.25}),
        Weighted({"strain": -0.25, "energy": 0.5}),
    ]
)


def rationale_of(preference: PropertyPreferenceAssigned) -> PreferenceRationale:
    rationale = read_rationale(preference)
    assert rationale is not None
    return rationale


@given(CONFORMERS, POLICIES, st.randoms(use_true_random=False))
def test_neither_order_nor_repetition_changes_a_choice(
    candidates: list[Conformer], policy: Any, random: Any
) -> None:
    chosen, preference = choose(policy, candidates)
    shuffled = [*candidates, random.choice(candidates)]
    random.shuffle(shuffled)
    again, other = choose(policy, shuffled)
    assert content_hash(again) == content_hash(chosen)
    assert other == preference


@given(CONFORMERS, POLICIES)
def test_of_the_best_scores_the_smallest_hash_is_chosen(
    candidates: list[Conformer], policy: Any
) -> None:
    chosen, preference = choose(policy, candidates)
    best = max(policy.score(each) for each in candidates)
    hashes = [content_hash(each) for each in candidates if policy.score(each) == best]
    why = rationale_of(preference)
    assert content_hash(chosen) == why.chosen == min(hashes)
    assert why.score == best
    assert why.count == len({content_hash(each) for each in candidates})
    assert next(each.hash for each in why.candidates) == why.chosen
    assert (why.margin is None) is (why.count == 1)
    assert why.margin is None or 0 <= why.margin < math.inf
    scores = [each.score for each in why.candidates]
    assert scores == sorted(scores, reverse=True)


@given(st.permutations([("energy", 0.1), ("strain", 0.2), ("third", 0.3)]))
def test_a_weighted_sum_does_not_depend_on_the_order_of_its_terms(
    weights: list[tuple[str, float]],
) -> None:
    candidate = {"energy": 0.7, "strain": 0.1, "third": 1e16}
    expected = Weighted({"energy": 0.1, "strain": 0.2, "third": 0.3})
    assert Weighted(dict(weights)).score(candidate) == expected.score(candidate)
    assert content_hash(Weighted(dict(weights))) == content_hash(expected)


def test_an_event_names_the_policy_its_parameters_and_the_class_of_the_candidates() -> None:
    policy = MaxScore("energy", lowest=True)
    chosen, preference = choose(policy, [Conformer("a", 2.0), Conformer("b", -1.0)])
    assert chosen == Conformer("b", -1.0)
    assert preference.property_key == "Conformer"
    assert preference.policy_id == "chem_persistence.MaxScore"
    assert preference.params_hash == content_hash(policy) != content_hash(MaxScore("energy"))
    why = rationale_of(preference)
    assert (why.score, why.margin, why.count) == (1.0, 3.0, 2)
    assert choose(policy, [chosen], "geometry")[1].property_key == "geometry"


def test_properties_are_found_by_a_path_and_may_be_numpy_numbers() -> None:
    class Result(msgspec.Struct):
        energies: dict[str, float]

    assert MaxScore("energies.gfn2").score(Result({"gfn2": -3.0})) == -3.0
    assert MaxScore("energy").score({"energy": np.float32(0.5)}) == 0.5


def test_artifacts_are_candidates_under_their_own_hash() -> None:
    class Size(msgspec.Struct, frozen=True):
        policy_id: ClassVar[str] = "lab.Size/1"

        def score(self, candidate: Artifact, /) -> float:
            return len(candidate.content or b"")

    small, large = (
        Artifact.from_content(kind="cube", content=b"x" * size, media_type="text/plain")
        for size in (1, 2)
    )
    chosen, preference = choose(Size(), [small, large])
    assert chosen is large
    assert rationale_of(preference).chosen == large.hash


@pytest.mark.parametrize("energy", [math.nan, math.inf, True, None, "1"])
def test_what_is_no_finite_number_is_refused(energy: Any) -> None:
    for policy in (MaxScore("energy"), Weighted({"energy": 1.0})):
        with pytest.raises(InvalidArgument, match="no finite number 'energy'"):
            choose(policy, [{"energy": energy}])


def test_other_mistakes_are_refused() -> None:
    class Plain:
        policy_id = "plain"

        def score(self, _candidate: Any, /) -> float:
            return 1.0

    class NotFinite(msgspec.Struct, frozen=True):
        policy_id: ClassVar[str] = "odd"

        def score(self, _candidate: Any, /) -> float:
            return math.nan

    with pytest.raises(InvalidArgument, match="nothing to choose"):
        choose(MaxScore("energy"), [])
    with pytest.raises(InvalidArgument, match="must be a msgspec struct"):
        choose(Plain(), [1])
    with pytest.raises(InvalidArgument, match="the score nan"):
        choose(NotFinite(), [1])
    with pytest.raises(InvalidArgument, match="not finite"):
        Weighted({"energy": 1e300}).score({"energy": 1e300})
    for weights in ({}, {"energy": math.inf}):
        with pytest.raises(InvalidArgument, match="must be finite numbers"):
            Weighted(weights)


def test_a_rationale_lists_the_best_candidates() -> None:
    many = [{"energy": float(index)} for index in range(MOST_LISTED + 5)]
    why = rationale_of(choose(MaxScore("energy"), many)[1])
    assert (len(why.candidates), why.count) == (MOST_LISTED, MOST_LISTED + 5)
    assert why.candidates[-1].score == 5.0


def test_a_rationale_that_a_program_wrote_by_itself_is_no_other() -> None:
    assert read_rationale(PropertyPreferenceAssigned("k", "p", "h", {"because": "x"})) is None
