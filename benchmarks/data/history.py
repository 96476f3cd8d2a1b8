"""What is appended: a flow of ten events as an engine writes it, a long one, a 4 KB artifact."""

import hashlib
import itertools
import random
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import UUID

import msgspec

from chem_persistence import (
    Artifact,
    FlowCompleted,
    FlowDefinition,
    FlowEventKind,
    FlowInitialized,
    StepDefinition,
    StepFinished,
    StepSignal,
    StepStarted,
)

__all__ = [
    "FLOW_OF_TEN",
    "LONG_FLOW",
    "LONG_FLOW_EVENTS",
    "OUTPUTS_OF_TEN",
    "ROWS_OF_TEN",
    "conformer",
    "long_definition",
    "long_history",
]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


_STEP_IDS = ("acquire_molecules", "standardise", "embed_conformers", "screen")

OUTPUTS_OF_TEN = tuple(
    Artifact.from_payload(kind="Output", payload={"of": step}) for step in _STEP_IDS
)
"""The artifacts that the events of `FLOW_OF_TEN` name."""


def _flow_of_ten() -> Iterator[FlowEventKind]:
    yield FlowInitialized(_hash("definition"), len(_STEP_IDS))
    for index, (step, output) in enumerate(zip(_STEP_IDS, OUTPUTS_OF_TEN, strict=True)):
        yield StepStarted(index, step)
        yield StepFinished(index, step, (output.hash,), _hash(f"fingerprint of {step}"))
    yield FlowCompleted(_hash("flow"))


FLOW_OF_TEN: tuple[FlowEventKind, ...] = tuple(_flow_of_ten())
"""The events I, four times S and F, and C."""

ROWS_OF_TEN: tuple[tuple[str, str], ...] = tuple(
    (type(kind).__name__.lower(), msgspec.json.encode(kind).decode()) for kind in FLOW_OF_TEN
)
"""The same events as type and JSON, for writers of rows that do not use the library."""


def _coordinates() -> list[list[float]]:
    dice = random.Random(2026)  # noqa: S311  # molecules, not secrets
    return [[round(dice.uniform(-9, 9), 4) for _ in range(3)] for _ in range(165)]


_ATOMS = _coordinates()


def conformer(number: int) -> Mapping[str, Any]:
    """Return a JSON payload of 4 KB that differs for each number."""
    return {"conformer": number, "atoms": _ATOMS}


LONG_FLOW = UUID("019f0000-0000-7000-8000-000000100000")
LONG_FLOW_EVENTS = 100_000
_STEPS = 1_000


def long_definition() -> FlowDefinition:
    """Return the definition of the flow in `long_history`."""
    return FlowDefinition(tuple(StepDefinition(id=f"step_{index}") for index in range(_STEPS)))


def long_history() -> Iterator[FlowEventKind]:
    """Yield 100,000 events: a thousand steps, each started, signalling progress, and finished."""
    return itertools.islice(_long_history(), LONG_FLOW_EVENTS)


def _long_history() -> Iterator[FlowEventKind]:
    yield FlowInitialized(long_definition().definition_hash, _STEPS)
    signals = LONG_FLOW_EVENTS // _STEPS - 2
    for index in range(_STEPS):
        step = f"step_{index}"
        yield StepStarted(index, step)
        for iteration in range(signals):
            yield StepSignal(
                index, step, "progress", {"iteration": iteration, "energy": -76.4 - iteration / 7}
            )
        yield StepFinished(index, step, (_hash(step),), _hash(f"fingerprint of {step}"))
