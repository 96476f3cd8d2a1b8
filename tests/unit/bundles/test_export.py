"""An export has flows as far as they had come, and leaves no file if it fails."""

from collections.abc import Collection, Mapping
from pathlib import Path

import pytest

from chem_persistence import (
    InMemoryEventStore,
    StepSignal,
    UnreadableEvent,
    export_flows,
)
from chem_persistence.store.transfer.ports import ArtifactLabel
from tests.support.bundles import SMALL_FLOW, exported, small_store
from tests.support.flows.sample_flow import FLOW_ID, sample_store


class GoesOn(InMemoryEventStore):
    """A store in which the flow goes on between the two readings of an export."""

    async def label_artifacts(self, hashes: Collection[str]) -> Mapping[str, ArtifactLabel]:
        await self.append_kind(SMALL_FLOW, StepSignal(1, "sleep", "meanwhile"))
        return await super().label_artifacts(hashes)


async def test_a_flow_is_exported_as_far_as_it_had_come(tmp_path: Path) -> None:
    store = await small_store()
    before = await exported(store, tmp_path / "before.zip")
    store.__class__ = GoesOn
    assert await exported(store, tmp_path / "after.zip") == before
    assert len(await store.list(SMALL_FLOW)) == 6


async def test_a_bundle_is_the_same_where_rdkit_is_not_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await sample_store()
    drawn = await exported(store, tmp_path / "a.zip", FLOW_ID)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    assert await exported(store, tmp_path / "b.zip", FLOW_ID) == drawn


async def test_a_flow_that_was_tampered_with_is_not_exported(tmp_path: Path) -> None:
    store, path = await small_store(), tmp_path / "run.zip"
    before = await exported(store, path)
    stream = store._log._streams[SMALL_FLOW]
    event = stream[2]
    stream[2] = type(event)(
        **{name: getattr(event, name) for name in event.__struct_fields__}
        | {"metadata": b'{"reason":"other"}'}
    )
    with pytest.raises(UnreadableEvent, match="version 2: its link does not follow"):
        await export_flows(store, [SMALL_FLOW], path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
