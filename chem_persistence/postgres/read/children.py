"""What a parent reads of its children and branches, of many flows in one query."""

from collections.abc import Collection, Sequence
from uuid import UUID

from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.leasing.children import ChildState, state_of_last

__all__ = ["list_cancelled", "read_branches", "read_child_outputs", "read_child_states"]

LIST_CANCELLED = statement("children/list_cancelled")
READ_BRANCHES = statement("children/read_branches")
READ_CHILD_OUTPUTS = statement("children/read_child_outputs")
READ_CHILD_STATES = statement("children/read_child_states")


async def read_child_states(session: Session, flow_ids: Sequence[UUID]) -> dict[UUID, ChildState]:
    """Return the states of flows; see `ChildReader.child_states`."""
    if not flow_ids:
        return {}
    rows = await session.fetch(READ_CHILD_STATES, list(flow_ids))
    return {row["flow_id"]: state_of_last(row["event_type"] or "") for row in rows}


async def read_branches(
    session: Session, flow_ids: Collection[UUID], limit: int
) -> dict[UUID, list[UUID]]:
    """Return the branches of flows; see `BranchReader.branches`."""
    found: dict[UUID, list[UUID]] = {}
    for row in await session.fetch(READ_BRANCHES, list(flow_ids), limit):
        found.setdefault(row["flow_id"], []).append(row["branch_id"])
    return found


async def read_child_outputs(session: Session, flow_ids: Sequence[UUID]) -> dict[UUID, str]:
    """Return the hashes of the outputs of flows; see `ChildReader.child_outputs`."""
    if not flow_ids:
        return {}
    rows = await session.fetch(READ_CHILD_OUTPUTS, list(flow_ids))
    return {row["flow_id"]: row["output"] for row in rows if row["output"] is not None}


async def list_cancelled(session: Session, flow_ids: Collection[UUID]) -> set[UUID]:
    """Return the flows that are cancelled, or asked to be; see `ChildReader.cancelled_flows`."""
    if not flow_ids:
        return set()
    rows = await session.fetch(LIST_CANCELLED, list(flow_ids))
    return {row["flow_id"] for row in rows}
