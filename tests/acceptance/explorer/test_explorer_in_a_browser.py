"""The explorer in a real browser: silent, accessible, alone, and alive."""

from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest
import pytest_asyncio

from chem_persistence import PgEventStore, PoolProvider, build_pool
from tests.acceptance.explorer.conftest import ARCHIVED, CONFORMER, TABLE
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.flows.logged_flows import COMPLETED, JSON_ARTIFACT
from tests.support.pages.browser import Browser, browser, serious_findings

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

PAGES = [
    "/",
    f"/flows/{COMPLETED}.html",
    f"/flows/{ARCHIVED}.html",
    f"/artifacts/{JSON_ARTIFACT.hash}",
    f"/artifacts/{TABLE.hash}",
    "/failures",
    "/definitions",
    "/fleet",
    "/search?q=aaaa",
    "/nothing",
]
SEEN = """new Promise((seen) => {{
    const look = () => document.querySelector({selector!r}) ? seen(true) : setTimeout(look, 20);
    look();
}})"""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def started_browser() -> AsyncIterator[Browser]:
    async with browser() as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module")
async def page(started_browser: Browser) -> Browser:
    await started_browser.attach()
    return started_browser


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_is_silent_and_asks_nobody_else(
    page: Browser, address: str, path: str
) -> None:
    await page.open(address + path)
    assert {urlsplit(url).netloc for url in page.requests} <= {urlsplit(address).netloc, ""}
    assert [each for each in page.complaints if "404" not in each or path != "/nothing"] == []


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
@pytest.mark.parametrize("path", PAGES)
async def test_axe_finds_nothing_serious(
    page: Browser, address: str, path: str, scheme: str
) -> None:
    await page.send("Page.setBypassCSP", enabled=True)
    await page.open(address + path, scheme=scheme)
    assert await serious_findings(page) == []


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_fits_into_a_narrow_window(page: Browser, address: str, path: str) -> None:
    await page.open(address + path, width=360)
    assert await page.run("document.documentElement.scrollWidth") <= 360


async def test_a_new_flow_appears_by_itself(page: Browser, address: str, log: str) -> None:
    await page.open(f"{address}/")
    flow_id = new_flow_id()
    async with await build_pool(log, max_size=1) as pool:
        await PgEventStore(PoolProvider(pool)).append_kind(flow_id, initialized())
    assert await page.run(SEEN.format(selector=f"a[href='/flows/{flow_id}.html']"))
    assert page.complaints == []


async def test_a_conformer_is_drawn_in_three_dimensions(page: Browser, address: str) -> None:
    await page.open(f"{address}/artifacts/{CONFORMER.hash}")
    assert await page.run(SEEN.format(selector="#viewer[data-drawn='3'] canvas"))
    assert {urlsplit(url).netloc for url in page.requests} == {urlsplit(address).netloc}
    drivers = ("WebGL", "GL Driver")  # Chromium draws without a graphics card, and says so
    assert [each for each in page.complaints if not any(map(each.__contains__, drivers))] == []
