"""Roles of the test server with fewer rights than its administrator."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

import asyncpg
import msgspec

PASSWORD = "hydrogen-bond"


class Role(msgspec.Struct, frozen=True):
    """A role that may log in; `url` is the database's URL for this role."""

    name: str
    url: str


@asynccontextmanager
async def new_role(database_url: str, options: str = "") -> AsyncIterator[Role]:
    """Create a role without rights on the server; drop it with all it owns in this database."""
    name = f"test_{uuid4().hex}"
    administrator = await asyncpg.connect(database_url)
    try:
        await administrator.execute(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}' {options}")
        try:
            yield Role(name, as_user(database_url, name, PASSWORD))
        finally:
            await administrator.execute(f"DROP OWNED BY {name} CASCADE")
            await administrator.execute(f"DROP ROLE {name}")
    finally:
        await administrator.close()


def as_user(database_url: str, user: str, password: str) -> str:
    """Return the URL with another user."""
    parts = urlsplit(database_url)
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{user}:{password}@{place}"))
