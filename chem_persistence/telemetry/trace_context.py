"""The trace in which an event was appended, as its metadata say it.

Format: W3C Trace Context, section 3.2, `traceparent`. It says from where an event came, never what it is: an append that is
repeated in another trace is the same append.
"""

from collections.abc import Mapping
from typing import Any, Final

__all__ = ["TRACEPARENT", "untraced"]

TRACEPARENT: Final = "traceparent"


def untraced(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give metadata without the trace."""
    return {key: value for key, value in metadata.items() if key != TRACEPARENT}
