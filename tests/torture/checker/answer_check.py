"""Checks of the errors of calls: each error must have a reason in the log or in a fault."""

from collections.abc import Mapping, Sequence
from uuid import UUID

import msgspec

from tests.torture.checker.findings import Finding, Flaw
from tests.torture.checker.ledger import Append, Call
from tests.torture.writers.records import Refused, Unknown

__all__ = ["Cause", "check_conflicts", "check_failures"]


class Cause(msgspec.Struct, frozen=True):
    """A fault: calls between `began` and `ended` may fail with the SQLSTATEs in `states`."""

    began: float
    ended: float
    states: frozenset[str]

    def may_fail(self, call: Call, state: str) -> bool:
        ended = call.began if call.ended is None else call.ended
        return state in self.states and self.began <= ended and call.began <= self.ended


def check_conflicts(append: Append, began: Mapping[tuple[UUID, int], float]) -> list[Finding]:
    """Check that each conflict has its events: one at `expected`, and one before `actual`.

    `began` holds, by flow and version, when the first call of the append that stored the event
    began: it must be before the conflict was raised.
    """
    found: list[Finding] = []
    for _call, conflict in append.conflicts:
        versions = (conflict.expected, conflict.actual - 1)
        causes = [began.get((append.flow_id, version), float("inf")) for version in versions]
        if conflict.actual <= conflict.expected or max(causes) >= conflict.at:
            detail = f"expected {conflict.expected}, told that it is at {conflict.actual}"
            found.append(Finding(Flaw.CONFLICT, detail, append.flow_id, append.token))
        if conflict.expected != append.expected_version:
            detail = f"sent with {append.expected_version}, refused with {conflict.expected}"
            found.append(Finding(Flaw.CONFLICT, detail, append.flow_id, append.token))
    return found


def check_failures(append: Append, causes: Sequence[Cause]) -> list[Finding]:
    """Check that each failed call has an SQLSTATE which a fault around it may cause.

    Only a call whose outcome is unknown may lack one: its connection broke, or it was cancelled.
    """
    found: list[Finding] = []
    for call in append.calls:
        match call.answer:
            case Unknown(sqlstate=None):
                pass
            case Unknown(error=error, sqlstate=state) | Refused(error=error, sqlstate=state):
                if not any(cause.may_fail(call, state or "") for cause in causes):
                    detail = f"{error} {state}"
                    found.append(Finding(Flaw.UNCAUSED, detail, append.flow_id, append.token))
            case _:
                pass
    return found
