"""The PostgreSQL server that a test run uses, chosen once.

CHEM_TEST_DATABASE says which: `embedded`, `container`, or the URL of a superuser's database. Unset, it is
a container when a Docker engine answers and has, or can pull, the image CHEM_TEST_IMAGE (postgres:18);
else the embedded server.
"""

import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import docker
import msgspec
from anyio.from_thread import start_blocking_portal
from docker.errors import DockerException, ImageNotFound
from testcontainers.community.postgres import PostgresContainer

from chem_persistence import build_pool, embedded_postgres

PULL_SECONDS = 300
TEMPLATE = "chem_persistence_template"


class TestServer(msgspec.Struct, frozen=True):
    """A running server: `url` is an administrator's, `label` says what it is."""

    __test__ = False

    url: str
    label: str

    def database_url(self, database: str) -> str:
        """Give the URL of another database of this server."""
        return urlunsplit(urlsplit(self.url)._replace(path=f"/{database}"))

    @asynccontextmanager
    async def database(self, template: str = TEMPLATE) -> AsyncIterator[str]:
        """Create a database like the template, give its URL, and drop it."""
        name = f"test_{uuid4().hex}"
        await self.administrate(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        try:
            yield self.database_url(name)
        finally:
            await self.administrate(f'DROP DATABASE "{name}" WITH (FORCE)')

    async def administrate(self, statement: str) -> None:
        """Run a statement that no transaction may hold."""
        connection = await asyncpg.connect(self.url)
        try:
            await connection.execute(statement)
        finally:
            await connection.close()


@contextmanager
def running_server() -> Iterator[TestServer]:
    """Start the server that the environment asks for, with a migrated template database."""
    image = os.environ.get("CHEM_TEST_IMAGE", "postgres:18")
    choice = os.environ.get("CHEM_TEST_DATABASE") or default_choice(image)
    with start_blocking_portal() as portal:
        if choice == "embedded":
            with portal.wrap_async_context_manager(embedded_postgres()) as url:
                yield portal.call(prepare, url, "embedded")
        elif choice == "container":
            with PostgresContainer(image, driver=None) as container:
                yield portal.call(prepare, container.get_connection_url(), f"container {image}")
        else:
            yield portal.call(prepare, choice, "given URL")


def default_choice(image: str) -> str:
    """Prefer a container where one can be had."""
    try:
        client = docker.from_env(timeout=PULL_SECONDS)
        try:
            client.images.get(image)
        except ImageNotFound:
            client.images.pull(image)
    except (DockerException, OSError):
        return "embedded"
    return "container"


async def prepare(url: str, label: str) -> TestServer:
    """Make the template database and ask the server what it is."""
    connection = await asyncpg.connect(url)
    try:
        await connection.execute(f'DROP DATABASE IF EXISTS "{TEMPLATE}"')
        await connection.execute(f'CREATE DATABASE "{TEMPLATE}"')
        version = connection.get_settings().server_version
    finally:
        await connection.close()
    server = TestServer(url, f"PostgreSQL {version} ({label})")
    pool = await build_pool(server.database_url(TEMPLATE), max_size=1)
    await pool.close()
    return server
