"""Take the documentation's pictures of a flow page with Chromium.

Run it with `python -m tests.support.pages.write_pictures`.

A picture has the hash of the page that it shows, so that a test fails when it must be taken again.
Molecules are not part of that hash, because they are drawn by another project.
"""

import asyncio
import hashlib
import struct
import sys
import zlib
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec

from chem_persistence import PageLimits, flow_page
from tests.support.flows.sample_flow import FLOW_ID, SEEN_AT, SetClock, sample_store
from tests.support.pages.browser import Browser, browser

__all__ = [
    "FOLDER",
    "PICTURES",
    "Picture",
    "shown_page",
    "size_of_picture",
    "source_chunk",
    "take_picture",
]

FOLDER = Path(__file__).parents[3] / "documentation" / "pictures"
KEYWORD = b"Source\0"
TEXT_AT = 33
"""The offset after signature and header, where a tEXt chunk may be (PNG, third edition, 5.6)."""


class Picture(msgspec.Struct, frozen=True):
    """The first `height` pixels of the sample flow's page, from `section` on if one is given.

    The lanes with an index in `open` are opened.
    """

    until: str
    scheme: str
    width: int
    height: int
    open: tuple[int, ...] = ()
    section: str = ""


PICTURES = {
    "flow_light.png": Picture("end", "light", 1200, 1000),
    "flow_dark.png": Picture("failed", "dark", 1200, 830, open=(2,)),
    "flow_narrow.png": Picture("asks", "light", 390, 1050),
    "flow_events.png": Picture("end", "light", 1200, 800, section="events"),
}


async def shown_page(picture: Picture, *, molecules: bool = True) -> str:
    """Return the page that a picture shows."""
    limits = PageLimits() if molecules else PageLimits(molecules=0)
    store = await sample_store(until=picture.until)
    return await flow_page(store, FLOW_ID, limits=limits, clock=SetClock(SEEN_AT))


async def take_picture(page: Browser, picture: Picture, folder: Path) -> bytes:
    """Take a picture and write into it of what it is."""
    path = folder / "page.html"
    path.write_text(await shown_page(picture), encoding="utf-8")
    await page.open(path, width=picture.width, scheme=picture.scheme)
    for lane in picture.open:
        await page.run(f"document.querySelectorAll('.lanes > li > details')[{lane}].open = true")
    top = (
        await page.run(f"document.getElementById('{picture.section}').offsetTop")
        if picture.section
        else 0
    )
    png = await page.picture(top=top, height=picture.height)
    return png[:TEXT_AT] + await source_chunk(picture) + png[TEXT_AT:]


async def source_chunk(picture: Picture) -> bytes:
    """Return the tEXt chunk with the hash of the page (PNG, third edition, 11.3.3.2)."""
    source = hashlib.sha256((await shown_page(picture, molecules=False)).encode()).hexdigest()
    text = b"tEXt" + KEYWORD + source.encode()
    return struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))


def size_of_picture(png: bytes) -> tuple[int, int]:
    """Return the width and height in the header of a PNG."""
    width, height = struct.unpack(">II", png[16:24])
    return width, height


async def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    with TemporaryDirectory() as folder:
        async with browser() as page:
            for name, picture in PICTURES.items():
                await page.attach()
                png = await take_picture(page, picture, Path(folder))
                (FOLDER / name).write_bytes(png)
                sys.stdout.write(f"{FOLDER / name}, {len(png):,} bytes\n")


if __name__ == "__main__":
    asyncio.run(main())
