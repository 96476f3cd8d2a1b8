"""What a check found."""

from enum import StrEnum

import msgspec

__all__ = ["CheckResult", "Severity"]


class Severity(StrEnum):
    """How bad it is: an `error` breaks a promise of the library or will soon, a `warning` may, a `note` is to know."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    ERROR = "error"


class CheckResult(msgspec.Struct, frozen=True):
    """One finding, or that there is none; `remedy` is what to type, in a shell or, if it is SQL, in psql."""

    check: str
    severity: Severity
    finding: str
    remedy: str | None = None
