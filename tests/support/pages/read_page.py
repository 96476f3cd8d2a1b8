"""Read a page with the standard library's HTML parser, which is independent of ours."""

from html.parser import HTMLParser

__all__ = ["ReadPage", "read_page"]


class ReadPage(HTMLParser):
    """A page; `elements` are tags with attributes, `texts` pairs of a tag and a text in it."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.others: list[str] = []
        self._open = [""]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len(dict(attrs)) == len(attrs), f"an attribute twice: {attrs}"
        self.elements.append((tag, dict(attrs)))
        if tag not in {"meta", "link", "img", "input", "wbr"}:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self._open[-1], data))

    def handle_comment(self, data: str) -> None:
        self.others.append(data)

    def handle_pi(self, data: str) -> None:
        self.others.append(data)

    def unknown_decl(self, data: str) -> None:
        self.others.append(data)

    def text(self) -> str:
        """Return the text that a reader sees: all but the style sheet and the script."""
        return "".join(text for tag, text in self.texts if tag not in {"style", "script"})

    def ids(self) -> list[str]:
        """Return the ids in the order of their elements."""
        return [str(attributes["id"]) for _, attributes in self.elements if "id" in attributes]


def read_page(html: str) -> ReadPage:
    page = ReadPage()
    page.feed(html)
    page.close()
    assert page._open == [""]
    return page
