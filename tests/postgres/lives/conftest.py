"""A log of a test's own, which goes back in one of several ways, on each version that is here."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from tests.support.servers.cluster import Programs, installed_programs, programs_of_the_wheel
from tests.support.servers.lives import LIVES, Life, Promotion


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def wheel() -> Programs:
    return await programs_of_the_wheel()


VERSIONS: list[Any] = ["wheel"]
if installed_programs(15):
    VERSIONS.append(pytest.param(15, marks=pytest.mark.slow))

QUICK = {Promotion}
"""The way back that is tried in every run; the long runs try all."""


@pytest.fixture(params=VERSIONS, ids=lambda version: f"PostgreSQL-{version}")
def programs(request: pytest.FixtureRequest, wheel: Programs) -> Programs:
    """Return the programs of each version in turn."""
    if request.param == "wheel":
        return wheel
    directory = installed_programs(request.param)
    assert directory is not None
    return Programs(request.param, directory, wheel.account)


@pytest.fixture
def directory() -> Iterator[Path]:
    """Make a folder with a path that is short enough for a socket, and that a server may enter."""
    path = Path(tempfile.mkdtemp(prefix="life-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(
    params=[
        pytest.param(life, marks=[] if life in QUICK else pytest.mark.slow, id=life.__name__)
        for life in LIVES
    ]
)
def kind(request: pytest.FixtureRequest) -> type[Life]:
    kind: type[Life] = request.param
    return kind


@pytest.fixture
async def life(kind: type[Life], directory: Path, programs: Programs) -> AsyncIterator[Life]:
    begun = kind(directory, programs)
    try:
        await begun.begin()
        yield begun
    finally:
        await begun.end()
