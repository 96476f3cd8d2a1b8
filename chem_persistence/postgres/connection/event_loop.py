"""The event loop that a call runs in, which has to be asyncio's, and that of the pool."""

import asyncio

from chem_persistence.errors import InvalidArgument

__all__ = ["check_event_loop"]


def check_event_loop(own: asyncio.AbstractEventLoop | None = None) -> None:
    """Check that an asyncio loop runs and, if `own` is given, that it is this one.

    Raises:
        InvalidArgument: no asyncio loop runs (under trio, for example), or it is another one.
    """
    try:
        running = asyncio.get_running_loop()
    except RuntimeError as error:
        raise InvalidArgument(
            "event loop", "is not asyncio's: the PostgreSQL store needs asyncio, not trio"
        ) from error
    if own is not None and running is not own:
        raise InvalidArgument(
            "pool",
            "belongs to another event loop: make the pool and the store in the same asyncio.run() "
            "that uses them",
        )
