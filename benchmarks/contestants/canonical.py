"""Measure canonical JSON against msgspec's own sorted encoding.

msgspec writes numbers in its own way (not as RFC 8785 requires) and has no limits of I-JSON.
"""

import timeit
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec

from benchmarks.data.history import FLOW_OF_TEN, conformer
from benchmarks.data.spread import Spread, spread
from chem_persistence import StepSignal, canonical_json

__all__ = ["PAYLOADS", "EncodingTimes", "time_encodings"]

_MOLECULE = {"smiles": "CC(=O)Oc1ccccc1C(=O)O", "name": "aspirin", "charge": 0, "multiplicity": 1}
_RECORD = {"converged": True, "note": None, "method": "mmff94"}
_TABLE = {
    "molecule": _MOLECULE,
    "results": [
        _RECORD | {"conformer": number, "energy": -76.4 - number / 7} for number in range(10)
    ],
}
_PROGRESS = {"iteration": 7, "energy": -76.4, "note": "converged"}

PAYLOADS: Mapping[str, Sequence[Any]] = {
    "ten events of a flow": FLOW_OF_TEN,
    "a signal with three numbers and texts": [
        StepSignal(3, "embed_conformers", "progress", _PROGRESS)
    ],
    "a table of ten records, 0.9 KB": [_TABLE],
    "an artifact of 4 KB": [conformer(7)],
}
"""By name: values that are encoded one after another."""

_SLICE_SECONDS = 0.002
_SLICES = 5


class EncodingTimes(msgspec.Struct, frozen=True):
    """Seconds of both encoders for one payload, and their ratio in each round."""

    ours: Spread
    msgspec: Spread
    ratio: Spread


def time_encodings(rounds: int) -> dict[str, EncodingTimes]:
    """Time both encoders in turn on every payload.

    The fastest slice of a round counts, because other load on the machine only adds time.
    """
    return {name: _time(payload, rounds) for name, payload in PAYLOADS.items()}


def _time(payload: Sequence[Any], rounds: int) -> EncodingTimes:
    sorted_encoding = msgspec.json.Encoder(order="sorted").encode
    pairs = [
        (_fastest(canonical_json, payload), _fastest(sorted_encoding, payload))
        for _ in range(rounds)
    ]
    return EncodingTimes(
        spread(ours for ours, _ in pairs),
        spread(other for _, other in pairs),
        spread(ours / other for ours, other in pairs),
    )


def _fastest(encode: Callable[[Any], bytes], payload: Sequence[Any]) -> float:
    def encode_all() -> None:
        for value in payload:
            encode(value)

    timer = timeit.Timer(encode_all)
    once = min(timer.repeat(_SLICES, 1))
    calls = max(1, round(_SLICE_SECONDS / once))
    return min(timer.repeat(_SLICES, calls)) / calls
