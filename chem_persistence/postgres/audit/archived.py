"""What `show` and the explorer say of an archived flow: the register's rows, and what stayed."""

from collections.abc import Sequence
from uuid import UUID

import msgspec

from chem_persistence.postgres.audit.register import PgRegister
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.read.search import ArtifactDescription, list_artifacts
from chem_persistence.store.transfer.register import ArchivedFlow

__all__ = ["ArchivedDescription", "describe_archived"]

MOST_ARTIFACTS = 100


class ArchivedDescription(msgspec.Struct, frozen=True):
    """A flow that was archived: where it is, and its artifacts that others use.

    `last` is its row in the register, `earlier` those of archives after which it was imported
    again, the newest first. `kept` has at most `MOST_ARTIFACTS`; with `more` there are others.
    """

    last: ArchivedFlow
    earlier: Sequence[ArchivedFlow]
    kept: Sequence[ArtifactDescription]
    more: bool


async def describe_archived(provider: ConnectionProvider, flow_id: UUID) -> ArchivedDescription:
    """Describe a flow that the register has.

    Raises:
        ArtifactCorrupt: the metadata of an artifact does not decode.
        StoreUnavailable, StoreError: the register or the artifacts could not be read.
    """
    rows = await PgRegister(provider).find_archived([flow_id])
    kept = await list_artifacts(provider, None, flow_id, limit=MOST_ARTIFACTS + 1)
    more = len(kept) > MOST_ARTIFACTS
    return ArchivedDescription(rows[-1], rows[-2::-1], kept[:MOST_ARTIFACTS], more)
