"""The interface of what takes part in a run: a small module each, run in its own process."""

from typing import Protocol

from benchmarks.contestants.load import Load, Slice

__all__ = ["Competitor"]


class Competitor(Protocol):
    """Something that makes events durable, or reads them."""

    async def open(self, url: str) -> None:
        """Connect to a database of its own, and make its tables."""

    async def run(self, load: Load) -> Slice:
        """Run one slice; called once a round."""

    async def close(self) -> None:
        """Disconnect."""
