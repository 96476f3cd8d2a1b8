"""Reading many artifacts from any store."""

from collections.abc import AsyncIterator, Sequence

from chem_persistence.errors import ArtifactCorrupt, ArtifactNotFound, ArtifactTooLarge
from chem_persistence.store.ports import ArtifactRead, ArtifactReader, EventStore

__all__ = ["read_artifacts"]


async def read_artifacts(
    store: EventStore, artifact_hashes: Sequence[str]
) -> AsyncIterator[ArtifactRead]:
    """Yield artifacts in the order given: in few queries if the store can, else one at a time.

    In place of one that cannot be read, yield the error that `get_artifact` raises for it.

    Raises:
        StoreUnavailable, StoreError: the store cannot be reached, or refused.
    """
    if isinstance(store, ArtifactReader):
        async for read in store.get_artifacts(artifact_hashes):
            yield read
        return
    for artifact_hash in artifact_hashes:
        try:
            read = await store.get_artifact(artifact_hash)
        except (ArtifactNotFound, ArtifactCorrupt, ArtifactTooLarge) as error:
            yield error
        else:
            yield read
