"""Bundles of a small flow, stores to import them into, and changed bundles."""

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from chem_persistence import (
    Artifact,
    FlowInitialized,
    InMemoryEventStore,
    StepFinished,
    StepSignal,
    StepStarted,
    StepWaits,
    TransferStore,
    export_flows,
)
from chem_persistence.store.codec import StoredEvent

__all__ = [
    "EVENTS",
    "LARGE",
    "SMALL_FLOW",
    "archived",
    "chained",
    "exported",
    "rewritten",
    "small_store",
    "stored_events",
]

SMALL_FLOW = UUID("0193a000-0000-7000-8000-000000000001")
EVENTS = f"flows/{SMALL_FLOW}/events.jsonl"
"""The file of the events of the small flow."""

LARGE = Artifact.from_content(
    kind="Grid", content=b"\0\1\n\xff" * 2**18 + b"end", media_type="application/octet-stream"
)


async def small_store(*, artifacts: tuple[Artifact, ...] = ()) -> InMemoryEventStore:
    """Return a store with one flow that was given to workers and waits for a time."""
    store = InMemoryEventStore()
    given = Artifact.from_payload(kind="Molecule", payload={"smiles": "CCO", "e": -1.5e-300})
    begin = FlowInitialized("d" * 64, 2, given.hash, due=datetime(2026, 1, 1, tzinfo=UTC))
    await store.append_kind(SMALL_FLOW, begin, artifacts=[given], metadata={"actor": "Ada"})
    await store.append_kinds(
        SMALL_FLOW,
        [
            StepStarted(0, "embed"),
            StepSignal(0, "embed", "progress", {"é": [1.0, 6.02214076e23, None]}),
            StepFinished(0, "embed", (given.hash, *(each.hash for each in artifacts)), "f" * 64),
        ],
        artifacts=artifacts,
        metadata={"reason": "tried\u2028", "n": 0.5},
    )
    await store.append_kind(
        SMALL_FLOW, StepWaits(1, "sleep", datetime(2026, 1, 2, tzinfo=UTC), {"children": 3})
    )
    return store


async def exported(store: TransferStore, path: Path, *flow_ids: UUID) -> bytes:
    """Return the bytes of a bundle of flows."""
    await export_flows(store, flow_ids or (SMALL_FLOW,), path)
    return path.read_bytes()


async def stored_events(store: TransferStore, flow_id: UUID = SMALL_FLOW) -> list[StoredEvent]:
    """Return a flow's events as they are stored."""
    return [event async for event in store.stored_events(flow_id)]


def rewritten(bundle: Path, *, ends: tuple[bytes, bytes] = (b"", b""), **files: Any) -> bytes:
    """Return the bundle with other files, whose manifest has their hashes.

    With `ends` one text of the manifest is replaced by another, such as the end of a flow.
    """
    with zipfile.ZipFile(bundle) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    for key, content in files.items():
        name = {"events": EVENTS, "manifest": "manifest.json"}.get(key, f"{key}.jsonl")
        contents[name] = content(contents.get(name, b""))
    if "manifest" not in files:
        manifest = json.loads(contents["manifest.json"])
        manifest["files"] = {
            name: hashlib.sha256(content).hexdigest()
            for name, content in contents.items()
            if name != "manifest.json"
        }
        contents["manifest.json"] = json.dumps(manifest, sort_keys=True).encode().replace(*ends)
    return archived(contents)


def archived(contents: dict[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    """Return an archive as a bundle renders it, but for the compression."""
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w", method) as archive:
        for name in sorted(contents):
            info = zipfile.ZipInfo(name)
            info.create_system, info.external_attr = 3, 0o100644 << 16
            archive.writestr(info, contents[name], method)
    return output.getvalue()


def chained(events: bytes, change: Callable[[list[bytes]], list[bytes]]) -> tuple[bytes, bytes]:
    """Return the lines of events after a change of what their links are made of, and the last link.

    What is changed are the lines without their links; they are chained anew.
    """
    contents = change(
        [re.sub(rb'"link":"[0-9a-f]{64}",', b"", each) for each in events.splitlines()]
    )
    link, lines = bytes(32), []
    for content in contents:
        link = hashlib.sha256(link + content).digest()
        lines.append(b'%b"link":"%b",%b' % (content[:100], link.hex().encode(), content[100:]))
    return b"\n".join([*lines, b""]), link.hex().encode()
