"""The ways in which a log goes back: what is appended between `keep` and `go_back` is lost."""

import os
import signal
from abc import ABC, abstractmethod
from pathlib import Path

from tests.support.servers.cluster import Cluster, Front, Programs

__all__ = ["LIVES", "Crash", "Life", "Promotion", "Restore", "Switchover"]

RECEIVERS = "SELECT count(*) = 0 FROM pg_stat_wal_receiver"
WAL_WRITER = "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'"
IS_PRIMARY = "SELECT NOT pg_is_in_recovery()"


class Life(ABC):
    """One log at a front, and how it goes back."""

    database = "postgres"
    keeps_numbers = True
    """Whether the numbers of what is lost were given out: a sequence is logged 32 numbers ahead."""

    def __init__(self, directory: Path, programs: Programs) -> None:
        self.directory = directory
        self.clusters: list[Cluster] = []
        self.front = Front(directory)
        self.primary = self._cluster("a", programs)

    @property
    def url(self) -> str:
        return self.front.url(self.database)

    async def begin(self) -> None:
        """Start the server."""
        await self.primary.create()
        self.front.lead_to(self.primary)

    @abstractmethod
    async def keep(self) -> None:
        """Make sure that what is in the log now is there afterwards."""

    @abstractmethod
    async def go_back(self) -> None:
        """Lose what was appended since, and lead the front to what is left."""

    async def end(self) -> None:
        for cluster in self.clusters:
            await cluster.kill()

    def _cluster(self, name: str, programs: Programs) -> Cluster:
        cluster = Cluster(self.directory / name, programs)
        self.clusters.append(cluster)
        return cluster

    async def _copy(self, name: str, *options: str) -> Cluster:
        copied = await self.primary.copy(self.directory / name, *options)
        self.clusters.append(copied)
        return copied

    async def _lead_to(self, cluster: Cluster) -> None:
        """End the primary, and let another server take its place."""
        await self.primary.stop()
        self.primary = cluster
        self.front.lead_to(cluster)
        await cluster.until(IS_PRIMARY)


class Promotion(Life):
    """An asynchronous standby is promoted that had not received everything."""

    async def begin(self) -> None:
        await super().begin()
        self.standby = await self._copy("b", "--write-recovery-conf")
        await self.standby.start()

    async def keep(self) -> None:
        await self.primary.caught_up_by(self.standby)
        await self.standby.execute("ALTER SYSTEM SET primary_conninfo = ''")
        await self.standby.execute("SELECT pg_reload_conf()")
        await self.standby.until(RECEIVERS)

    async def go_back(self) -> None:
        await self.standby.promote()
        await self._lead_to(self.standby)


class Switchover(Promotion):
    """Nothing is lost: the primary is ended first, and the standby receives all that it had."""

    async def keep(self) -> None:
        await self.primary.caught_up_by(self.standby)

    async def go_back(self) -> None:
        await self.primary.stop()
        await self.standby.promote()
        self.primary, self.standby = self.standby, self.primary
        self.front.lead_to(self.primary)
        await self.primary.until(IS_PRIMARY)

    async def follow_again(self) -> None:
        """Make the old primary follow the new one, as it may, since it has nothing of its own."""
        old, new = self.standby, self.primary
        old.configure(f"primary_conninfo = 'user=postgres host={new.directory} port=5432'\n")
        old.configure("recovery_target_timeline = 'latest'\n")
        (old.data / "standby.signal").touch()
        (old.data / "postgresql.auto.conf").write_text("", encoding="utf-8")
        await old.start()
        await new.caught_up_by(old)


class Rewind(Promotion):
    """The old primary, whose clients never left it, is rewound to the standby that was promoted."""

    async def go_back(self) -> None:
        old, new = self.primary, self.standby
        await new.promote()
        await new.execute("CHECKPOINT")  # so that pg_rewind finds the new timeline
        await old.stop()
        source = f"--source-server={new.url()}"
        await old.run("pg_rewind", source, "--target-pgdata", old.data, "--no-sync")
        old.configure(f"primary_conninfo = 'user=postgres host={new.directory} port=5432'\n")
        (old.data / "standby.signal").touch()
        (old.data / "postgresql.auto.conf").write_text("", encoding="utf-8")
        await old.start()
        await new.caught_up_by(old)
        await new.stop()
        await old.promote()
        await old.until(IS_PRIMARY)


class Crash(Life):
    """The server crashes under asynchronous commit; it starts again by itself, at once."""

    keeps_numbers = False

    async def begin(self) -> None:
        await self.primary.create(synchronous_commit="off", wal_writer_delay="10s")
        self.front.lead_to(self.primary)

    async def keep(self) -> None:
        os.kill(await self._wal_writer(), signal.SIGSTOP)
        await self.primary.execute("CHECKPOINT")

    async def go_back(self) -> None:
        killed = await self._wal_writer()
        os.kill(killed, signal.SIGKILL)
        await self.primary.until(
            f"SELECT count(*) = 1 FROM ({WAL_WRITER}) AS writer WHERE writer.pid <> $1", killed
        )

    async def _wal_writer(self) -> int:
        async with self.primary.session() as session:
            pid: int = await session.fetchval(WAL_WRITER)
            return pid


class Restore(Life):
    """A dump is restored into a database of the same name in the same cluster."""

    database = "lives"
    keeps_numbers = False

    async def begin(self) -> None:
        await super().begin()
        await self.primary.execute("CREATE DATABASE lives")

    async def keep(self) -> None:
        self.dump = self.primary.directory / "dump"
        await self.primary.run("pg_dump", "-Fc", "-f", self.dump, self.primary.url("lives"))

    async def go_back(self) -> None:
        await self.primary.execute("DROP DATABASE lives WITH (FORCE)")
        await self.primary.execute("CREATE DATABASE lives")
        restored = ("--exit-on-error", "--single-transaction", "-d", self.primary.url("lives"))
        await self.primary.run("pg_restore", *restored, self.dump)


class BaseBackup(Life):
    """A base backup is started as it is, without a word about recovery."""

    keeps_numbers = False

    async def keep(self) -> None:
        self.backup = await self._copy("b")

    async def go_back(self) -> None:
        await self.backup.start()
        await self._lead_to(self.backup)


class PointInTime(Life):
    """A base backup is recovered to a point in time, with archived WAL."""

    async def begin(self) -> None:
        archive = self.primary.directory / "archive"
        await self.primary.create(archive_mode="on", archive_command=f"cp %p {archive}/%f")
        archive.mkdir()
        if (account := self.primary.programs.account) is not None:
            os.chown(archive, account.uid, account.gid)
        self.backup = await self._copy("b")
        self.backup.configure(
            f"archive_mode = off\nrestore_command = 'cp {archive}/%f %p'\n"
            "recovery_target_name = 'kept'\nrecovery_target_action = 'promote'\n"
        )
        (self.backup.data / "recovery.signal").touch()
        self.front.lead_to(self.primary)

    async def keep(self) -> None:
        await self.primary.execute("SELECT pg_create_restore_point('kept')")

    async def go_back(self) -> None:
        async with self.primary.session() as session:
            wanted = await session.fetchval("SELECT pg_walfile_name(pg_switch_wal())")
        await self.primary.until("SELECT last_archived_wal >= $1 FROM pg_stat_archiver", wanted)
        await self.backup.start()
        await self._lead_to(self.backup)


LIVES = (Promotion, Rewind, Crash, Restore, BaseBackup, PointInTime)
"""The ways in which something is lost."""
