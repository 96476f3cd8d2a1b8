"""What the library does not have yet: looked for among its public names, and never given a figure."""

import chem_persistence
from benchmarks.verdicts import Line, unmeasured

__all__ = ["unbuilt"]


def unbuilt(goal: str, target: str, *words: str) -> Line:
    """Give the line of a goal whose feature would show itself by a public name with one of `words` in it."""
    found = [name for word in words for name in _public_names(word)]
    if not found:
        return unmeasured(goal, target, "the library has no such public name", "not built")
    names = ", ".join(found)
    return unmeasured(goal, target, f"the library has {names}: write its benchmark, and replace this line")


def _public_names(word: str) -> list[str]:
    owners = (chem_persistence, chem_persistence.PgEventStore, chem_persistence.PgFlowRepository)
    return [
        name for owner in owners for name in dir(owner) if word in name.lower() and not name.startswith("_")
    ]
