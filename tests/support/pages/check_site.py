"""Check that a built site loads nothing from other hosts and misses none of its own files.

    python -m tests.support.pages.check_site build/site

Zensical's strict mode finds broken links, anchors and names of the reference. It does not look for
missing images, nor at what a page makes a reader's browser load: this program does. It needs the
standard library alone, so that the virtual environment of the documentation can run it.
"""

import re
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

__all__ = ["faults_of_site", "foreign_requests", "main"]

FOREIGN = re.compile(r"^\s*(?:https?:)?//", re.IGNORECASE)
IN_STYLE = re.compile(
    r"""(?:url\(\s*['"]?|@import\s+['"])\s*((?:https?:)?//[^'")\s]+)""", re.IGNORECASE
)
LOADED = {
    "audio": "src",
    "embed": "src",
    "iframe": "src",
    "image": "href",
    "img": "src",
    "input": "src",
    "object": "data",
    "script": "src",
    "source": "src",
    "track": "src",
    "use": "href",
    "video": "src",
}
"""The attribute by which an element makes the browser load something (HTML Living Standard)."""
LOADED_LINKS = {
    "stylesheet",
    "icon",
    "preload",
    "prefetch",
    "preconnect",
    "dns-prefetch",
    "modulepreload",
    "manifest",
}


def faults_of_site(site: Path) -> Iterator[str]:
    """Yield one sentence for each request to another host and for each missing file."""
    for file in sorted(site.rglob("*")):
        if file.suffix in {".html", ".css", ".svg"}:
            name = file.relative_to(site)
            text = file.read_text(encoding="utf-8")
            for address in foreign_requests(text, file.suffix):
                yield f"{name} asks another host: {address}"
            for address in _missing_files(text, file) if file.suffix == ".html" else ():
                yield f"{name} loads a file that is missing: {address}"


def foreign_requests(text: str, suffix: str) -> list[str]:
    """Return the addresses on other hosts that a page or a style sheet loads by itself.

    Links that a reader may follow are not among them.
    """
    if suffix == ".css":
        return [str(address) for address in IN_STYLE.findall(text)]
    reader = _Reader(text)
    return [address for address in reader.loaded if FOREIGN.match(address)] + reader.styles


def _missing_files(text: str, page: Path) -> list[str]:
    """Return the relative addresses that a page loads and that name no file of the site."""
    relative = [address for address in _Reader(text).loaded if not urlsplit(address).scheme]
    paths = {address: unquote(urlsplit(address).path) for address in relative}
    return [
        address
        for address, path in paths.items()
        if path and not path.startswith("/") and not (page.parent / path).exists()
    ]


class _Reader(HTMLParser):
    """What a page loads: addresses in attributes, and foreign addresses in styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.styles: list[str] = []
        self._in_style = False
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self._in_style = tag == "style"
        self.loaded.append(values.get(LOADED.get(tag, ""), ""))
        self.loaded += [
            part.split()[0] for part in values.get("srcset", "").split(",") if part.strip()
        ]
        if tag == "link" and LOADED_LINKS & set(values.get("rel", "").lower().split()):
            self.loaded.append(values.get("href", ""))
        self.styles += IN_STYLE.findall(values.get("style", ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "style":
            self._in_style = False

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.styles += IN_STYLE.findall(data)


def main() -> None:
    """Print what is wrong with the site on the command line; exit with 1 if anything is."""
    faults = list(faults_of_site(Path(sys.argv[1])))
    for fault in faults:
        sys.stderr.write(f"{fault}\n")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
