"""The result of a check."""

from enum import StrEnum

import msgspec

__all__ = ["CheckResult", "Severity"]


class Severity(StrEnum):
    """How severe a finding is.

    An `error` breaks a guarantee of the library, or soon will; a `warning` may; a `note` does not.
    """

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


class CheckResult(msgspec.Struct, frozen=True):
    """A finding, or `ok`; `remedy` is a command for a shell or, if it is SQL, for psql."""

    check: str
    severity: Severity
    finding: str
    remedy: str | None = None
