"""The PostgreSQL server that a test run uses, chosen once.

CHEM_TEST_DATABASE names it: `embedded`, `container`, or the URL of a superuser's database. If it is
unset, it is a container if a Docker engine answers and has, or can pull, the image CHEM_TEST_IMAGE
(postgres:18); else the embedded server.

With CHEM_TEST_CITUS=1 it is the URL of a Citus cluster's coordinator: see citus.py.

CHEM_TEST_ROLE=application makes tests connect as a member of the application role, unless they ask
for more rights; CHEM_TEST_TLS=verify-full makes the embedded server accept TLS only.

The embedded server and the container keep their files in memory if there is enough of it: each
test's database is 300 new files, which take five times as long on a disk. Tests about files and
their loss start their own servers, on the disk.
"""

import gc
import os
import shutil
import tempfile
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import docker
import msgspec
import pytest
from anyio.from_thread import start_blocking_portal
from docker.errors import DockerException, ImageNotFound
from testcontainers.community.postgres import PostgresContainer

from chem_persistence import build_pool, embedded_postgres
from chem_persistence.postgres.admin.roles import APPLICATION, create_roles, usual_names
from tests.support.lending import Lender, in_loop, lender
from tests.support.servers.citus import DATABASES, make_distributed_template
from tests.support.servers.roles import PASSWORD, as_user
from tests.support.servers.tls import tls_server

PULL_SECONDS = 300
MEMORY = Path("/dev/shm")
MEMORY_BYTES = 4 << 30
TEMPLATE = "chem_persistence_template"
LOGIN = "chem_persistence_test_login"
TestRole = Literal["superuser", "application"]


class TestServer(msgspec.Struct, frozen=True):
    """A running server; `url` is an administrator's, and tests connect as `role`.

    If its files are in memory, a database is copied as files; else PostgreSQL's own way is faster.
    """

    __test__ = False

    url: str
    label: str
    role: TestRole = "superuser"
    citus: bool = False
    in_memory: bool = False

    def database_url(self, database: str) -> str:
        """Return the URL of another database of this server."""
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{database}"))

    def as_tested(self, database_url: str) -> str:
        """Return the URL of the same database for the role that the tests connect as."""
        return database_url if self.role == "superuser" else as_user(database_url, LOGIN, PASSWORD)

    @asynccontextmanager
    async def database(self, template: str = TEMPLATE) -> AsyncIterator[str]:
        """Create a database from the template, yield its URL, and drop it."""
        if self.citus and template == TEMPLATE:
            async with DATABASES.lend(self.url, template) as lent:
                yield self.database_url(lent)
            return
        name = f"test_{uuid4().hex}"
        await self.administrate(f'CREATE DATABASE "{name}" TEMPLATE "{template}"{self.how_to_copy}')
        try:
            yield self.database_url(name)
        finally:
            await self.administrate(f'DROP DATABASE "{name}" WITH (FORCE)')

    @asynccontextmanager
    async def lent(self, *, distributed: bool = False) -> AsyncIterator[str]:
        """Yield the URL of a database as a new copy of the template, which others had before.

        With `distributed` it has the texts that Citus runs, on a server without it.
        """
        if self.citus:
            async with self.database() as url:
                yield url
            return
        database = await in_loop(self._lender().lend(distributed=distributed))
        try:
            yield self.database_url(database.name)
        finally:
            await in_loop(self._lender().take_back(database))

    async def administrate(self, statement: str) -> None:
        """Run a statement that cannot run inside a transaction."""
        await in_loop(self._lender().administrate(statement))

    @property
    def how_to_copy(self) -> str:
        """Return how a database is copied."""
        return " STRATEGY FILE_COPY" if self.in_memory else ""

    def _lender(self) -> Lender:
        return lender(self.url, TEMPLATE, self.how_to_copy)


@contextmanager
def running_server() -> Iterator[TestServer]:
    """Start the server that the environment asks for, with a migrated template database."""
    image = os.environ.get("CHEM_TEST_IMAGE", "postgres:18")
    tls = chosen("CHEM_TEST_TLS", ["verify-full"])
    choice = os.environ.get("CHEM_TEST_DATABASE") or ("embedded" if tls else default_choice(image))
    if tls and choice != "embedded":
        raise pytest.UsageError(
            "CHEM_TEST_TLS needs the embedded server; a URL brings its own sslmode"
        )
    with start_blocking_portal() as portal:
        if choice == "embedded":
            with tempfile.TemporaryDirectory(
                prefix="chem-persistence-tests-", dir=in_memory()
            ) as name:
                embedded = (
                    tls_server(Path(name)) if tls else embedded_postgres(Path(name) / "server")
                )
                with portal.wrap_async_context_manager(embedded) as url:
                    label = f"embedded, TLS {tls}" if tls else "embedded"
                    yield started_here(portal.call(prepare, url, label))
        elif choice == "container":
            container = PostgresContainer(image, driver=None)
            if in_memory():
                container.with_tmpfs_mount("/var/lib/postgresql", f"size={MEMORY_BYTES}")
            with container:
                url = container.get_connection_url()
                yield started_here(portal.call(prepare, url, f"container {image}"))
        else:
            yield portal.call(prepare, choice, "given URL")


def in_memory() -> Path | None:
    """Return the directory for files in memory, or None if it lacks the space for a run."""
    try:
        free = shutil.disk_usage(MEMORY).free
    except OSError:
        return None
    return MEMORY if free >= MEMORY_BYTES and os.access(MEMORY, os.W_OK) else None


def started_here(server: TestServer) -> TestServer:
    """Return a server that was started here, and that knows where its files are."""
    return msgspec.structs.replace(server, in_memory=in_memory() is not None)


def chosen(variable: str, choices: list[str]) -> str | None:
    """Return the value of a variable with a choice, or None if it is unset or empty."""
    value = os.environ.get(variable) or None
    if value not in {None, *choices}:
        raise pytest.UsageError(f"{variable}={value}: it can be {' or '.join(choices)}")
    return value


def check_choices() -> None:
    """Raise UsageError if a variable has a value that it does not permit."""
    chosen("CHEM_TEST_ROLE", ["application"])
    chosen("CHEM_TEST_TLS", ["verify-full"])
    chosen("CHEM_TEST_EXAMPLES", ["all"])
    chosen("CHEM_TEST_PGBOUNCER", ["transaction"])
    if chosen("CHEM_TEST_CITUS", ["1"]) and "://" not in os.environ.get("CHEM_TEST_DATABASE", ""):
        raise pytest.UsageError("CHEM_TEST_CITUS needs the coordinator's URL in CHEM_TEST_DATABASE")


def default_choice(image: str) -> str:
    """Return `container` if one can be started, else `embedded`."""
    with warnings.catch_warnings():
        warnings.simplefilter(
            "ignore", ResourceWarning
        )  # a client that gets no answer leaves its socket open
        choice = "container" if can_be_had(image) else "embedded"
        gc.collect()
    return choice


def can_be_had(image: str) -> bool:
    """Return whether a Docker engine answers and has the image, after pulling it if necessary."""
    try:
        with closing(docker.from_env(timeout=PULL_SECONDS)) as client:
            try:
                client.images.get(image)
            except ImageNotFound:
                client.images.pull(image)
    except (DockerException, OSError):
        return False
    return True


async def prepare(url: str, label: str) -> TestServer:
    """Create the template database and read the server's version."""
    role: TestRole = "application" if chosen("CHEM_TEST_ROLE", ["application"]) else "superuser"
    if chosen("CHEM_TEST_CITUS", ["1"]):
        await make_distributed_template(url, TEMPLATE)
        return TestServer(url, f"Citus ({label})", role, citus=True)
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f'DROP DATABASE IF EXISTS "{TEMPLATE}"')
        await connection.execute(f'CREATE DATABASE "{TEMPLATE}"')
        version = connection.get_settings().server_version
    finally:
        await connection.close()
    server = TestServer(url, f"PostgreSQL {version} ({label})", role)
    async with await build_pool(server.database_url(TEMPLATE), max_size=1) as pool:
        if role == "application":
            await make_login(pool)
    return server


async def make_login(pool: "asyncpg.Pool[asyncpg.Record]") -> None:
    """Divide the rights in the database, and create a login in the application role only."""
    async with pool.acquire() as connection:
        await create_roles(connection, **msgspec.structs.asdict(usual_names("public")))
        await connection.execute(f"DROP ROLE IF EXISTS {LOGIN}")
        await connection.execute(
            f"CREATE ROLE {LOGIN} LOGIN PASSWORD '{PASSWORD}' IN ROLE {APPLICATION}"
        )
