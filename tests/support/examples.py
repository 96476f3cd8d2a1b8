"""How many examples of a property a run plays: a quarter in most runs, all of them in CI."""

import os

__all__ = ["examples"]

SHARE = 4


def examples(number: int) -> int:
    """Return so many with CHEM_TEST_EXAMPLES=all, else a quarter of it."""
    return number if os.environ.get("CHEM_TEST_EXAMPLES") == "all" else -(-number // SHARE)
