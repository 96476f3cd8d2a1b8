"""How times, sizes, hashes, states, JSON and long names are written for people."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from chem_persistence.domain.canonical_json.encode import canonical_json
from chem_persistence.domain.definition import StepDefinition
from chem_persistence.domain.flow_state import FlowState

__all__ = [
    "NOT_INITIALIZED",
    "counted",
    "duration",
    "hash_prefix",
    "in_words",
    "iso",
    "moment",
    "short",
    "short_hash",
    "size_of",
    "step_details",
    "stopwatch",
    "title",
    "value_text",
]

NOT_INITIALIZED = "not initialized"
"""Shown as the definition of a flow whose first event is not a `FlowInitialized`."""

LONGEST_VALUE = 40
"""Characters that are shown of a value that differs from another."""

_SECOND, _MINUTE, _HOUR, _DAY = 1.0, 60.0, 3_600.0, 86_400.0


def duration(span: timedelta) -> str:
    """Return a time span in two units or three digits: `12 ms`, `1.24 s`, `3 d 4 h`."""
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
    """Return a time since the beginning to compare in a column: `3 d 01:30:42.120`."""
    milliseconds = round(span.total_seconds() * 1_000)
    sign, rest = "\u2212" if milliseconds < 0 else "", abs(milliseconds)
    days, rest = divmod(rest, 86_400_000)
    hours, rest = divmod(rest, 3_600_000)
    minutes, rest = divmod(rest, 60_000)
    before = f"{days:,} d " if days else ""
    return f"{sign}{before}{hours:02}:{minutes:02}:{rest / 1_000:06.3f}"


def moment(ts: datetime) -> str:
    """Return a point in time for a person: `2026-11-23 21:05:07 UTC`."""
    return ts.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def iso(ts: datetime) -> str:
    """Return a point in time to the microsecond, in UTC (RFC 3339)."""
    return ts.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def size_of(size: int) -> str:
    """Return a number of bytes in three digits and a binary unit: `812 B`, `12.4 KiB`."""
    if size < 1_024:
        return f"{size:,} B"
    value = float(size)
    for unit in ("KiB", "MiB", "GiB"):
        value /= 1_024
        if value < 1_000:
            return f"{value:.3g} {unit}"
    return f"{value / 1_024:,.0f} TiB"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: `1 event`, `2,000 events`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def in_words(state: FlowState) -> str:
    """Return a state in words: `awaiting user input`."""
    return state.value.replace("_", " ")


def short(text: str, most: int = 120) -> str:
    """Return a text of at most `most` characters, cut with an ellipsis."""
    return text if len(text) <= most else f"{text[: most - 1]}\u2026"


def short_hash(text: str) -> str:
    """Return the first digits of a hash and an ellipsis, for a page that has the whole too."""
    return short(text, 11)


def hash_prefix(text: str) -> str:
    """Return the first twelve digits of a hash, which a command accepts in place of the whole."""
    return text[:12]


def title(name: str | None, label: str | None) -> str:
    """Return what a flow is called beside its id: `screen: batch 3`; empty if it has no name."""
    return ": ".join(part for part in (name, label) if part)


def step_details(step: StepDefinition, most: int = 60) -> str:
    """Return a step's version and parameters, shortened: `version 2, {"method":"gfn2"}`.

    The version 1 and parameters that are null are left out.
    """
    version = "" if step.version == "1" else f"version {short(step.version, most)}"
    params = "" if step.params is None else short(canonical_json(step.params).decode(), most)
    return ", ".join(part for part in (version, params) if part)


def value_text(value: Any) -> str:
    """Return the beginning of a JSON value as one line; UNSET is a missing one."""
    return "missing" if value is msgspec.UNSET else short(json.dumps(value), LONGEST_VALUE)
