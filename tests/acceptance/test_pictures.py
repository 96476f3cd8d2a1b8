"""The documentation's pictures show the present page."""

from pathlib import Path

import pytest

from tests.support.pages.browser import browser
from tests.support.pages.write_pictures import (
    FOLDER,
    PICTURES,
    size_of_picture,
    source_chunk,
    take_picture,
)


@pytest.mark.parametrize("name", PICTURES)
async def test_a_picture_is_of_the_present_page(name: str) -> None:
    png = (FOLDER / name).read_bytes()
    assert await source_chunk(PICTURES[name]) in png, "the page changed: run `make pictures`"


def test_pictures_are_small_and_all_there() -> None:
    assert {path.name for path in FOLDER.glob("flow_*.png")} == set(PICTURES)
    assert sum(path.stat().st_size for path in FOLDER.glob("flow_*.png")) < 1_000_000


@pytest.mark.slow
@pytest.mark.browser
async def test_pictures_can_be_taken_and_are_not_empty(tmp_path: Path) -> None:
    async with browser() as page:
        for name, picture in PICTURES.items():
            await page.attach()
            taken = await take_picture(page, picture, tmp_path)
            assert (
                size_of_picture(taken)
                == (picture.width, picture.height)
                == size_of_picture((FOLDER / name).read_bytes())
            )
            assert len(taken) > picture.width * picture.height // 60, "one colour is all there is"
            assert page.complaints == []
