"""The sizes of PNG and JPEG images, read from their bytes, whatever their media type says."""

import struct

__all__ = ["image_size"]

_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_STANDALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_NO_FRAME = frozenset({0xC4, 0xC8, 0xCC})


def image_size(media_type: str, content: bytes) -> tuple[int, int] | None:
    """Return an image's width and height in pixels; None if the bytes are not of this type."""
    if media_type == "image/png":
        return _png_size(content)
    if media_type == "image/jpeg":
        return _jpeg_size(content)
    return None


def _png_size(content: bytes) -> tuple[int, int] | None:
    """Read the first chunk, IHDR (PNG, third edition, 11.2.1)."""
    if not content.startswith(_PNG) or content[12:16] != b"IHDR" or len(content) < 33:
        return None
    width, height = struct.unpack(">II", content[16:24])
    return width, height


def _jpeg_size(content: bytes) -> tuple[int, int] | None:
    """Read the segments up to the frame header (ITU-T T.81, B.2.2)."""
    if not content.startswith(_JPEG):
        return None
    offset = 2
    while offset + 9 <= len(content) and content[offset] == 0xFF:
        marker = content[offset + 1]
        if marker == 0xFF or marker in _STANDALONE:
            offset += 1 if marker == 0xFF else 2
        elif 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME:
            height, width = struct.unpack(">HH", content[offset + 5 : offset + 9])
            return width, height
        else:
            offset += 2 + int.from_bytes(content[offset + 2 : offset + 4], "big")
    return None
