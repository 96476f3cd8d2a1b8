"""What every store refuses before it looks at anything."""

from uuid import UUID

from chem_persistence.errors import InvalidArgument

__all__ = ["check_countable", "check_flow_id", "check_not_negative", "check_poll_interval"]


def check_flow_id(flow_id: UUID) -> None:
    """Refuse what cannot name a flow.

    Raises:
        InvalidArgument: it is no UUID, or the nil UUID (RFC 9562, section 5.9).
    """
    if not isinstance(flow_id, UUID):
        raise InvalidArgument("flow_id", f"must be a UUID, not {type(flow_id).__qualname__}")
    if flow_id.int == 0:
        raise InvalidArgument("flow_id", "must not be the nil UUID")


def check_countable(**arguments: int) -> None:
    """Refuse what is no number of rows.

    Raises:
        InvalidArgument: one is below 0, or more than 64 bits can count.
    """
    for name, number in arguments.items():
        if not 0 <= number < 2**63:
            raise InvalidArgument(name, "must not be negative, nor more than 64 bits can count")


def check_not_negative(**arguments: float | None) -> None:
    """Refuse numbers below 0; None is none.

    Raises:
        InvalidArgument: one is.
    """
    for name, number in arguments.items():
        if number is not None and number < 0:
            raise InvalidArgument(name, "must not be negative")


def check_poll_interval(seconds: float) -> None:
    """Refuse to look for news without a pause.

    Raises:
        InvalidArgument: it is not above 0, or NaN.
    """
    if not seconds > 0:
        raise InvalidArgument("poll_interval", "must be above 0")
