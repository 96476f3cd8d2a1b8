"""Markup is escaped, or rejected."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chem_persistence import InvalidArgument
from chem_persistence.pages.html.markup import Html, element, group, packed_element, visible
from tests.support.pages.read_page import read_page


def test_a_text_is_escaped() -> None:
    assert str(element("p", None, "<b>&\"'")) == "<p>&lt;b&gt;&amp;&quot;&#x27;</p>"


def test_markup_is_not_escaped_twice() -> None:
    assert (
        str(element("p", None, element("code", None, "&"), Html("<")))
        == "<p><code>&amp;</code>&lt;</p>"
    )


@given(st.text())
def test_a_text_and_an_attribute_are_read_back_as_they_were_shown(text: str) -> None:
    page = read_page(str(element("p", {"alt": text}, "-", text)))
    assert page.elements == [("p", {"alt": visible(text)})]
    assert page.text() == f"-{visible(text)}"


def test_an_attribute_that_is_false_is_left_out() -> None:
    assert str(element("input", {"hidden": False, "id": "a"})) == '<input id="a">'
    assert str(element("input", {"hidden": True})) == "<input hidden>"


@pytest.mark.parametrize(
    "name", ["script", "style", "iframe", "object", "form", "base", "use", "p onclick=x", ""]
)
def test_an_element_that_could_run_or_load_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument):
        element(name)


@pytest.mark.parametrize(
    "name",
    ["onclick", "style", "srcset", "srcdoc", "action", "xlink:href", "formaction", "x y", ""],
)
def test_an_attribute_that_could_run_or_load_is_refused(name: str) -> None:
    with pytest.raises(InvalidArgument):
        element("p", {name: "x"})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("href", "https://example.org"),
        ("href", "javascript:alert(1)"),
        ("href", "#a b"),
        ("href", "data:,x"),
        ("href", "#a\n"),
        ("src", "https://example.org/a.png"),
        ("src", "data:image/svg+xml;base64,AAAA"),
        ("src", "data:image/png;base64,AA\nAA"),
        ("src", "data:text/html;base64,AAAA"),
        ("id", "A b"),
        ("class", 'a"b'),
        ("type", "submit"),
    ],
)
def test_an_attribute_that_would_lead_out_of_the_page_is_refused(name: str, value: str) -> None:
    with pytest.raises(InvalidArgument):
        element("a", {name: value})


@pytest.mark.parametrize("source", ["a</script>", "<!-- b", "c</STYLE"])
def test_a_file_that_could_end_its_element_is_refused(source: str) -> None:
    with pytest.raises(InvalidArgument):
        packed_element("script", source)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\u202eb", "a\\u202eb"),
        ("\x1b[31m", "\\u001b[31m"),
        ("\ud800", "\\ud800"),
        ("a\tb\nc", "a\tb\nc"),
        (
            "\u0915\u094d\u200d\u0937 \U0001f469\u200d\U0001f52c",
            "\u0915\u094d\u200d\u0937 \U0001f469\u200d\U0001f52c",
        ),
        ("\u200b\ufeff\u2066", "\\u200b\\ufeff\\u2066"),
    ],
)
def test_what_would_not_be_seen_is_shown(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_a_group_keeps_the_order() -> None:
    assert str(group(["a", element("p"), "b"])) == "a<p></p>b"
