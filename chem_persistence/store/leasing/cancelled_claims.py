"""What becomes of a claim whose caller is cancelled while it is on its way."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

from chem_persistence.errors import ChemPersistenceError

__all__ = ["undone_if_cancelled"]

T = TypeVar("T")


async def undone_if_cancelled(call: Awaitable[T], undo: Callable[[T], Awaitable[object]]) -> T:
    """Return what a call returns; if the caller is cancelled, wait for it, and undo it.

    Otherwise a claim that is on its way would hold what it claims until its lease ends.

    Raises what `call` raises.
    """
    making = asyncio.ensure_future(call)
    try:
        return await asyncio.shield(making)
    except asyncio.CancelledError:
        with suppress(ChemPersistenceError):
            await undo(await making)
        raise
