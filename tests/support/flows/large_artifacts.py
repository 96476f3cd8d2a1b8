"""Artifacts that are sent in pieces, and what the proxy sees of them."""

from random import Random

from chem_persistence import Artifact, StepSignal
from chem_persistence.postgres.append.copied_artifacts import MOST_BYTES
from tests.support.faults.proxy import Message

__all__ = ["LARGE", "SAID", "blob", "is_a_piece", "rows_of_text", "table"]

LARGE = MOST_BYTES + 1
"""An append with more bytes of bodies than `MOST_BYTES` sends them in pieces."""

SAID = StepSignal(0, "acquire", "said")


def blob(size: int = LARGE, seed: int = 0) -> Artifact:
    return Artifact.from_content(
        kind="Bløb",
        content=Random(seed).randbytes(size),
        media_type="application/octet-stream",
        metadata={"unit": "Å", "tiny": 1e-300, "list": [1, 2.5, None]},
    )


def rows_of_text(size: int, seed: int = 0) -> Artifact:
    """Return a payload whose canonical form has this many bytes."""
    return Artifact.from_payload(kind="Text", payload=[Random(seed).randbytes(size // 2 - 2).hex()])


def table(rows: int, seed: int = 0) -> Artifact:
    """Return a payload that is stored as JSONB: rows of 20 KB, at most 45 of them."""
    numbers = Random(seed)
    payload = [
        {"x": numbers.random(), "name": 'é\\"\n' + numbers.randbytes(10_000).hex()}
        for _ in range(rows)
    ]
    return Artifact.from_payload(kind="Table", payload=payload, metadata={"rows": rows})


def is_a_piece(message: Message) -> bool:
    """Match the data of a COPY (CopyData)."""
    return message.from_client and message.type == "d"
