"""The branches of a flow's root, generation by generation, with what each of them has changed."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from uuid import UUID

import msgspec

from chem_persistence.domain.definition import FlowDefinition, definition_differences
from chem_persistence.domain.events import FlowEvent, FlowInitialized
from chem_persistence.errors import FlowArchived
from chem_persistence.store.definitions import read_definition
from chem_persistence.store.leasing.branches import (
    BRANCHED_FROM,
    BranchReader,
    branched_from,
    root_of,
)
from chem_persistence.store.leasing.children import ChildReader, ChildState
from chem_persistence.store.ports import EventStore

__all__ = ["BranchTree", "BranchView", "is_in_a_tree", "read_branch_tree"]

MOST_FLOWS = 100
"""The number of flows of a tree that are read."""

MOST_CHANGES = 3


class BranchView(msgspec.Struct, frozen=True):
    """A flow of a tree of branches; the root's `generation` is 0.

    `parent` is None for the root. `state` is None if the flow is not stored. `changed` says in
    words what differs from the parent, such as `embed.iterations 200 -> 500`; `from_step` is the
    first step that the branch has run. `is_shown` is whether the tree is shown for this flow.
    """

    flow_id: UUID
    parent: UUID | None
    generation: int
    state: ChildState | None
    from_step: str | None
    changed: tuple[str, ...]
    is_shown: bool

    @property
    def in_words(self) -> str:
        """What the branch has changed, or else from which step it ran again."""
        named = "; ".join(self.changed[:MOST_CHANGES])
        more = len(self.changed) - MOST_CHANGES
        if not named:
            return "" if self.from_step is None else f"again from {self.from_step}"
        return f"{named} and {more} more" if more > 0 else named


class BranchTree(msgspec.Struct, frozen=True):
    """A root, and its branches, each directly after its parent and the parent's earlier branches.

    `is_whole` is whether all were read.
    """

    flows: tuple[BranchView, ...] = ()
    is_whole: bool = True


class _Begun(msgspec.Struct, frozen=True):
    """What the first event of a flow says."""

    definition: FlowDefinition | None
    input: str | None
    from_step: str | None


def is_in_a_tree(first: FlowEvent, *, has_branches: bool) -> bool:
    """Return whether a flow is a branch, or has branches."""
    return has_branches or BRANCHED_FROM in first.metadata


async def read_branch_tree(store: EventStore, first: FlowEvent) -> BranchTree:
    """Read the tree of branches to which the flow with this first event belongs.

    Raises:
        StoreUnavailable, StoreError: the store cannot be reached, or refused.
        UnreadableEvent: the first event of a branch does not decode.
    """
    if not isinstance(store, BranchReader) or not isinstance(store, ChildReader):
        return BranchTree()
    root = root_of(first)
    parents, is_whole = await _parents(store, root)
    if first.flow_id not in parents and is_whole:  # that it was made was archived with its parent
        parents.setdefault(parent := branched_from(first), root)
        parents[first.flow_id] = parent
    states = await store.child_states(list(parents))
    definitions: dict[str, FlowDefinition | None] = {}
    begun = {flow_id: await _begun(store, flow_id, definitions) for flow_id in parents}
    order = _in_order(root, 0, parents)
    return BranchTree(
        tuple(
            BranchView(
                flow_id,
                parents[flow_id],
                generation,
                states.get(flow_id),
                begun[flow_id].from_step,
                tuple(_changes(begun, parents[flow_id], flow_id)),
                flow_id == first.flow_id,
            )
            for flow_id, generation in order
        ),
        is_whole,
    )


async def _parents(store: BranchReader, root: UUID) -> tuple[dict[UUID, UUID | None], bool]:
    """Return the parent of each flow of a tree, generation by generation; and if that is all."""
    parents: dict[UUID, UUID | None] = {root: None}
    generation: Sequence[UUID] = [root]
    while generation:
        limit = MOST_FLOWS - len(parents)
        found = await store.branches(generation, limit + 1)
        pairs = {branch: parent for parent, made in found.items() for branch in made}
        new = {branch: parent for branch, parent in pairs.items() if branch not in parents}
        generation = list(new)[:limit]
        parents |= {branch: new[branch] for branch in generation}
        if len(new) > limit:
            return parents, False
    return parents, True


async def _begun(
    store: EventStore, flow_id: UUID, definitions: dict[str, FlowDefinition | None]
) -> _Begun:
    with suppress(FlowArchived):  # the parent, or another branch
        first = next(iter(await store.list(flow_id, limit=1)), None)
        fact = None if first is None else first.kind
        if first is not None and isinstance(fact, FlowInitialized):
            key = fact.definition_hash
            if key not in definitions:
                definitions[key] = await read_definition(store, key)
            origin = first.metadata.get(BRANCHED_FROM)
            step = origin.get("from_step") if isinstance(origin, dict) else None
            return _Begun(definitions[key], fact.input, step if isinstance(step, str) else None)
    return _Begun(None, None, None)


def _in_order(
    flow_id: UUID, generation: int, parents: Mapping[UUID, UUID | None]
) -> Iterator[tuple[UUID, int]]:
    yield flow_id, generation
    for branch, parent in parents.items():
        if parent == flow_id:
            yield from _in_order(branch, generation + 1, parents)


def _changes(begun: Mapping[UUID, _Begun], parent: UUID | None, flow_id: UUID) -> Iterator[str]:
    """Yield in words what differs between a branch and its parent."""
    if parent is None:
        return
    old, new = begun[parent], begun[flow_id]
    if old.input != new.input:
        yield "another input"
    if old.definition is None or new.definition is None:
        return
    for each in definition_differences(old.definition, new.definition):
        if each.step is None or each.what == "step":
            yield str(each)
        else:
            name = each.what.removeprefix("params.")
            yield f"{each.step}.{name} {each.left or 'absent'} -> {each.right or 'absent'}"
