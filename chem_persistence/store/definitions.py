"""The stored definitions of flows: which a store has, what they are, and what differs from them.

The artifacts of a definition are sent with the `FlowInitialized` of the first flow that a process
begins; once such an append is stored, the store remembers it (`Appender.seen_definitions`), and the
flows that follow cost nothing more.
"""

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.definition import (
    FlowDefinition,
    assembled_definition,
    definition_artifacts,
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
from chem_persistence.store.artifact_reads import read_artifacts
from chem_persistence.store.checks import MAX_EVENT_BYTES
from chem_persistence.store.ports import EventStore

__all__ = ["explained_mismatch", "read_definition", "remember_definition", "unseen_definitions"]


def unseen_definitions(store: object, definition: FlowDefinition) -> tuple[Artifact, ...]:
    """Return the artifacts of a definition that a store is not known to have; empty if it has.

    Parameters that are larger than the store takes are not worth a failure: the flow then runs as
    one whose definition is not stored.
    """
    if definition.definition_hash in getattr(store, "seen_definitions", ()):
        return ()
    artifacts = definition_artifacts(definition)
    sizes = [len(artifact.encoded()) for artifact in artifacts]
    limit = getattr(store, "max_artifact_bytes", MAX_EVENT_BYTES)
    return () if max(sizes) > limit or sum(sizes) > MAX_EVENT_BYTES else artifacts


def remember_definition(store: object, definition: FlowDefinition) -> None:
    """Remember that an append with the artifacts of a definition was stored."""
    seen = getattr(store, "seen_definitions", None)
    if isinstance(seen, set):  # that of a transaction, which may be rolled back, is frozen
        seen.add(definition.definition_hash)


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
