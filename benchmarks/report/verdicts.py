"""The line of one goal: its target, the measured value, and whether it was reached."""

from typing import Literal

import msgspec

from benchmarks.data.spread import Spread

__all__ = ["Line", "Verdict", "at_least", "at_most", "unmeasured"]

Verdict = Literal["met", "not met", "not measured"]


class Line(msgspec.Struct, frozen=True):
    """A line of the summary."""

    goal: str
    target: str
    measured: str
    verdict: Verdict


def at_least(goal: str, target: float, unit: str, found: Spread | None, note: str = "") -> Line:
    """Judge a median that must reach the target."""
    if found is None:
        return unmeasured(goal, f"at least {target:g} {unit}", note)
    verdict: Verdict = "met" if found.median >= target else "not met"
    return Line(goal, f"at least {target:g} {unit}", _said(found, note), verdict)


def at_most(goal: str, target: float, unit: str, found: Spread | None, note: str = "") -> Line:
    """Judge a median that must not exceed the target."""
    if found is None:
        return unmeasured(goal, f"at most {target:g} {unit}", note)
    verdict: Verdict = "met" if found.median <= target else "not met"
    return Line(goal, f"at most {target:g} {unit}", _said(found, note), verdict)


def unmeasured(goal: str, target: str, why: str) -> Line:
    """Return the line of a goal without a figure, and the reason."""
    return Line(goal, target, why or "not part of this run", "not measured")


def _said(found: Spread, note: str) -> str:
    digits = ".1f" if found.median >= 10 else ".2f"
    return f"{found.text(digits)} {note}".rstrip()
