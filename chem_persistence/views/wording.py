"""Times, sizes, hashes and long names, as a page writes them."""

from datetime import UTC, datetime, timedelta

from chem_persistence.domain.answers import FlowState

__all__ = [
    "NOT_INITIALIZED",
    "counted",
    "duration",
    "in_words",
    "iso",
    "moment",
    "short",
    "short_hash",
    "size_of",
    "stopwatch",
]

NOT_INITIALIZED = "not initialized"
"""What stands for the definition of a flow that does not begin with its initialization."""

_SECOND, _MINUTE, _HOUR, _DAY = 1.0, 60.0, 3_600.0, 86_400.0


def duration(span: timedelta) -> str:
    """Write a time span with two units or three digits: `12 ms`, `1.24 s`, `2 min 5 s`, `3 d 4 h`."""
    seconds = span.total_seconds()
    if seconds < 0:
        return f"\u2212{duration(-span)}"
    if seconds < 0.9995:
        return f"{seconds * 1_000:.3g} ms"
    if seconds < 59.95:
        return f"{seconds:.3g} s"
    whole = round(seconds)
    if whole < _HOUR:
        return _two(whole, 60, "min", 1, "s")
    if whole < _DAY:
        return _two(whole, 3_600, "h", 60, "min")
    return _two(whole, 86_400, "d", 3_600, "h")


def _two(seconds: int, large: int, large_name: str, small: int, small_name: str) -> str:
    rest = seconds % large // small
    return f"{seconds // large:,} {large_name}" + (f" {rest} {small_name}" if rest else "")


def stopwatch(span: timedelta) -> str:
    """Write the time since a beginning so that rows can be compared: `00:00:02.780`, `3 d 01:30:42.120`."""
    milliseconds = round(span.total_seconds() * 1_000)
    sign, rest = "\u2212" if milliseconds < 0 else "", abs(milliseconds)
    days, rest = divmod(rest, 86_400_000)
    hours, rest = divmod(rest, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    before = f"{days:,} d " if days else ""
    return f"{sign}{before}{hours:02}:{minutes:02}:{rest / 1_000:06.3f}"


def moment(ts: datetime) -> str:
    """Write a point in time for a person: `2026-11-23 21:05:07 UTC`."""
    return ts.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def iso(ts: datetime) -> str:
    """Write a point in time exactly, as ISO 8601 does."""
    return ts.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def size_of(size: int) -> str:
    """Write a number of bytes: `812 bytes`, `12.4 KiB`."""
    if size < 1_024:
        return counted(size, "byte")
    value = float(size)
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1_024
        if value < 1_000:
            return f"{value:.3g} {unit}"
    return f"{value / 1_024:,.0f} TiB"


def counted(number: int, noun: str) -> str:
    """Write a number with its noun: `1 event`, `2,000 events`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def in_words(state: FlowState) -> str:
    """Write how a flow stands: `awaiting user input`."""
    return state.value.replace("_", " ")


def short(text: str, most: int = 120) -> str:
    """Cut a text that is too long for a line."""
    return text if len(text) <= most else f"{text[: most - 1]}\u2026"


def short_hash(text: str) -> str:
    """Give the beginning of a hash."""
    return short(text, 11)
