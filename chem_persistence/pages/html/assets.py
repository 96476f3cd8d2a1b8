"""The style sheet and the script of a page, with their hashes for its security policy."""

import base64
import hashlib
from functools import cache
from pathlib import Path
from typing import Literal

import msgspec

from chem_persistence.pages.html.markup import Html, packed_element

__all__ = ["Asset", "read_asset"]


class Asset(msgspec.Struct, frozen=True):
    """An element, and the hash-source of its content for the policy (CSP Level 3, 2.3.1)."""

    element: Html
    source: str


@cache
def read_asset(name: Literal["script", "style"], file_name: str) -> Asset:
    """Read a file of this package, and return it as an element."""
    text = Path(__file__).with_name(file_name).read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
    return Asset(packed_element(name, text), f"'sha256-{digest}'")
