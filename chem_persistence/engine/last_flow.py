"""The flow that an engine's questions are about when no flow is named."""

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

from chem_persistence.errors import InvalidArgument

__all__ = ["LastFlow"]


class LastFlow:
    """Remembers the flow of an engine's last run, and whether runs of several flows overlapped.

    Runs that overlap have no last one: which began last is a matter of chance. The next run that
    overlaps no other makes the question unambiguous again.
    """

    def __init__(self) -> None:
        self._flow_id: UUID | None = None
        self._ambiguous = False
        self._running = 0
        self._alone = True  # no flow was begun since a run last started with no other under way

    @contextmanager
    def run(self) -> Iterator[None]:
        """Count a run as under way until the end of the block."""
        if self._running == 0:
            self._alone = True
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1

    def begin(self, flow_id: UUID) -> None:
        """Remember the flow that a run under way is about."""
        if self._alone:
            self._ambiguous = False
        elif flow_id != self._flow_id:
            self._ambiguous = True
        self._flow_id, self._alone = flow_id, False

    def named_or_last(self, flow_id: UUID | None) -> UUID:
        """Return the flow id given, or the last flow's.

        Raises:
            InvalidArgument: None is given, and no flow was run, or several flows at once.
        """
        if flow_id is not None:
            return flow_id
        if self._flow_id is None:
            raise InvalidArgument("flow_id", "this engine has not run a flow yet: name one")
        if self._ambiguous:
            raise InvalidArgument(
                "flow_id", "this engine ran several flows at the same time: name the one you mean"
            )
        return self._flow_id
