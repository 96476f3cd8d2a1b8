"""Bundles with more files, and with a larger one, than a ZIP archive has without ZIP64."""

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from pathlib import Path

import pytest

from chem_persistence import (
    Artifact,
    FlowCompleted,
    FlowEventKind,
    FlowInitialized,
    InMemoryEventStore,
    StepFinished,
    StepStarted,
    export_flows,
    import_bundle,
)
from chem_persistence.store.transfer.ports import ArtifactLabel
from tests.support.bundles import SMALL_FLOW

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1_800)]

MANY, A_STEP = 70_000, 700
LARGE_SIZE = 2**32 + 5
PIECE = bytes(2**20)


def verified(bundle: Path) -> str:
    """Return what the program in a bundle prints of it."""
    with zipfile.ZipFile(bundle) as archive:
        archive.extract("verify.py", bundle.parent)
    program = [sys.executable, "-I", "-S", "verify.py", str(bundle)]
    done = subprocess.run(program, cwd=bundle.parent, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout


async def test_a_flow_of_70000_artifacts_travels(tmp_path: Path) -> None:
    store = InMemoryEventStore()
    await store.append_kind(SMALL_FLOW, FlowInitialized("d" * 64, MANY // A_STEP))
    for step in range(MANY // A_STEP):
        made = [
            Artifact.from_payload(kind="Value", payload=step * A_STEP + number)
            for number in range(A_STEP)
        ]
        hashes = tuple(artifact.hash for artifact in made)
        facts: list[FlowEventKind] = [
            StepStarted(step, f"s{step}"),
            StepFinished(step, f"s{step}", hashes, "f" * 64),
        ]
        await store.append_kinds(SMALL_FLOW, facts, artifacts=made)
    await store.append_kind(SMALL_FLOW, FlowCompleted("f" * 64))
    bundle = tmp_path / "run.zip"
    report = await export_flows(store, [SMALL_FLOW], bundle)
    assert (report.artifacts, report.findings) == (MANY, ())
    assert f"{MANY} artifacts verified" in verified(bundle)
    with zipfile.ZipFile(bundle) as archive:
        assert len(archive.namelist()) == MANY + 6
    elsewhere = InMemoryEventStore()
    assert (await import_bundle(elsewhere, bundle)).new_events == 2 + 2 * (MANY // A_STEP)
    await export_flows(elsewhere, [SMALL_FLOW], tmp_path / "again.zip")
    assert (tmp_path / "again.zip").read_bytes() == bundle.read_bytes()


def pieces() -> Iterator[bytes]:
    for _ in range(LARGE_SIZE // len(PIECE)):
        yield PIECE
    yield PIECE[: LARGE_SIZE % len(PIECE)]


class OneLarge(InMemoryEventStore):
    """A store with an artifact that does not fit into the memory."""

    large: ArtifactLabel

    async def label_artifacts(self, hashes: Collection[str]) -> Mapping[str, ArtifactLabel]:
        return {name: self.large for name in hashes if name == self.large.hash}

    async def read_artifact(self, artifact_hash: str) -> AsyncIterator[bytes]:
        assert artifact_hash == self.large.hash
        for piece in pieces():
            yield piece


async def test_an_artifact_of_more_than_4_gib_travels(tmp_path: Path) -> None:
    digest = hashlib.sha256()
    for piece in pieces():
        digest.update(piece)
    store = OneLarge()
    store.large = ArtifactLabel(
        hash=digest.hexdigest(), kind="Grid", media_type="x/y", is_json=False, metadata=b"{}"
    )
    finished = StepFinished(0, "grid", (store.large.hash,), "f" * 64)
    await store.append_kinds(SMALL_FLOW, [FlowInitialized("d" * 64, 1), finished])
    bundle = tmp_path / "run.zip"
    await export_flows(store, [SMALL_FLOW], bundle)
    assert "1 artifacts verified" in verified(bundle)
    with zipfile.ZipFile(bundle) as archive:
        entry = archive.getinfo(f"artifacts/{store.large.hash}")
        assert (entry.file_size, entry.header_offset < 2**32) == (LARGE_SIZE, True)
        assert archive.getinfo("manifest.json").header_offset > 2**32
        assert b"FlowInitialized" not in archive.read("manifest.json")
    bundle.unlink()
