"""An artifact that stays after its flow was archived says where that flow is."""

from pathlib import Path

from chem_persistence import Artifact, KeptArtifact, StepFinished, import_bundle
from tests.contract.archive.conftest import Store, archived
from tests.support.archiving import ended_flow

VALUE = Artifact.from_payload(kind="Value", payload={"n": 1.0})
FINISHED = StepFinished(0, "acquire", (VALUE.hash,), "f" * 64)
HASHES = [VALUE.hash, "0" * 64, VALUE.hash]


async def test_an_artifact_names_its_archived_flow_until_that_is_imported(
    store: Store, tmp_path: Path
) -> None:
    first = await ended_flow(store, [VALUE], more=[FINISHED])
    await ended_flow(store, [VALUE], more=[FINISHED])
    assert await store.find_kept_artifacts(HASHES) == []
    for _ in range(2):
        bundle = await archived(store, tmp_path, first)
        row = (await store.find_archived([first]))[-1]
        assert await store.find_kept_artifacts(HASHES) == [
            KeptArtifact(
                artifact_hash=VALUE.hash,
                flow_id=first,
                bundle_sha256=bundle.sha256,
                archived_at=row.archived_at,
            )
        ]
        await import_bundle(store, bundle.path)
        assert await store.find_kept_artifacts(HASHES) == []
