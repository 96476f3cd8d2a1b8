"""JSON as a person reads it."""

import msgspec

from chem_persistence.views.flow_view import TextPreview

__all__ = ["json_text"]


def json_text(canonical: bytes, limit: int) -> TextPreview:
    """Write canonical JSON with a line a member; what is far above the limit is cut as it is."""
    if len(canonical) > 4 * limit:
        return TextPreview(canonical[: 4 * limit].decode("utf-8", "ignore")[:limit])
    text = msgspec.json.format(canonical, indent=2).decode()
    return TextPreview(text[:limit], len(text))
