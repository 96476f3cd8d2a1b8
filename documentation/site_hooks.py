"""What `mkdocs build` does here beyond its own: links into the repository, and a check that no page asks another host.

The events are those of MkDocs, User Guide, section "Hooks".
"""

import logging
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

__all__ = ["foreign_requests", "on_page_markdown", "on_post_build", "without_links_out"]

log = logging.getLogger("mkdocs.hooks.site_hooks")

LINK = re.compile(r"\[([^\]]+)\]\((\.\./[^)#\s]+)(?:#[^)]*)?\)")
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
"""The attribute by which an element of a page makes the browser load something (HTML Living Standard)."""
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


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Show links that leave the site for the repository as the path that a reader of the repository opens."""
    return without_links_out(markdown, Path(page.file.abs_src_path).parent, Path(config.docs_dir))


def without_links_out(markdown: str, folder: Path, documentation: Path) -> str:
    """Write `text (path)` for links to files of the repository that are not documentation; others stay."""

    def shown(link: re.Match[str]) -> str:
        target = (folder / link[2]).resolve()
        if target.is_relative_to(documentation) or not target.exists():
            return link[0]
        path = target.relative_to(documentation.parent)
        return f"`{path}`" if link[1].strip("`") == str(path) else f"{link[1]} (`{path}`)"

    return LINK.sub(shown, markdown)


def on_post_build(config: Any, **_: Any) -> None:
    """Warn, which fails a strict build, of whatever would make a reader's browser ask another host."""
    for file in sorted(Path(config.site_dir).rglob("*")):
        if file.suffix in {".html", ".css", ".svg"}:
            for address in foreign_requests(file.read_text(encoding="utf-8"), file.suffix):
                log.warning("%s asks another host: %s", file.relative_to(config.site_dir), address)


def foreign_requests(text: str, suffix: str) -> list[str]:
    """Give the addresses on other hosts that a page or style sheet loads by itself; what a reader may follow is not loaded."""
    found = IN_STYLE.findall(text) if suffix == ".css" else []
    if suffix != ".css":
        reader = _Reader()
        reader.feed(text)
        found = reader.found
    return found


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self._in_style = tag == "style"
        loaded = [values.get(LOADED.get(tag, ""), "")]
        loaded += [part.split()[0] for part in values.get("srcset", "").split(",") if part.strip()]
        if tag == "link" and LOADED_LINKS & set(values.get("rel", "").lower().split()):
            loaded.append(values.get("href", ""))
        self.found += [address for address in loaded if FOREIGN.match(address)]
        self.found += IN_STYLE.findall(values.get("style", ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "style":
            self._in_style = False

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.found += IN_STYLE.findall(data)
