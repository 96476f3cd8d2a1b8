"""The page of a flow whose results were taken over, and of the flow that took them over."""

from uuid import UUID

import pytest

from chem_persistence import (
    FlowClient,
    FlowEngine,
    InMemoryEventStore,
    InMemoryFlowRepository,
    PageLimits,
    flow_page,
)
from tests.support.leases.families import Add
from tests.support.leases.staff import Number, chain
from tests.support.pages.read_page import ReadPage, read_page


class Adding(Add):
    reuse = "any"


@pytest.fixture
async def store() -> InMemoryEventStore:
    return InMemoryEventStore()


async def ran(store: InMemoryEventStore) -> UUID:
    flow = chain(Adding(1, "first"), Adding(1, "second"))
    engine = FlowEngine(store, InMemoryFlowRepository(store), flow)
    return await engine.run_to_end(input=Number(0))


async def page_of(store: InMemoryEventStore, flow_id: UUID, limits: PageLimits) -> ReadPage:
    return read_page(await flow_page(store, flow_id, limits=limits))


async def test_the_page_says_where_a_result_is_from(store: InMemoryEventStore) -> None:
    origin, copy = await ran(store), await ran(store)
    html = await flow_page(store, copy)
    text = read_page(html).text()
    assert f"Its result was taken over from flow {origin}, event 2." in text
    assert f'<a href="{origin}.html">' in html
    assert "Attempts0" in "".join(text.split())
    assert "2 of 2" in text
    assert "Attempt 1" not in text


async def test_the_page_of_the_origin_names_who_took_it_over(store: InMemoryEventStore) -> None:
    origin = await ran(store)
    copies = [await ran(store) for _ in range(3)]
    text = (await page_of(store, origin, PageLimits())).text()
    assert "Taken over by other flows" in text
    assert all(f"{copy}, event 1" in text for copy in copies)
    assert "There are more." not in text


async def test_the_page_says_who_declared_a_result_invalid(store: InMemoryEventStore) -> None:
    origin = await ran(store)
    client = FlowClient(store, InMemoryFlowRepository(store))
    await client.invalidate(origin, "first", reason="wrong <units>", actor="Ada")
    text = (await page_of(store, origin, PageLimits())).text()
    assert "Its result was declared invalid by Ada at" in text
    assert "wrong <units>" in text
    assert ", invalid, " in text
