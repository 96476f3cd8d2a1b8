"""Texts that cannot write on the terminal what they like."""

__all__ = ["shown"]


def shown(text: object) -> str:
    """Show a text with its control and format characters escaped."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
