"""Small artifacts that this process has stored and is likely to need soon: those of children.

A worker that submits the children of a map often claims them itself, and then runs their parent
again: so it need not read the inputs, nor what the children made. An artifact is kept until it is
taken, or many others were kept after it; whatever is not here is read from the store.
"""

from collections import OrderedDict
from weakref import WeakKeyDictionary

from chem_persistence.domain.artifacts import KEPT, Artifact

__all__ = ["keep_artifact", "take_artifacts"]

MOST_BYTES = 2_048
"""Larger artifacts are not kept."""

MOST_ARTIFACTS = 8_192
"""The number of artifacts that are kept of one store; together they have at most 16 MiB."""

_kept: WeakKeyDictionary[object, OrderedDict[str, Artifact]] = WeakKeyDictionary()


def keep_artifact(store: object, artifact: Artifact) -> None:
    """Keep an artifact that `store` has, if it is small."""
    encoded: bytes | None = artifact.__dict__.get(KEPT)
    if encoded is None or len(encoded) > MOST_BYTES:
        return
    kept = _kept.setdefault(store, OrderedDict())
    kept[artifact.hash] = artifact
    kept.move_to_end(artifact.hash)
    if len(kept) > MOST_ARTIFACTS:
        kept.popitem(last=False)


def take_artifacts(store: object, hashes: list[str]) -> dict[str, Artifact]:
    """Return those of the artifacts that are kept, and keep them no longer.

    So each is used by one flow, and what that may do to its payload is seen by no other one.
    """
    kept = _kept.get(store)
    if not kept:
        return {}
    return {each: kept.pop(each) for each in dict.fromkeys(hashes) if each in kept}
