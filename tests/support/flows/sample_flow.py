"""A flow with everything that a page shows.

It has a retry, a superseded attempt, a question, images, molecules and 200 events.
"""

import struct
import zlib
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

from chem_persistence import (
    Artifact,
    FlowCompleted,
    FlowEventKind,
    FlowInitialized,
    InMemoryEventStore,
    PropertyPreferenceAssigned,
    RetryScheduled,
    StepError,
    StepFailed,
    StepFinished,
    StepSignal,
    StepStarted,
    UserInteractionProvided,
    UserInteractionRequested,
    content_hash,
)

__all__ = ["FLOW_ID", "SEEN_AT", "SetClock", "chart", "sample_store"]

FLOW_ID = UUID("01935b2e-7c40-7a11-8f0a-5e2d9c4b6a10")
BEGAN = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
SEEN_AT = BEGAN + timedelta(days=4)

TRACEBACK = """Traceback (most recent call last):
  File "/srv/screen/steps.py", line 118, in compute
    energy = self._relax(mol)
  File "/srv/screen/steps.py", line 141, in _relax
    raise LicenceServerUnreachable("no seat of the force field is free")
screen.errors.LicenceServerUnreachable: no seat of the force field is free
"""
MOLFILE = """aspirin
     RDKit          3D

 13 13  0  0  0  0  0  0  0  0999 V2000
    3.4038    0.5543    0.0552 C   0  0  0  0  0  0  0  0  0  0  0  0
    2.0439    0.1391    0.5312 C   0  0  0  0  0  0  0  0  0  0  0  0
    1.6894    0.1441    1.7031 O   0  0  0  0  0  0  0  0  0  0  0  0
    1.2884   -0.2659   -0.5636 O   0  0  0  0  0  0  0  0  0  0  0  0
   -0.0284   -0.5847   -0.2190 C   0  0  0  0  0  0  0  0  0  0  0  0
   -0.3282   -1.9424   -0.0674 C   0  0  0  0  0  0  0  0  0  0  0  0
   -1.6290   -2.3304    0.2478 C   0  0  0  0  0  0  0  0  0  0  0  0
   -2.6259   -1.3671    0.3983 C   0  0  0  0  0  0  0  0  0  0  0  0
   -2.3267   -0.0114    0.2273 C   0  0  0  0  0  0  0  0  0  0  0  0
   -1.0220    0.3968   -0.0914 C   0  0  0  0  0  0  0  0  0  0  0  0
   -0.7032    1.8334   -0.3031 C   0  0  0  0  0  0  0  0  0  0  0  0
    0.3609    2.3052   -0.6590 O   0  0  0  0  0  0  0  0  0  0  0  0
   -1.7563    2.6373   -0.0592 O   0  0  0  0  0  0  0  0  0  0  0  0
  1  2  1  0
  2  3  2  0
  2  4  1  0
  4  5  1  0
  5  6  2  0
  6  7  1  0
  7  8  2  0
  8  9  1  0
  9 10  2  0
 10 11  1  0
 11 12  2  0
 11 13  1  0
 10  5  1  0
M  END
"""
LIBRARY = [
    {"name": "aspirin", "smiles": "CC(=O)Oc1ccccc1C(=O)O"},
    {"name": "ibuprofen", "smiles": "CC(C)Cc1ccc(cc1)[C@@H](C)C(=O)O"},
    {"name": "celecoxib", "smiles": "Cc1ccc(cc1)-c1cc(nn1-c1ccc(cc1)S(N)(=O)=O)C(F)(F)F"},
    {"name": "clopidogrel", "smiles": "COC(=O)[C@H](c1ccccc1Cl)N1CCc2sccc2C1"},
    {"name": "bromhexine", "smiles": "CN(Cc1cc(Br)cc(Br)c1N)C1CCCCC1"},
    {"name": "tenofovir", "smiles": "C[C@H](Cn1cnc2c(N)ncnc21)OCP(O)(O)=O"},
]


class SetClock:
    """A clock that stands still until it is set."""

    def __init__(self, now: datetime = BEGAN) -> None:
        self._now = now

    def now(self) -> datetime:
        return self._now

    def move(self, seconds: float) -> None:
        self._now += timedelta(seconds=seconds)


def chart(width: int = 240, height: int = 120) -> bytes:
    """Return bars as a PNG image of two colours, the same bytes with every zlib.

    Format: PNG, third edition, 11.2.
    """
    rows = bytearray()
    for y in range(height):
        bits = [x % 24 > 4 and height - y < 20 + (x // 24 * 37) % 80 for x in range(width)]
        number = int("".join("01"[bit] for bit in bits).ljust(-(-width // 8) * 8, "0"), 2)
        rows += b"\0" + number.to_bytes(-(-width // 8), "big")
    stored = (
        struct.pack("<BHH", 1, len(rows), 0xFFFF - len(rows)) + rows
    )  # one block, not compressed (RFC 1951, 3.2.4)
    parts = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 3, 0, 0, 0)),
        (b"PLTE", bytes([244, 246, 248, 11, 92, 173])),
        (b"IDAT", b"\x78\x01" + stored + struct.pack(">I", zlib.adler32(rows))),
        (b"IEND", b""),
    ]
    chunks = [
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in parts
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


class _Script:
    """Appends events at given distances in seconds."""

    def __init__(self) -> None:
        self.clock = SetClock()
        self.store = InMemoryEventStore(clock=self.clock)
        self._events = 0
        self.who = {"actor": "Ada Lovelace", "reason": "screening run 12"}

    async def add(self, seconds: float, kind: FlowEventKind, *artifacts: Artifact) -> None:
        self.clock.move(seconds)
        event_id = uuid5(FLOW_ID, str(self._events))
        self._events += 1
        await self.store.append_kind(
            FLOW_ID, kind, artifacts=artifacts, event_id=event_id, metadata=self.who
        )


async def sample_store(*, until: str = "end") -> InMemoryEventStore:
    """Return a store with the flow up to its `end`, or until it has `failed` or `asks`."""
    script = _Script()
    library = Artifact.from_payload(
        kind="library", payload={"source": "reference set", "molecules": LIBRARY}
    )
    await script.add(0, FlowInitialized(content_hash("definition"), 6, library.hash), library)
    await _acquire(script, library)
    await _embed(script)
    if until == "failed":
        return script.store
    await _embed_again(script)
    if until == "asks":
        return script.store
    await _answer_and_report(script)
    return script.store


async def _acquire(script: _Script, library: Artifact) -> None:
    cleaned = Artifact.from_payload(
        kind="molecules",
        payload={"molecules": LIBRARY[:4], "dropped": 2, "rule": "one fragment, neutral"},
    )
    await script.add(0.012, StepStarted(0, "acquire"))
    await script.add(0.8, StepFinished(0, "acquire", (library.hash,), content_hash("acquire")))
    await script.add(0.004, StepStarted(1, "standardise"))
    await script.add(
        1.9, StepFinished(1, "standardise", (cleaned.hash,), content_hash("standardise")), cleaned
    )
    await script.add(
        0.05,
        PropertyPreferenceAssigned("logP", "cheapest", content_hash("logP"), {"because": "speed"}),
    )


async def _embed(script: _Script) -> None:
    await script.add(0.01, StepStarted(2, "embed"))
    for done in range(60):
        await script.add(0.05, StepSignal(2, "embed", "progress", {"conformers": done, "of": 400}))
    await script.add(30, StepStarted(2, "embed"))
    for done in range(60):
        await script.add(
            0.06, StepSignal(2, "embed", "progress", {"conformers": 60 + done, "of": 400})
        )
    error = StepError(
        "screen.errors.LicenceServerUnreachable", "no seat of the force field is free", TRACEBACK
    )
    await script.add(0.4, StepFailed(2, "embed", error, content_hash("embed")))


async def _embed_again(script: _Script) -> None:
    script.who = {
        "actor": "Grace Hopper",
        "on_behalf_of": "Ada Lovelace",
        "reason": "the licence was renewed",
    }
    await script.add(5_400, RetryScheduled("embed", 1, "the licence was renewed"))
    script.who = {"actor": "Ada Lovelace", "reason": "screening run 12"}
    await script.add(0.02, StepStarted(2, "embed"))
    for done in range(60):
        await script.add(
            0.04, StepSignal(2, "embed", "progress", {"conformers": 120 + done, "of": 400})
        )
    molfile = Artifact.from_content(
        kind="conformer",
        content=MOLFILE.encode(),
        media_type="chemical/x-mdl-molfile",
        metadata={"method": "ETKDGv3"},
    )
    energies = Artifact.from_content(kind="energies", content=chart(), media_type="image/png")
    table = Artifact.from_content(
        kind="table", content=b"name,energy\naspirin,-12.4\nibuprofen,-9.1\n", media_type="text/csv"
    )
    outputs = (energies.hash, molfile.hash, table.hash)
    await script.add(
        0.3, StepFinished(2, "embed", outputs, content_hash("embed")), molfile, energies, table
    )
    await script.add(0.01, StepStarted(3, "choose"))
    schema = {
        "type": "object",
        "properties": {"keep": {"type": "array", "items": {"type": "string"}}},
    }
    question = "Which of the four molecules go on to docking?"
    await script.add(0.2, UserInteractionRequested(3, "choose", schema, question))


async def _answer_and_report(script: _Script) -> None:
    script.who = {"actor": "Grace Hopper"}
    provided = {"keep": ["aspirin", "celecoxib"]}
    await script.add(
        3 * 86_400, UserInteractionProvided(3, "choose", provided, content_hash(provided))
    )
    script.who = {"actor": "Ada Lovelace", "reason": "screening run 12"}
    chosen = Artifact.from_payload(
        kind="molecules", payload={"molecules": [LIBRARY[0], LIBRARY[2]]}
    )
    await script.add(0.01, StepStarted(3, "choose"))
    await script.add(0.3, StepFinished(3, "choose", (chosen.hash,), content_hash("choose")), chosen)
    binary = Artifact.from_content(
        kind="trajectory",
        content=bytes(range(256)) * 40,
        media_type="chemical/x-xtc",
        metadata={"frames": 12},
    )
    await script.add(0.01, StepStarted(4, "dock"))
    await script.add(3.1, StepFinished(4, "dock", (binary.hash,), content_hash("dock")), binary)
    report = Artifact.from_content(
        kind="report",
        content=b"# Screening run 12\n\nTwo of four molecules go on.\n",
        media_type="text/markdown",
    )
    await script.add(0.02, StepStarted(5, "report"))
    await script.add(
        0.09, StepFinished(5, "report", (report.hash,), content_hash("report")), report
    )
    await script.add(0.001, FlowCompleted(content_hash("flow")))
