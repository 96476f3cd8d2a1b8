"""Hints that flows are due, by which an idle worker need not wait for its next look.

A hint may be lost, and nothing but time depends on one: a worker also looks by itself.
"""

from collections.abc import Iterable

from msgspec import UNSET

from chem_persistence.domain.events import FlowInitialized
from chem_persistence.store.append_request import AppendRequest

__all__ = ["ANY_DEFINITION", "hinted_definitions"]

ANY_DEFINITION = ""
"""Given instead of a definition's hash where it is not known."""


def hinted_definitions(requests: Iterable[AppendRequest]) -> set[str]:
    """Return the definitions of the flows that these appends submit.

    A flow that is due later counts as well: a worker that looks then learns when that is.
    Other appends that call a flow are not known to be of one that was given to workers; the client
    that makes them sends a hint itself.
    """
    return {
        fact.definition_hash
        for request in requests
        if isinstance(fact := request.kinds[-1], FlowInitialized) and fact.due is not UNSET
    }
