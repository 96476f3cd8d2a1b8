"""A flow's page in a real browser: it requests nothing, runs nothing planted, is accessible."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from chem_persistence import flow_page
from tests.support.faults.visitors import Visitors, counting_visitors
from tests.support.flows.hostile_flow import CANARY, HOSTILE_FLOW_ID, hostile_store, planted
from tests.support.flows.sample_flow import FLOW_ID, SEEN_AT, SetClock, sample_store
from tests.support.pages.browser import Browser, browser

pytestmark = [pytest.mark.browser, pytest.mark.asyncio(loop_scope="module")]

TAB, ENTER = ("Tab", 9, ""), ("Enter", 13, "\r")
ACTIVE = "document.activeElement"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def started_browser() -> AsyncIterator[Browser]:
    async with browser() as started:
        yield started


@pytest_asyncio.fixture(loop_scope="module")
async def page(started_browser: Browser) -> Browser:
    await started_browser.attach()
    return started_browser


@pytest_asyncio.fixture(loop_scope="module")
async def visitors() -> AsyncIterator[Visitors]:
    async with counting_visitors() as visitors:
        yield visitors


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    html = await flow_page(await sample_store(), FLOW_ID, clock=SetClock(SEEN_AT))
    return written(tmp_path_factory.mktemp("sample"), html)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("hostile"), await hostile_page("http://127.0.0.1"))


async def hostile_page(url: str) -> str:
    store = await hostile_store(*planted(url))
    return await flow_page(store, HOSTILE_FLOW_ID, clock=SetClock(SEEN_AT))


def written(folder: Path, html: str) -> Path:
    path = folder / "page.html"
    path.write_text(html, encoding="utf-8")
    return path


async def all_that_asked(page: Browser, visitors: Visitors, folder: Path) -> list[str]:
    """Return the paths requested so far, after one more request that comes last."""
    last = folder / "last.html"
    last.write_text(f"<img src='{visitors.url}/last'>", encoding="utf-8")
    await page.open(last)
    assert visitors.paths.pop() == "/last"
    return visitors.paths


async def test_no_request_leaves_and_the_console_is_silent(
    page: Browser, visitors: Visitors, sample: Path, tmp_path: Path
) -> None:
    await page.open(sample)
    assert [url for url in page.requests if not url.startswith("data:")] == [sample.as_uri()]
    assert page.complaints == []
    assert await all_that_asked(page, visitors, tmp_path) == []


async def test_nothing_that_is_planted_runs_or_loads(
    page: Browser, visitors: Visitors, tmp_path: Path
) -> None:
    hostile = written(tmp_path, await hostile_page(visitors.url))
    await page.open(hostile)
    await page.run("document.querySelectorAll('details').forEach((each) => { each.open = true; })")
    title = f"Flow {HOSTILE_FLOW_ID}: completed"
    assert await page.run("document.title") == title
    assert await page.run("document.querySelectorAll('script').length") == 1
    assert await page.run("document.baseURI") == hostile.as_uri()
    through = f"""[...document.querySelectorAll("*")].flatMap((each) => [
        each.localName,
        ...each.getAttributeNames(),
        ...each.getAttributeNames().filter((name) => !["aria-label", "alt"].includes(name))
            .map((name) => each.getAttribute(name))
        ]).filter((text) => text.includes("{CANARY}"))"""
    assert await page.run(through) == []
    assert CANARY in await page.run("document.body.innerText")
    assert page.complaints == []
    assert [url for url in page.requests if not url.startswith("data:")] == [hostile.as_uri()]
    assert await all_that_asked(page, visitors, tmp_path) == []


async def test_unescaped_it_would_have_run_and_loaded(
    page: Browser, visitors: Visitors, tmp_path: Path
) -> None:
    await page.open(written(tmp_path, f"<body>{planted(visitors.url)[1]}"))
    assert await page.run("document.title") == CANARY
    assert await all_that_asked(page, visitors, tmp_path) == [f"/img?{CANARY}"]


async def test_the_policy_alone_would_have_stopped_it(
    page: Browser, visitors: Visitors, sample: Path, tmp_path: Path
) -> None:
    html = sample.read_text(encoding="utf-8")
    for number in (0, 1, 2, 6, 7, 9):
        unescaped = html.replace("<main>", f"<main>{planted(visitors.url)[number]}")
        await page.open(written(tmp_path, unescaped))
        assert CANARY not in await page.run("document.title")
    assert page.complaints != []
    assert await all_that_asked(page, visitors, tmp_path) == []


@pytest.mark.parametrize("width", [1200, 390, 320])
async def test_it_fits_into_its_window(
    page: Browser, sample: Path, hostile: Path, width: int
) -> None:
    for path in (sample, hostile):
        await page.open(path, width=width)
        await page.run(
            "document.querySelectorAll('details').forEach((each) => { each.open = true; })"
        )
        assert await page.run("document.documentElement.scrollWidth") <= width
        assert (
            await page.run("document.querySelector('.axis').getBoundingClientRect().width")
            > width * 0.4
        )


async def test_it_is_walked_by_keyboard_with_the_focus_in_sight(
    page: Browser, sample: Path
) -> None:
    await page.open(sample)
    await page.press(*TAB)
    assert await page.run(f"{ACTIVE}.textContent") == "Skip to the timeline"
    assert await page.run(f"{ACTIVE}.getBoundingClientRect().left") >= 0
    await page.press(*ENTER)
    await page.press(*TAB)
    assert await page.run(f"{ACTIVE}.matches('.lanes summary')")
    assert await page.run(f"parseFloat(getComputedStyle({ACTIVE}).outlineWidth)") >= 2
    assert not await page.run(f"{ACTIVE}.parentElement.open")
    await page.press(*ENTER)
    assert await page.run(f"{ACTIVE}.parentElement.open")
    assert "Attempt 1" in await page.run(f"{ACTIVE}.parentElement.innerText")


async def test_whatever_takes_the_focus_is_reached_by_tab_and_shows_it(
    page: Browser, sample: Path
) -> None:
    await page.open(sample)
    count = await page.run(
        "[...document.querySelectorAll('a, button, input, select, summary')]"
        ".filter((each) => each.checkVisibility()).length"
    )
    for _ in range(count):
        await page.press(*TAB)
        assert await page.run(f"{ACTIVE} !== document.body && !{ACTIVE}.dataset.seen"), (
            "a trap, or too few"
        )
        assert await page.run(f"getComputedStyle({ACTIVE}).outlineStyle") == "solid"
        await page.run(f"{ACTIVE}.dataset.seen = 'yes'")


async def test_what_can_be_used_or_seen_has_a_name_for_screen_readers(
    page: Browser, sample: Path
) -> None:
    await page.open(sample)
    tree = (await page.send("Accessibility.getFullAXTree"))["nodes"]
    named = {
        "link",
        "button",
        "searchbox",
        "combobox",
        "DisclosureTriangle",
        "image",
        "img",
        "region",
        "navigation",
    }
    names = [
        (node["role"]["value"], node.get("name", {}).get("value", ""))
        for node in tree
        if not node["ignored"] and node["role"]["value"] in named
    ]
    assert {"link", "button", "searchbox", "combobox", "DisclosureTriangle", "navigation"} <= {
        role for role, _ in names
    }
    assert [role for role, name in names if not name.strip()] == []


async def test_events_are_found_by_text_and_by_kind(page: Browser, sample: Path) -> None:
    await page.open(sample)
    shown = (
        "[...document.querySelectorAll('.events li[data-kind]')]"
        ".filter((row) => row.checkVisibility()).length"
    )
    await page.run("document.getElementById('event-filter').focus()")
    await page.send("Input.insertText", text="licence")
    assert await page.run("document.getElementById('event-count').textContent") == "2 of 202 shown"
    assert await page.run(shown) == 2
    await page.run(
        "{ const kind = document.getElementById('event-kind'); kind.value = 'retryscheduled';"
        " kind.dispatchEvent(new Event('change')); }"
    )
    assert await page.run(shown) == 1
    assert page.complaints == []


async def test_without_scripts_it_is_whole(page: Browser, sample: Path) -> None:
    await page.send("Emulation.setScriptExecutionDisabled", value=True)
    await page.open(sample)
    assert await page.run("document.querySelectorAll('.events li[data-kind]').length") == 202
    assert not await page.run("document.getElementById('event-controls').checkVisibility()")


@pytest.mark.parametrize(("motion", "behaviour"), [("reduce", "auto"), ("no-preference", "smooth")])
async def test_it_moves_only_if_the_reader_allows_motion(
    page: Browser, sample: Path, motion: str, behaviour: str
) -> None:
    await page.open(sample, motion=motion)
    assert await page.run("getComputedStyle(document.documentElement).scrollBehavior") == behaviour


async def test_it_is_light_or_dark_as_the_reader_likes(page: Browser, sample: Path) -> None:
    ground = "getComputedStyle(document.body).backgroundColor"
    await page.open(sample, scheme="light")
    light = await page.run(ground)
    await page.open(sample, scheme="dark")
    assert (light, await page.run(ground)) == ("rgb(245, 246, 248)", "rgb(14, 18, 23)")


@pytest.mark.parametrize("until", ["end", "failed", "asks"])
async def test_every_text_can_be_read_in_light_and_in_dark(
    page: Browser, tmp_path: Path, until: str
) -> None:
    path = written(
        tmp_path, await flow_page(await sample_store(until=until), FLOW_ID, clock=SetClock(SEEN_AT))
    )
    for scheme in ("light", "dark"):
        await page.open(path, scheme=scheme)
        await page.run(
            "document.querySelectorAll('details').forEach((each) => { each.open = true; })"
        )
        assert await page.run(CONTRAST) == []


CONTRAST = """(() => {
  const numbers = (colour) => colour.match(/[0-9.]+/g).map(Number);
  const light = (colour) => numbers(colour).slice(0, 3).map((part) => part / 255)
    .map((part) => part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4)
    .reduce((sum, part, index) => sum + part * [0.2126, 0.7152, 0.0722][index], 0);
  const ground = (each) => {
    const colour = getComputedStyle(each).backgroundColor;
    return numbers(colour)[3] === 0 ? ground(each.parentElement) : colour;
  };
  const poor = new Set();
  for (const each of document.querySelectorAll("body *")) {
    const own = [...each.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
    const hidden = ["script", "title", "option"].includes(each.localName);
    if (!own || hidden || !each.checkVisibility()) continue;
    const style = getComputedStyle(each);
    const text = light(each.localName === "text" ? style.fill : style.color);
    const behind = light(ground(each));
    const contrast = (Math.max(text, behind) + 0.05) / (Math.min(text, behind) + 0.05);
    const name = `${each.localName}.${each.getAttribute("class")}`;
    if (contrast < 4.5) poor.add(`${name} ${contrast.toFixed(2)}`);
  }
  return [...poor];
})()"""
"""The texts whose contrast is below 4.5 (WCAG 2.2, 1.4.3)."""
