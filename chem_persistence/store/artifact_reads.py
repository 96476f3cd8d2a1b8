"""Reading many artifacts from any store, and which artifacts a flow has."""

from collections.abc import AsyncIterator, Sequence
from uuid import UUID

from chem_persistence.domain.answers import ArtifactProducer
from chem_persistence.errors import ArtifactCorrupt, ArtifactNotFound, ArtifactTooLarge
from chem_persistence.store.ports import ArtifactLister, ArtifactRead, ArtifactReader, EventStore

__all__ = ["list_artifacts", "read_artifacts"]


async def list_artifacts(store: EventStore, flow_id: UUID) -> Sequence[ArtifactProducer]:
    """Return the artifacts that were first stored with events of a flow, in the order of these.

    A store that cannot list them has none: of its artifacts only those that events name are known.

    Raises:
        InvalidArgument: the flow id cannot name a flow.
        StoreUnavailable, StoreError: the store cannot be reached, or refused.
    """
    return await store.list_artifacts(flow_id) if isinstance(store, ArtifactLister) else ()


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
