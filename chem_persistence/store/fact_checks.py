"""The checks of facts that their types do not make, and the fields that an append completes."""

from collections.abc import Mapping
from datetime import UTC, datetime

from msgspec import UNSET
from msgspec.structs import replace

from chem_persistence.domain.canonical_json.encode import content_hash
from chem_persistence.domain.events import (
    RESERVED_PREFIX,
    FlowEventKind,
    FlowInitialized,
    RetryScheduled,
    StepWaits,
    UserInteractionProvided,
    UserInteractionRequested,
)
from chem_persistence.errors import InvalidPayload

__all__ = ["TIME_FIELDS", "check_signal_name", "with_decision_hash", "with_time_in_utc"]

TIME_FIELDS: Mapping[type, str] = {
    FlowInitialized: "due",
    RetryScheduled: "not_before",
    StepWaits: "until",
    UserInteractionRequested: "until",
}
"""The name of the field that takes a time, for each fact that has one."""


def with_time_in_utc(fact: FlowEventKind, field: str) -> FlowEventKind:
    """Return a fact whose time, if it has one, is in UTC, so that equal times have equal bytes.

    Raises:
        InvalidPayload: the time is not a datetime, has no time zone, or is out of range in UTC.
    """
    time = getattr(fact, field)
    if time is UNSET or time is None:
        return fact
    if not isinstance(time, datetime):
        raise InvalidPayload(f"$.{field}", f"must be a datetime, not {type(time).__qualname__}")
    if time.tzinfo is UTC:
        return fact
    if time.utcoffset() is None:
        raise InvalidPayload(f"$.{field}", "is a datetime without a time zone")
    try:
        return replace(fact, **{field: time.astimezone(UTC)})
    except OverflowError as error:
        raise InvalidPayload(f"$.{field}", "is beyond datetime's range in UTC") from error


def check_signal_name(name: str) -> None:
    """Check that the name of a caller's signal is not reserved.

    Raises:
        InvalidPayload: it begins with `RESERVED_PREFIX`.
    """
    if name.startswith(RESERVED_PREFIX):
        raise InvalidPayload(
            "$.signal",
            f"is {name!r}: names that begin with {RESERVED_PREFIX!r} are reserved for the library",
        )


def with_decision_hash(provided: UserInteractionProvided) -> UserInteractionProvided:
    """Return an answer with the hash of its decision, which is computed if it was left out.

    Raises:
        InvalidPayload: the hash that was given is not that of the decision.
    """
    actual = content_hash(provided.provided)
    if provided.decision_hash == actual:
        return provided
    if provided.decision_hash:
        raise InvalidPayload(
            "$.decision_hash",
            f"is {provided.decision_hash!r}, but the content hash of `provided` is {actual!r}: "
            "leave it out, and it is computed",
        )
    return replace(provided, decision_hash=actual)
