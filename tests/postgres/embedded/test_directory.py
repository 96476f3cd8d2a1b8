"""A directory that other users can interfere with is refused: links, planted and exchanged data."""

import os
import shutil
import signal
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import asyncpg
import pytest

from chem_persistence.errors import InvalidArgument
from chem_persistence.postgres.embedded.directory import open_directory
from chem_persistence.postgres.embedded.server import embedded_postgres
from tests.support.made_clusters import give_cluster

NOBODY = 65_534
IS_ROOT = os.geteuid() == 0
needs_root = pytest.mark.skipif(not IS_ROOT, reason="only root can act as two users")


@pytest.fixture
def parent() -> Iterator[Path]:
    """Yield a directory in the system's temporary directory, which has the sticky bit."""
    with tempfile.TemporaryDirectory(prefix="embedded-") as path:
        Path(path).chmod(0o755)
        yield Path(path)


@pytest.fixture
def directory(parent: Path) -> Path:
    return parent / "log"


async def refusal(directory: Path) -> str:
    with pytest.raises(InvalidArgument) as caught:
        async with embedded_postgres(directory):
            pytest.fail("the directory was trusted")
    assert caught.value.name == "directory"
    return caught.value.reason


async def use(directory: Path) -> None:
    async with embedded_postgres(directory) as url:
        connection = await asyncpg.connect(url)
        await connection.close()


def as_nobody(act: Callable[[], object]) -> str:
    """Run a function as an ordinary user, in a fork; return the reason of its InvalidArgument."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        said = b"another error"
        try:
            if IS_ROOT:
                os.setgroups([])
                os.setgid(NOBODY)
                os.setuid(NOBODY)
            act()
            said = b""
        except InvalidArgument as error:
            said = error.reason.encode()
        finally:
            os.write(writing, said)
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        said_there = answer.read()
    os.waitpid(child, 0)
    return said_there


def opened_by_nobody(path: Path) -> str:
    user = NOBODY if IS_ROOT else os.geteuid()
    return as_nobody(lambda: open_directory(path, frozenset({user})).close())


@pytest.mark.parametrize("name", ["server.conf", "users.lock", "start.lock", "server.conf.new"])
@pytest.mark.parametrize("exists", [True, False])
async def test_a_planted_link_is_not_followed(
    directory: Path, parent: Path, name: str, *, exists: bool
) -> None:
    directory.mkdir(0o700)
    victim = parent / "victim"
    if exists:
        victim.write_text("precious")
    (directory / name).symlink_to(victim)
    if name.endswith(".lock"):
        assert await refusal(directory) == f"{directory / name} is a symbolic link: remove it"
    else:
        await give_cluster(directory)
        await use(directory)
        assert not (directory / name).is_symlink()
    assert (victim.read_text() if victim.exists() else None) == ("precious" if exists else None)


@pytest.mark.parametrize("name", ["users.lock", "start.lock"])
async def test_a_planted_hard_link_is_refused(directory: Path, parent: Path, name: str) -> None:
    directory.mkdir(0o700)
    (parent / "victim").touch()
    (directory / name).hardlink_to(parent / "victim")
    assert "is not a file of its own" in await refusal(directory)


@pytest.mark.parametrize("name", ["cluster", "socket"])
async def test_a_planted_link_to_a_folder_is_refused(
    directory: Path, parent: Path, name: str
) -> None:
    await use(await give_cluster(directory))
    (directory / name).rename(parent / "elsewhere")
    (directory / name).symlink_to(parent / "elsewhere")
    assert "is a link or a file where a directory is expected" in await refusal(directory)


@needs_root
@pytest.mark.parametrize("name", ["cluster", "socket"])
async def test_a_folder_that_another_user_planted_is_refused(directory: Path, name: str) -> None:
    await use(await give_cluster(directory))
    give_to_nobody = [directory / name, *(directory / name).rglob("*")]
    for path in give_to_nobody:
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    assert "belongs to the user nobody" in await refusal(directory)


@needs_root
async def test_a_directory_of_another_user_is_refused(directory: Path) -> None:
    directory.mkdir(0o700)
    os.chown(directory, NOBODY, NOBODY)
    assert "belongs to the user nobody" in await refusal(directory)
    assert list(directory.iterdir()) == []


@needs_root
def test_an_ordinary_user_is_refused_the_directory_of_root(directory: Path) -> None:
    directory.mkdir(0o777)
    directory.chmod(0o755)
    assert "belongs to the user root" in opened_by_nobody(directory)


@pytest.mark.parametrize("mode", [0o777, 0o772, 0o757])
async def test_a_parent_that_others_may_write_without_sticky_bit_is_refused(
    parent: Path, mode: int
) -> None:
    (parent / "open").mkdir()
    (parent / "open").chmod(mode)
    for directory in (parent / "open" / "log", parent / "open" / "deep" / "log"):
        assert f"lies in {parent / 'open'}, into which other users may write" in await refusal(
            directory
        )
        assert not directory.exists()
    (parent / "open").chmod(mode | stat.S_ISVTX)
    open_directory(parent / "open" / "log", frozenset({os.geteuid()})).close()


@needs_root
def test_an_ordinary_user_is_refused_such_a_parent_too(parent: Path) -> None:
    (parent / "open").mkdir()
    (parent / "open").chmod(0o777)
    assert "into which other users may write" in opened_by_nobody(parent / "open" / "log")
    (parent / "open").chmod(0o1777)
    assert opened_by_nobody(parent / "open" / "log") == ""


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o703])
async def test_a_directory_that_others_may_write_is_refused(directory: Path, mode: int) -> None:
    directory.mkdir()
    directory.chmod(mode)
    assert "can be written by other users" in await refusal(directory)


@needs_root
async def test_a_link_of_another_user_on_the_way_is_refused(parent: Path) -> None:
    (parent / "real").mkdir(0o700)
    (parent / "link").symlink_to("real")
    open_directory(parent / "link", frozenset({0})).close()
    os.chown(parent / "link", NOBODY, NOBODY, follow_symlinks=False)
    for directory in (parent / "link", parent / "link" / "log"):
        assert "is a symbolic link of the user nobody" in await refusal(directory)


@needs_root
async def test_a_socket_is_not_below_a_folder_that_another_user_could_exchange(
    parent: Path,
) -> None:
    (parent / "theirs").mkdir(0o755)
    os.chown(parent / "theirs", NOBODY, NOBODY)
    async with embedded_postgres(await give_cluster(parent / "theirs" / "log")) as url:
        assert "theirs" not in url


@pytest.mark.slow
async def test_a_directory_that_is_exchanged_keeps_its_server_until_its_end(
    directory: Path, parent: Path
) -> None:
    async with embedded_postgres(await give_cluster(directory)):
        directory.rename(parent / "renamed")
        directory.mkdir(0o700)
        (directory / "cluster").mkdir()
    assert not (parent / "renamed" / "cluster" / "postmaster.pid").exists()
    assert list((directory / "cluster").iterdir()) == []


def empty(folder: Path) -> None:
    """Remove what is in a folder."""
    for path in folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("damage", "state"),
    [
        (empty, "is empty"),
        (lambda cluster: (cluster / "PG_VERSION").unlink(), "has no PG_VERSION"),
        (shutil.rmtree, "is missing"),
    ],
    ids=["emptied", "without version", "removed"],
)
async def test_an_emptied_cluster_is_an_error_and_no_new_log(
    directory: Path, damage: Callable[[Path], object], state: str
) -> None:
    await use(await give_cluster(directory))
    damage(directory / "cluster")
    for _ in range(2):
        assert await refusal(directory) == (
            f"{directory} had the data of a server, but its folder cluster {state}: "
            f"restore it from a backup; for a new, empty log remove {directory}"
        )
    shutil.rmtree(directory)
    await use(directory)


@pytest.mark.slow
async def test_a_cluster_that_is_emptied_under_its_server_is_an_error(directory: Path) -> None:
    async with embedded_postgres(await give_cluster(directory)):
        pid = int((directory / "cluster" / "postmaster.pid").read_text().split()[0])
        os.kill(pid, signal.SIGKILL)
        empty(directory / "cluster")
        assert "had the data of a server, but its folder cluster is empty" in await refusal(
            directory
        )
