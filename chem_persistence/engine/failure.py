"""What is stored of an exception."""

import traceback

from chem_persistence.domain.events import StepError

__all__ = ["describe_failure"]

LONGEST_MESSAGE = 8_192
LONGEST_TRACEBACK = 65_536
"""Characters kept; a longer traceback keeps its end, where the cause stands."""


def describe_failure(error: BaseException) -> StepError:
    """Describe an exception by class, message and traceback, as text that a store accepts."""
    cls = type(error)
    # it bears an exception whose own __str__ raises
    described = traceback.TracebackException.from_exception(error)
    return StepError(
        error_class=f"{cls.__module__}.{cls.__qualname__}",
        message=_storable(str(described))[:LONGEST_MESSAGE],
        traceback=_storable("".join(described.format()))[-LONGEST_TRACEBACK:],
    )


def _storable(text: str) -> str:
    """Escape what is not I-JSON: lone surrogates and U+0000."""
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\0")
