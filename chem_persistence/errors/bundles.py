"""The errors of bundles: files that are none, or whose flows a store cannot take in."""

from pathlib import Path
from uuid import UUID

from chem_persistence.errors.values import ChemPersistenceError

__all__ = ["FlowDiffers", "InvalidBundle"]


class InvalidBundle(ChemPersistenceError, ValueError):
    """The file is not a bundle, or was changed; nothing of it was stored.

    `file` and `place` say where in it, as far as that is known, and `reason` what is wrong.
    """

    def __init__(self, path: Path, file: str, place: str, reason: str) -> None:
        super().__init__(": ".join(part for part in (str(path), file, place, reason) if part))
        self.path = path
        self.file = file
        self.place = place
        self.reason = reason


class FlowDiffers(ChemPersistenceError):
    """The store has another event at `version` of the flow than the bundle; nothing was stored.

    A flow has one history. So one of the two went on where the other did, too.
    """

    def __init__(self, flow_id: UUID, version: int) -> None:
        super().__init__(
            f"flow {flow_id}, version {version}: the store has another event than the bundle: "
            "import it into another database, or leave the flow out of the bundle"
        )
        self.flow_id = flow_id
        self.version = version
