"""Reading many artifacts from any store, which artifacts a flow has, and its definition."""

from collections.abc import AsyncIterator, Sequence
from uuid import UUID

from chem_persistence.domain.answers import ArtifactProducer
from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.definition import (
    FlowDefinition,
    assembled_definition,
    definition_differences,
    described_definition,
    listed_steps,
)
from chem_persistence.errors import (
    ArtifactCorrupt,
    ArtifactNotFound,
    ArtifactTooLarge,
    DefinitionMismatch,
)
from chem_persistence.store.ports import ArtifactLister, ArtifactRead, ArtifactReader, EventStore

__all__ = ["explained_mismatch", "list_artifacts", "read_artifacts", "read_definition"]


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


async def read_definition(store: EventStore, definition_hash: str) -> FlowDefinition | None:
    """Return the definition that is stored under its hash.

    None if it is not stored whole, as of flows that were begun by an earlier version of the
    library, or by hand.

    Raises:
        StoreUnavailable, StoreError: the store cannot be reached, or refused.
    """
    try:
        own = await store.get_artifact(definition_hash)
    except (ArtifactNotFound, ArtifactCorrupt, ArtifactTooLarge):
        return None
    if described := described_definition(own.hash, own.metadata):
        return described
    hashes = list(dict.fromkeys(listed_steps(own)))
    found = [read async for read in read_artifacts(store, hashes)]
    return assembled_definition(
        own, {read.hash: read for read in found if isinstance(read, Artifact)}
    )


async def explained_mismatch(
    store: EventStore, error: DefinitionMismatch, definition: FlowDefinition
) -> DefinitionMismatch:
    """Return the error with what differs between the flow's definition and the one expected.

    Raises:
        StoreUnavailable, StoreError: the store cannot be reached, or refused.
    """
    stored = await read_definition(store, error.actual)
    if stored is None:
        return error
    differences = definition_differences(stored, definition)
    in_words = tuple(str(difference) for difference in differences)
    return DefinitionMismatch(error.flow_id, error.expected, error.actual, in_words)
