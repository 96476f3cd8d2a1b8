"""Templates that escape what they show, and the words that they share with the terminal."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import cache
from typing import Any
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import HTMLResponse

from chem_persistence.pages.html.markup import visible
from chem_persistence.views.wording import (
    counted,
    duration,
    in_words,
    iso,
    moment,
    short,
    short_hash,
    size_of,
    title,
)

__all__ = ["render"]


def render(
    request: Request, template: str, values: Mapping[str, Any], status: int = 200
) -> HTMLResponse:
    """Return a page: a template of this package, with values that are escaped.

    A part of a page, which htmx asks for, is the whole page, too: the browser takes the part.
    """
    html = (
        _environment()
        .get_template(template)
        .render(values, now=datetime.now(UTC), path=request.url.path)
    )
    headers = {"cache-control": "no-store"}  # the log grows
    return HTMLResponse(html, status, headers)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("chem_persistence.explorer"),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_finalized,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "duration": duration,
        "in_words": in_words,
        "iso": iso,
        "markup": Markup,  # what `pages` has made of escaped parts
        "moment": moment,
        "short": short,
        "short_hash": short_hash,
        "size": size_of,
    }
    environment.globals |= {"counted": counted, "query": _query, "title": title}
    return environment


def _finalized(value: Any) -> Any:
    """Return a value that is to be shown, with what cannot be seen made visible."""
    if isinstance(value, str) and not isinstance(value, Markup):
        return visible(value)
    return value


def _query(given: Mapping[str, str], **changed: Any) -> str:
    """Return a query with some parameters changed; those that are empty are left out."""
    parameters = {**given, **{name: str(value) for name, value in changed.items()}}
    return "?" + urlencode({name: value for name, value in parameters.items() if value})
