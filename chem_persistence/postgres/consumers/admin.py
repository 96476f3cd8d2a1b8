"""What is done with durable consumers beside consuming: create, list, release, reset, resize."""

from collections.abc import Iterable
from itertools import groupby
from uuid import UUID

from chem_persistence.feed.parts import ConsumerPart, ConsumerStatus, ParkedFlow
from chem_persistence.postgres.connection.ports import Connection, ConnectionProvider
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.read.rows import Row
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.feed_position import FeedPosition

__all__ = ["PgConsumerAdmin", "list_consumers"]

BEGIN_RESIZE = statement("consumers/begin_resize")
CREATE_CONSUMER = statement("consumers/create_consumer")
DELETE_PARKED_AFTER = statement("consumers/delete_parked_after")
DELETE_PARTS = statement("consumers/delete_parts")
FIND_FEED_END = statement("feed/find_feed_end")
LIST_CONSUMERS = statement("consumers/list_consumers")
LIST_PARKED = statement("consumers/list_parked")
LOCK_PARTS = statement("consumers/lock_parts")
RELEASE_PARKED = statement("consumers/release_parked")
SET_POSITIONS = statement("consumers/set_positions")

BEFORE_ALL = 0


class PgConsumerAdmin:
    """The consumer `name` on connections of `provider`; see `ConsumerAdmin`.

    What changes rows locks all of the consumer's first, and takes the parts from their holders: a
    handler that is under way then commits nothing, also if the position is set to where it was.
    """

    def __init__(self, provider: ConnectionProvider, name: str) -> None:
        self._provider = provider
        self._session = Session(provider)
        self._name = name

    async def exists(self) -> bool:
        """Return whether the consumer was created; see `ConsumerAdmin.exists`."""
        return bool(await self._session.fetch(LIST_CONSUMERS, self._name))

    async def create(self, parts: int, at: FeedPosition) -> None:
        """Create the consumer, unless it exists; see `ConsumerAdmin.create`."""
        await self._session.fetch(CREATE_CONSUMER, self._name, parts, *_place(at))

    async def status(self) -> ConsumerStatus | None:
        """Return its parts and parked flows; see `ConsumerAdmin.status`."""
        found = await list_consumers(self._provider, self._name)
        return found[0] if found else None

    async def release_flow(self, flow_id: UUID) -> bool:
        """Release a parked flow; see `ConsumerAdmin.release_flow`."""
        return bool(await self._session.fetch(RELEASE_PARKED, self._name, flow_id))

    async def reset(self, to: FeedPosition) -> bool:
        """Set all parts to a position; see `ConsumerAdmin.reset`.

        A flow that was parked before that position stays parked; one that was parked after it is
        consumed again.
        """

        async def change(connection: Connection) -> bool:
            await connection.fetch(LOCK_PARTS, self._name)
            await connection.fetch(DELETE_PARKED_AFTER, self._name, to.seq)
            return bool(await connection.fetch(SET_POSITIONS, self._name, *_place(to)))

        return await self._session.transaction(change, isolation="read_committed")

    async def resize(self, parts: int) -> bool:
        """Begin to change the number of parts; see `ConsumerAdmin.resize`.

        The parts stop at the position of the foremost one, so that all stand at one position before
        their flows are divided anew.
        """

        async def change(connection: Connection) -> bool:
            if not await connection.fetch(LOCK_PARTS, self._name):
                return False
            await connection.fetch(BEGIN_RESIZE, self._name, parts)
            return True

        return await self._session.transaction(change, isolation="read_committed")

    async def remove(self) -> bool:
        """Delete the consumer; see `ConsumerAdmin.remove`."""

        async def change(connection: Connection) -> bool:
            await connection.fetch(LOCK_PARTS, self._name)
            await connection.fetch(DELETE_PARKED_AFTER, self._name, BEFORE_ALL)
            return bool(await connection.fetch(DELETE_PARTS, self._name))

        return await self._session.transaction(change, isolation="read_committed")


async def list_consumers(
    provider: ConnectionProvider, name: str | None = None
) -> list[ConsumerStatus]:
    """List all consumers with their parts and parked flows, or the one of a name.

    Raises:
        StoreUnavailable, StoreError: the store cannot be reached, or refused.
    """

    async def read(connection: Connection) -> tuple[int, list[Row], list[Row]]:
        rows = await connection.fetch(LIST_CONSUMERS, name)
        parked = await connection.fetch(LIST_PARKED, name)
        (end,) = await connection.fetch(FIND_FEED_END)  # last, so that no lag is negative
        return end["seq"], rows, parked

    end, rows, parked = await Session(provider).run(read)
    return [
        _status(own_name, list(own), [row for row in parked if row["name"] == own_name], end)
        for own_name, own in groupby(rows, key=lambda row: str(row["name"]))
    ]


def _place(at: FeedPosition) -> tuple[int, UUID | None, bytes | None]:
    return (at.seq, at.flow_id, at.link) if at.seq else (0, None, None)


def _status(name: str, rows: list[Row], parked: Iterable[Row], end: int) -> ConsumerStatus:
    return ConsumerStatus(
        name=name,
        parts=[
            ConsumerPart(
                part=row["part"],
                seq=row["seq"],
                lag=max(end - row["passed_seq"], 0),
                holder=row["holder"],
                tries=row["tries"],
                error=row["error"],
                moved_at=row["moved_at"],
                parked=row["parked"],
            )
            for row in rows
        ],
        next_parts=rows[0]["next_parts"],
        parked=[
            ParkedFlow(
                flow_id=UUID(int=row["flow_id"].int),
                seq=row["seq"],
                event_id=UUID(int=row["event_id"].int),
                error=row["error"],
                parked_at=row["parked_at"],
                is_released=row["is_released"],
            )
            for row in parked
        ],
    )
