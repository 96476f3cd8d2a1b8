"""The command `show` on flows that run other flows."""

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from chem_persistence import FlowEngine, PgEventStore, PgFlowRepository, PoolProvider, build_pool
from chem_persistence.store.leasing.children import child_id
from tests.support.commands import command
from tests.support.leases.families import Picky, mapped
from tests.support.leases.staff import Number

PARENT = UUID("01a221e6-0000-7000-8000-000000000001")


@pytest.fixture
async def url(database_url: str) -> str:
    async with await build_pool(database_url, max_size=4) as pool:
        store = PgEventStore(PoolProvider(pool))
        parent = mapped(Picky({3, 9}), failures=0.2)
        engine = FlowEngine(store, PgFlowRepository(PoolProvider(pool)), parent)
        await engine.run_to_end(PARENT, Number(15))
        await store.aclose()
    return database_url


async def output(url: str, *arguments: object) -> str:
    done = await command(*arguments, "--database-url", url)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


async def test_show_counts_the_children_and_lists_the_failed_ones_first(url: str) -> None:
    said = await output(url, "show", PARENT)
    assert "step item has run 15 flows: 2 failed, 13 completed\n" in said
    lines = [line.split() for line in said.splitlines()]
    listed = [line for line in lines if line[2:] in (["failed"], ["completed"])]
    assert [line[0] for line in listed] == ["3", "9", *"01245678"]
    assert listed[0] == ["3", str(child_id(PARENT, 1, 3)), "failed"]
    assert "and 5 more\n" in said


async def test_show_names_the_parent_of_a_child(url: str) -> None:
    said = await output(url, "show", child_id(PARENT, 1, 3))
    assert f"{PARENT}, step 1, item 3" in " ".join(said.split())


async def test_flows_names_the_parents_of_children(url: str) -> None:
    said = await output(url, "flows", "--limit", 30)
    heading, *lines = [line.split() for line in said.splitlines()]
    assert heading[:2] == ["flow", "parent"]
    parents = {line[0]: line[1] for line in lines}
    assert parents.pop(str(PARENT)) == "listed"  # the name: it has no parent
    assert parents == {str(child_id(PARENT, 1, item)): str(PARENT) for item in range(15)}
    said = await output(url, "flows", "--roots")
    assert [line.split()[:2] for line in said.splitlines()[1:]] == [[str(PARENT), "listed"]]
    told: Any = json.loads(await output(url, "flows", "--limit", 30, "--json"))
    places = {flow["flow_id"]: flow["parent"] for flow in told["flows"]}
    assert places[str(PARENT)] is None
    where = {"flow_id": str(PARENT), "step_index": 1, "item": 3}
    assert places[str(child_id(PARENT, 1, 3))] == where


async def test_show_prints_the_children_as_json(url: str) -> None:
    told: Any = json.loads(await output(url, "show", PARENT, "--json"))
    (children,) = told["children"]
    assert (children["step_id"], children["submitted"]) == ("item", 15)
    assert children["counts"] == {"failed": 2, "completed": 13}
    assert [child["item"] for child in children["listed"][:3]] == [3, 9, 0]
    assert told["parent"] is None
    child: Any = json.loads(await output(url, "show", child_id(PARENT, 1, 9), "--json"))
    assert child["parent"] == {"flow_id": str(PARENT), "step_index": 1, "item": 9}
    assert child["children"] == []


async def test_the_page_counts_the_children_and_lists_the_failed_ones_first(
    url: str, tmp_path: Path
) -> None:
    page = tmp_path / "parent.html"
    done = await command("show", PARENT, "--html", page, "--database-url", url)
    assert done.returncode == 0
    html = page.read_text(encoding="utf-8")
    section = html[html.index('<section id="children"') :]
    section = section[: section.index("</section>")]
    assert "15 flows: 2 failed, 13 completed." in section
    links = [section.index(f'href="{child_id(PARENT, 1, item)}.html"') for item in (3, 9, 0, 14)]
    assert links == sorted(links)


async def test_the_page_of_a_child_has_a_link_to_that_of_its_parent(
    url: str, tmp_path: Path
) -> None:
    page = tmp_path / "child.html"
    done = await command("show", child_id(PARENT, 1, 3), "--html", page, "--database-url", url)
    assert done.returncode == 0
    html = page.read_text(encoding="utf-8")
    assert f'Child of <a href="{PARENT}.html"><code>{PARENT}</code></a>, step 1, item 3' in html
