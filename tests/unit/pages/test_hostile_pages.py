"""Whatever a flow contains, its page consists of the page's own elements."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chem_persistence import flow_page
from chem_persistence.pages.html.assets import read_asset
from chem_persistence.pages.html.markup import visible
from chem_persistence.pages.html.vocabulary import ATTRIBUTES, ELEMENTS
from tests.support.examples import examples
from tests.support.flows.hostile_flow import CANARY, HOSTILE_FLOW_ID, PLANTED, hostile_store
from tests.support.flows.sample_flow import SEEN_AT, SetClock
from tests.support.pages.read_page import ReadPage, read_page

WORDS = ("aria-label", "alt")
"""The attributes that may contain text of the flow; they are only ever read aloud or shown."""

FRAGMENTS = st.sampled_from(
    [
        *PLANTED,
        "<",
        ">",
        '"',
        "'",
        "&",
        "/",
        "=",
        "`",
        "<!--",
        "-->",
        "]]>",
        "&#",
        ";",
        "\n",
        " ",
        "on",
        "script",
        "\u0130",
    ]
)
TEXTS = st.lists(
    FRAGMENTS | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    max_size=6,
)


async def page_of(*texts: str) -> ReadPage:
    store = await hostile_store(*texts)
    return read_page(await flow_page(store, HOSTILE_FLOW_ID, clock=SetClock(SEEN_AT)))


def check(page: ReadPage) -> None:
    assert {tag for tag, _ in page.elements} <= {*ELEMENTS, "script", "style"}
    assert [tag for tag, _ in page.elements if tag in {"script", "style"}] == ["style", "script"]
    for name, file_name in (("style", "page.css"), ("script", "page.js")):
        sources = [text for tag, text in page.texts if tag == name]
        assert f"<{name}>{''.join(sources)}</{name}>" == str(read_asset(name, file_name).element)
    for tag, attributes in page.elements:
        assert set(attributes) <= {name.lower() for name in ATTRIBUTES}  # as the parser gives them
        for attribute, value in attributes.items():
            assert CANARY not in attribute
            assert attribute in WORDS or CANARY not in str(value), (tag, attribute, value)
    assert page.others == []
    assert len(page.ids()) == len(set(page.ids()))


@pytest.mark.parametrize("text", PLANTED, ids=range(len(PLANTED)))
async def test_a_planted_text_stays_text(text: str) -> None:
    page = await page_of(text)
    check(page)
    assert visible(text)[:100] in page.text()


async def test_planted_texts_together_stay_text() -> None:
    check(await page_of(*PLANTED))


@settings(max_examples=examples(40), deadline=None)
@given(TEXTS)
def test_any_text_stays_text(parts: list[str]) -> None:
    text = "".join((CANARY, *parts))
    page = asyncio.run(page_of(text))
    check(page)
    assert visible(text)[:100] in page.text()
