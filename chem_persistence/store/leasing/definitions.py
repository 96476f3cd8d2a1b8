"""The definitions of the flows that were given to workers."""

from collections.abc import Collection
from typing import Protocol, runtime_checkable

__all__ = ["DefinitionLister"]


@runtime_checkable
class DefinitionLister(Protocol):
    """Lists the definitions of the flows that are not over.

    Every method raises:
        StoreUnavailable, StoreError: the store cannot be reached, or refused.
    """

    async def other_definitions(self, known: Collection[str], limit: int) -> list[str]:
        """Return definitions of flows that are not over, without the known ones.

        The time that this takes grows with the number of flows that are not over.

        Raises:
            InvalidArgument: the limit is negative.
        """
        ...
