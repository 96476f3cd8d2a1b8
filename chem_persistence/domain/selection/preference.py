"""A choice among candidates, and the event that says why it fell as it did."""

import math
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

import msgspec

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.canonical_json.encode import content_hash
from chem_persistence.domain.events import PropertyPreferenceAssigned
from chem_persistence.domain.selection.policies import PropertySelectionPolicy
from chem_persistence.errors import InvalidArgument

__all__ = ["CandidateScore", "PreferenceRationale", "choose", "read_rationale"]

Candidate = TypeVar("Candidate")

MOST_LISTED = 1_000
"""The number of candidates that a rationale lists, the best ones."""


class CandidateScore(msgspec.Struct, frozen=True):
    """A candidate, by the hash of its content, which is that of its artifact, and its score."""

    hash: str
    score: float


class PreferenceRationale(msgspec.Struct, frozen=True):
    """Why a candidate was chosen: it has the largest score, and of equal ones the smallest hash.

    `margin` is by how much its score is above the next one, or None if there was one candidate.
    `count` is the number of candidates with different contents; `candidates` has the best 1,000 of
    them, in descending order of their scores, and then in order of their hashes.
    """

    chosen: str
    score: float
    margin: float | None
    count: int
    candidates: tuple[CandidateScore, ...]


def choose(
    policy: PropertySelectionPolicy[Candidate],
    candidates: Sequence[Candidate],
    property_key: str | None = None,
) -> tuple[Candidate, PropertyPreferenceAssigned]:
    """Return the candidate that a policy prefers, and the event that says so.

    The choice depends on the candidates, not on their order. `property_key` names what is chosen;
    by default it is the candidate's class.

    Raises:
        InvalidArgument: there is no candidate, the policy is not a struct, or a score is not a
            finite number.
        InvalidPayload: a candidate, or the policy, is not I-JSON.
    """
    scores = [(each, _score(policy, each)) for each in candidates]
    scored = {_hash(each): (each, score) for each, score in scores}
    if not scored:
        raise InvalidArgument("candidates", "must not be empty: there is nothing to choose")
    if not isinstance(policy, msgspec.Struct):
        raise InvalidArgument("policy", "must be a msgspec struct, whose fields are stored")
    order = sorted(scored, key=lambda each: (-scored[each][1], each))
    chosen, score = scored[order[0]]
    rationale = PreferenceRationale(
        order[0],
        score,
        _margin(score, (scored[each][1] for each in order[1:2])),
        len(order),
        tuple(CandidateScore(each, scored[each][1]) for each in order[:MOST_LISTED]),
    )
    return chosen, PropertyPreferenceAssigned(
        property_key or type(chosen).__qualname__,
        policy.policy_id,
        content_hash(policy),
        msgspec.to_builtins(rationale),
    )


def read_rationale(preference: PropertyPreferenceAssigned) -> PreferenceRationale | None:
    """Return the rationale of a choice among candidates; None if a program wrote another one."""
    try:
        return msgspec.convert(preference.rationale, PreferenceRationale)
    except msgspec.ValidationError:
        return None


def _hash(candidate: Any) -> str:
    return candidate.hash if isinstance(candidate, Artifact) else content_hash(candidate)


def _score(policy: PropertySelectionPolicy[Candidate], candidate: Candidate) -> float:
    score = float(policy.score(candidate))
    if not math.isfinite(score):
        raise InvalidArgument("policy", f"{policy.policy_id} gives a candidate the score {score}")
    return score + 0.0  # a negative zero is 0


def _margin(best: float, others: Iterable[float]) -> float | None:
    for other in others:
        return min(best - other, sys.float_info.max)
    return None
