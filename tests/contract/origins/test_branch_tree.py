"""The tree of branches to which a flow belongs, on every store."""

from typing import Any
from uuid import UUID

import pytest
from msgspec.structs import replace

from chem_persistence import BranchCreated, FlowEngine, InMemoryFlowRepository, flow_page
from chem_persistence.store.leasing.children import ChildState
from chem_persistence.views.origin.branches import BranchTree, is_in_a_tree, read_branch_tree
from tests.support.flows.flows import new_flow_id
from tests.support.leases.desk import Desk
from tests.support.leases.families import Add
from tests.support.leases.staff import Number, chain, client_of


def adding(*amounts: int) -> Any:
    return chain(*(Add(amount, f"step {index}") for index, amount in enumerate(amounts)))


async def family(desk: Desk) -> list[UUID]:
    """Return a root, its two branches, and a branch of the first of them, which has not run."""
    engine = FlowEngine(desk.store, InMemoryFlowRepository(desk.store), adding(1, 2))
    root = await engine.run_to_end(input=Number(1))
    client = client_of(desk)
    first = await client.branch(root, adding(1, 3), reason="r")
    inner = await client.branch(first, adding(4, 5), Number(9), reason="r")
    second = await client.branch(root, adding(1, 2), from_step="step 1", reason="r")
    await client.cancel(second, reason="not needed")
    return [root, first, inner, second]


async def tree_of(desk: Desk, flow_id: UUID) -> BranchTree:
    (first,) = await desk.store.list(flow_id, limit=1)
    return await read_branch_tree(desk.store, first)


async def test_every_flow_of_a_family_is_shown_in_the_whole_tree(desk: Desk) -> None:
    root, first, inner, second = flows = await family(desk)
    for shown in flows:
        tree = await tree_of(desk, shown)
        assert tree.is_whole
        assert [each.flow_id for each in tree.flows if each.is_shown] == [shown]
        assert [(each.flow_id, each.parent, each.generation) for each in tree.flows] == [
            (root, None, 0),
            (first, root, 1),
            (inner, first, 2),
            (second, root, 1),
        ]


async def test_a_branch_says_its_state_and_what_it_has_changed(desk: Desk) -> None:
    root, *_ = await family(desk)
    tree = await tree_of(desk, root)
    assert [each.state for each in tree.flows] == [
        ChildState.COMPLETED,
        ChildState.RUNNING,
        ChildState.RUNNING,
        ChildState.CANCELLED,
    ]
    top, changed, other_input, again = tree.flows
    assert (top.in_words, again.in_words) == ("", "again from step 1")
    assert len(changed.changed) == 1
    assert "3" in changed.in_words
    assert other_input.changed[0] == "another input"
    assert len(other_input.changed) == 3
    many = replace(changed, changed=("a", "b", "c", "d", "e"))
    assert many.in_words == "a; b; c and 2 more"


async def test_a_page_draws_the_tree(desk: Desk) -> None:
    _, first, inner, _ = await family(desk)
    page = await flow_page(desk.store, first)
    assert 'id="branches"' in page
    assert f"<strong>this flow <code>{first}</code></strong>" in page
    assert f'<a href="{inner}.html">' in page
    assert "again from step 1" in page


async def test_a_flow_without_branches_is_in_no_tree(desk: Desk) -> None:
    engine = FlowEngine(desk.store, InMemoryFlowRepository(desk.store), adding(1))
    flow_id = await engine.run_to_end(input=Number(1))
    (first,) = await desk.store.list(flow_id, limit=1)
    assert not is_in_a_tree(first, has_branches=False)
    assert 'id="branches"' not in await flow_page(desk.store, flow_id)


async def test_what_a_program_appended_by_itself_does_no_harm(desk: Desk) -> None:
    engine = FlowEngine(desk.store, InMemoryFlowRepository(desk.store), adding(1))
    root = await engine.run_to_end(input=Number(1))
    missing = new_flow_id()
    for branch in (missing, root):  # one that is not there, and itself
        await desk.store.append_kind(root, BranchCreated(branch, root, root, "step 0"))
    tree = await tree_of(desk, root)
    assert [(each.flow_id, each.state) for each in tree.flows[1:]] == [(missing, None)]
    assert "not stored" in await flow_page(desk.store, root)
    (first,) = await desk.store.list(root, limit=1)
    odd = replace(first, metadata={"branched_from": {"root": "nobody", "from_step": 1}})
    assert (await read_branch_tree(desk.store, odd)).flows[0].flow_id == root


async def test_of_a_large_tree_the_first_flows_are_shown(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chem_persistence.views.origin.branches.MOST_FLOWS", 3)
    root, first, inner, second = await family(desk)
    tree = await tree_of(desk, inner)
    assert [each.flow_id for each in tree.flows] == [root, first, second]
    assert not tree.is_whole
