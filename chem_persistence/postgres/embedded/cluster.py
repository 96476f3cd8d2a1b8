"""The server of one directory: created once, found running or started, and stopped.

The directory holds `cluster` (PostgreSQL's data and `server.log`), `server.conf` and `socket`.
"""

import os
import re
import shutil
import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from chem_persistence.errors import InvalidArgument, StoreUnavailable
from chem_persistence.postgres.embedded.directory import ROOT, Directory
from chem_persistence.postgres.embedded.log import ServerLog, last_lines

__all__ = ["Account", "Cluster"]

PORT = 5432
SSL_REQUEST = struct.pack("!ii", 8, 80877103)
"""The server replies to it with one byte (PostgreSQL manual, "Message Formats")."""

LONGEST_SOCKET_PATH = 103  # macOS; Linux has 107
SOCKET_PREFIX = "chem-persistence-socket-"
INITDB_OPTIONS = (
    "-U",
    "postgres",
    "--auth=trust",
    "--encoding=UTF8",
    "--locale=C",
    "--no-instructions",
)
PATIENCE_SECONDS = 30.0
STOP_ATTEMPTS = 300  # of two seconds, since the last checkpoint of a large cluster takes long


class Account(NamedTuple):
    """The user that PostgreSQL's programs run as if the caller is root."""

    uid: int
    gid: int


class Cluster:
    """The server of `directory`; callers must hold its start lock, the open file `lock`.

    `programs` is the folder of `postgres`, `initdb` and `pg_ctl`, which run as `account` if given.
    """

    def __init__(
        self, directory: Directory, lock: int, programs: Path, account: Account | None
    ) -> None:
        self._opened = directory
        self._directory = directory.path
        self._base = directory.base
        self._data = directory.base / "cluster"
        self._lock = lock
        self._programs = programs
        self._account = account
        self._postmaster = self._data / "postmaster.pid"
        self._log = ServerLog(self._data / "server.log")

    def join_or_start(self) -> str:
        """Return the URL of the running server; start it first if necessary."""
        found = self._answering_socket()
        if found is None:
            self._ready_data()
            found = self._start()
        return f"postgresql://postgres@/postgres?host={quote(str(found), safe='')}&port={PORT}"

    def stop(self) -> None:
        """Stop the server and end its sessions, if it runs.

        Raises:
            StoreUnavailable: it did not stop.
        """
        sockets, logged = self._recorded_sockets(), self._log.end()
        for _ in range(STOP_ATTEMPTS):
            self._bury_dead(sockets)
            if not self._postmaster.exists():
                break
            if (
                self._run(
                    "pg_ctl", "stop", "--pgdata=.", "--mode=fast", "--timeout=2", hold=True
                ).returncode
                == 0
            ):
                break
        else:
            last = self._log.last_lines_since(logged)
            raise StoreUnavailable(f"PostgreSQL in {self._directory} did not stop: {last}")
        _forget_sockets(sockets)

    def _ready_data(self) -> None:
        version = self._run("postgres", "--version", cwd=self._base).stdout
        self._check_not_emptied()
        if not self._opened.has("cluster"):
            self._create_data()
        elif self._opened.owner_of_folder("cluster") == ROOT:
            for path in (self._data, *self._data.rglob("*")):
                self._give_to_account(path)
        made_by = (self._data / "PG_VERSION").read_text().strip()
        runs = re.search(r"\d+", version)
        if runs is None or made_by != runs.group():
            reason = (
                f"{self._directory} holds data of PostgreSQL {made_by}; "
                f"the server is {version.strip()}"
            )
            raise InvalidArgument("directory", reason)

    def _check_not_emptied(self) -> None:
        """Check that a log that was here is not silently replaced by a new one.

        Raises:
            InvalidArgument: a server ran here, and its data are gone.
        """
        if self._opened.has("cluster"):
            is_lost, state = not (self._data / "PG_VERSION").exists(), "has no PG_VERSION"
            state = "is empty" if is_lost and not any(self._data.iterdir()) else state
        else:
            is_lost, state = self._opened.has("server.conf"), "is missing"
        if is_lost:
            raise InvalidArgument(
                "directory",
                f"{self._directory} had the data of a server, but its folder cluster {state}: "
                f"restore it from a backup; for a new, empty log remove {self._directory}",
            )

    def _create_data(self) -> None:
        """Run initdb in a temporary folder, so that an interrupted run never looks like data."""
        fresh = self._base / "cluster.new"
        if fresh.is_symlink() or fresh.is_file():
            fresh.unlink()
        elif fresh.exists():
            shutil.rmtree(fresh)
        fresh.mkdir(mode=0o700)
        self._give_to_account(fresh)
        done = self._run("initdb", "--pgdata=.", *INITDB_OPTIONS, cwd=fresh, hold=True)
        if done.returncode != 0:
            raise StoreUnavailable(f"initdb failed in {self._directory}: {last_lines(done.stdout)}")
        settings = os.open(fresh / "postgresql.conf", os.O_WRONLY | os.O_APPEND | os.O_NOFOLLOW)
        with os.fdopen(settings, "a", encoding="utf-8") as opened:
            opened.write("\ninclude '../server.conf'\n")
            opened.flush()
            os.fsync(opened.fileno())
        fresh.rename(self._data)
        # After a power failure the old name must not reappear: the next start removes that folder.
        _sync(self._base)

    def _start(self) -> Path:
        """Start the server.

        Wait for one that a killed process was starting, or whose last processes have not exited.

        Raises:
            StoreUnavailable: it did not start within the time limit.
        """
        was_killed, before = self._postmaster.exists(), self._recorded_sockets()
        _forget_sockets(before)
        sockets = self._make_sockets()
        self._write_settings(sockets)
        deadline, logged = time.monotonic() + PATIENCE_SECONDS, self._log.end()
        while True:
            self._bury_dead(before)
            self._run("pg_ctl", "start", "--pgdata=.", "--wait", "--log=server.log")
            found = self._answering_socket()
            if found is not None:
                _forget_sockets(sockets if found != sockets else None)
                return found
            if not (was_killed or self._postmaster.exists()) or time.monotonic() > deadline:
                _forget_sockets(sockets)
                reason = self._log.reason(logged)
                raise StoreUnavailable(f"PostgreSQL in {self._directory} did not start: {reason}")
            time.sleep(0.05)

    def _make_sockets(self) -> Path:
        sockets = self._directory / "socket"
        path = str(sockets / f".s.PGSQL.{PORT}")
        fits = len(os.fsencode(path)) <= LONGEST_SOCKET_PATH
        if fits and path.isprintable() and "," not in path and self._opened.is_reached_safely:
            if self._opened.owner_of_folder("socket") is None:
                (self._base / "socket").mkdir(mode=0o700)
        else:
            sockets = Path(tempfile.mkdtemp(prefix=SOCKET_PREFIX))
        self._give_to_account(sockets)
        return sockets

    def _write_settings(self, sockets: Path) -> None:
        listed = str(sockets).replace('"', '""')
        quoted = f'"{listed}"'.replace("\\", "\\\\").replace("'", "''")
        self._opened.write(
            "server.conf",
            "# Written at each start; put your own settings into "
            "cluster/postgresql.auto.conf by ALTER SYSTEM.\n"
            "listen_addresses = ''\n"
            f"port = {PORT}\n"
            f"unix_socket_directories = '{quoted}'\n"
            "unix_socket_permissions = 0700\n",
            self._account,
        )

    def _recorded_sockets(self) -> Path | None:
        try:
            recorded = Path(os.fsdecode(self._postmaster.read_bytes().splitlines()[4]))
        except (FileNotFoundError, IndexError):
            return None
        is_ours = recorded.name == "socket" or recorded.name.startswith(SOCKET_PREFIX)
        return recorded if is_ours else None

    def _answering_socket(self) -> Path | None:
        """Return the server's socket directory if it runs, is ready and replies.

        A connection proves nothing: the system accepts it even while the server is being killed.
        """
        sockets = self._recorded_sockets()
        if sockets is None or not self._postmaster.read_bytes().rstrip().endswith(b"ready"):
            return None
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(PATIENCE_SECONDS)
            try:
                connection.connect(str(sockets / f".s.PGSQL.{PORT}"))
                connection.sendall(SSL_REQUEST)
                return sockets if connection.recv(1) else None
            except OSError:
                return None

    def _bury_dead(self, sockets: Path | None) -> None:
        """Remove the lock files of a killed server.

        PostgreSQL itself respects them as long as any process has the recorded pid.
        """
        try:
            pid = abs(int(self._postmaster.read_bytes().split()[0]))
        except (FileNotFoundError, IndexError, ValueError):
            return
        if not _lives(pid, self._data):
            self._postmaster.unlink(missing_ok=True)
            if sockets is not None:
                (sockets / f".s.PGSQL.{PORT}.lock").unlink(missing_ok=True)

    def _give_to_account(self, path: Path) -> None:
        if self._account is not None:
            os.chown(path, *self._account, follow_symlinks=False)

    def _run(
        self, program: str, *arguments: str, cwd: Path | None = None, hold: bool = False
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in the folder of its data, so that no path needs quoting.

        With `hold` it shares the start lock: if this process is killed, the next user waits until
        the program exits. Its output goes to a file, since a server would keep a pipe open.
        """
        account = self._account
        ours = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        with tempfile.TemporaryFile("w+", errors="replace") as output:
            done = subprocess.run(  # noqa: S603 - the wheel's own programs, no shell
                [self._programs / program, *arguments],
                cwd=cwd or self._data,
                env=ours | {"LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[self._lock] if hold else [],
                start_new_session=True,
                user=None if account is None else account.uid,
                group=None if account is None else account.gid,
                extra_groups=None if account is None else [],
                check=False,
            )
            output.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, output.read())


def _lives(pid: int, data: Path) -> bool:
    """Return whether `pid` is a process that runs in `data`.

    A zombie, or another program that has got the pid since, is not. Without /proc, any process
    counts that this user may signal.
    """
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    process = Path(f"/proc/{pid}")
    try:
        state = (process / "stat").read_text(errors="replace").rpartition(")")[2].split()[0]
        return state != "Z" and (process / "cwd").samefile(data)
    except OSError:
        return True


def _forget_sockets(sockets: Path | None) -> None:
    """Remove a temporary socket directory; one inside the cluster's directory is kept."""
    if sockets is not None and sockets.name.startswith(SOCKET_PREFIX):
        shutil.rmtree(sockets, ignore_errors=True)


def _sync(path: Path) -> None:
    file = os.open(path, os.O_RDONLY)
    try:
        os.fsync(file)
    finally:
        os.close(file)
