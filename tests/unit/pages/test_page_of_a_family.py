"""The page of a flow that has run thousands of others, and the page of one of them."""

from uuid import UUID

import pytest
import pytest_asyncio

from chem_persistence import FlowEngine, InMemoryEventStore, InMemoryFlowRepository, flow_page
from chem_persistence.store.leasing.children import child_id
from tests.support.flows.sample_flow import FLOW_ID
from tests.support.leases.families import Picky, mapped
from tests.support.leases.staff import Number
from tests.support.pages.read_page import ReadPage, read_page

CHILDREN, FAILED = 5_000, 150
LARGEST_PAGE = 1_000_000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def family() -> InMemoryEventStore:
    store = InMemoryEventStore()
    parent = mapped(Picky(set(range(FAILED))), failures=FAILED / CHILDREN)
    engine = FlowEngine(store, InMemoryFlowRepository(store), parent)
    await engine.run_to_end(FLOW_ID, Number(CHILDREN))
    return store


async def page_of(store: InMemoryEventStore, flow_id: UUID) -> tuple[str, ReadPage]:
    html = await flow_page(store, flow_id)
    return html, read_page(html)


@pytest.mark.slow
async def test_a_page_lists_a_hundred_of_thousands_of_children_the_failed_ones_first(
    family: InMemoryEventStore,
) -> None:
    html, page = await page_of(family, FLOW_ID)
    assert len(html.encode()) < LARGEST_PAGE
    assert "5,000 flows: 150 failed, 4,850 completed." in page.text()
    assert "4,900 flows of 5,000 not shown: a page shows at most 100." in page.text()
    links = [str(attributes["href"]) for tag, attributes in page.elements if tag == "a"]
    pages = [link for link in links if link.endswith(".html")]
    assert pages == [f"{child_id(FLOW_ID, 1, item)}.html" for item in range(100)]


@pytest.mark.slow
async def test_the_page_of_a_child_has_a_link_to_that_of_its_parent(
    family: InMemoryEventStore,
) -> None:
    html, page = await page_of(family, child_id(FLOW_ID, 1, 7))
    assert f'<a href="{FLOW_ID}.html">' in html
    assert f"Child of {FLOW_ID}, step 1, item 7" in page.text()
