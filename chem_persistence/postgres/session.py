"""How a piece of work gets a connection: lent for one attempt, retried when the failure passes by itself."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import asyncpg

from chem_persistence.errors import StoreError, StoreUnavailable
from chem_persistence.ports import Connection, ConnectionProvider
from chem_persistence.postgres.failures import ConnectionLost, is_transient
from chem_persistence.postgres.retrying import with_retries

__all__ = ["call", "is_gone", "lost_and_refused", "noticing_loss"]

Result = TypeVar("Result")


async def call(provider: ConnectionProvider, work: Callable[[Connection], Awaitable[Result]]) -> Result:
    """Do work that may safely be done again on a connection of its own.

    Raises:
        StoreUnavailable: it failed transiently, also at the last retry; or the database refused a retry, so that the
            outcome of the attempt before it is not known.
        StoreError: the database refused the first attempt.
    """
    lost = False

    async def attempt() -> Result:
        nonlocal lost
        try:
            async with provider.acquire() as connection:
                with noticing_loss(connection):
                    return await work(connection)
        except Exception as error:
            lost = lost or is_transient(error)
            raise

    try:
        return await with_retries(attempt)
    except StoreError as error:
        if lost and not isinstance(error, StoreUnavailable):
            raise lost_and_refused(error) from error
        raise


def lost_and_refused(error: StoreError) -> StoreUnavailable:
    """Give what a refusal means to who has lost an attempt before it: whether that one is stored is not known."""
    named = StoreUnavailable(f"an attempt was lost, and its retry refused: {error.reason}", error.sqlstate)
    named.__cause__ = error
    return named


@contextmanager
def noticing_loss(connection: Connection) -> Iterator[None]:
    """Tell the driver's refusal to use a connection that is gone from its other refusals.

    Raises:
        ConnectionLost: it is gone.
    """
    try:
        yield
    except asyncpg.InterfaceError as error:
        if is_gone(connection):
            raise ConnectionLost from error
        raise


def is_gone(connection: Connection) -> bool:
    """Say whether a lent connection has broken; the pool takes such a one back at once, and then refuses to say."""
    try:
        return connection.is_closed()
    except asyncpg.InterfaceError:
        return True
