"""The slots of the limited resources on PostgreSQL."""

from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from uuid import UUID

from chem_persistence.errors import StoreError
from chem_persistence.postgres.connection.ports import Connection, ConnectionProvider
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.hints import send_hints
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.leasing.hints import ANY_DEFINITION
from chem_persistence.store.leasing.slots import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    PAUSE_PER_FLOW,
    ResourceLimit,
    SlotUser,
    Taken,
    check_limit,
    check_uses,
)

__all__ = ["PgSlots"]

CALL_FLOW_RUNS = statement("work/call_flow_runs")
GIVE_BACK_RESOURCE_SLOTS = statement("slots/give_back_resource_slots")
LIST_NEXT_WAITS = statement("slots/list_next_waits")
LIST_SLOTS = statement("slots/list_slots")
LIST_WAITS = statement("slots/list_waits")
READ_ENDED_STEPS = statement("slots/read_ended_steps")
READ_GIVEN_FLOWS = statement("slots/read_given_flows")
SET_RESOURCE_LIMIT = statement("slots/set_resource_limit")
TAKE_RESOURCE_SLOTS = statement("slots/take_resource_slots")


class PgSlots:
    """The slots of the limited resources of a database; see `Slots`.

    A call whose reply is lost is repeated: a step that has its slots already keeps them.
    """

    def __init__(self, provider: ConnectionProvider) -> None:
        self._session = Session(provider)

    async def take(self, flow_id: UUID, step_index: int, uses: Mapping[str, int]) -> Taken:
        """Take what a step uses; see `Slots.take`."""
        wanted = check_uses(uses)
        (row,) = await self._change(
            TAKE_RESOURCE_SLOTS,
            flow_id,
            step_index,
            list(wanted),
            list(wanted.values()),
            FIRST_PAUSE,
            LONGEST_PAUSE,
            PAUSE_PER_FLOW,
        )
        return Taken(is_limited=row["is_limited"], pause=row["pause"], short_of=row["short_of"])

    async def give_back(self, flow_id: UUID, step_index: int, token: UUID) -> None:
        """Free the slots of a step that was not begun; see `Slots.give_back`."""
        await self._change(GIVE_BACK_RESOURCE_SLOTS, flow_id, step_index, token)

    async def _change(self, change: str, *arguments: object) -> list[Any]:
        """Run one of the functions that lock a resource, and read it by later statements.

        Under a stricter isolation, those would read what was there before the lock.
        """
        return await self._session.transaction(
            lambda connection: connection.fetch(change, *arguments), isolation="read_committed"
        )

    async def call_next(self, freed: Mapping[str, int]) -> list[UUID]:
        """Call the flows that may have what was freed; see `Slots.call_next`."""
        amounts = check_uses(freed)

        async def call(connection: Connection) -> list[UUID]:
            waits = await connection.fetch(LIST_NEXT_WAITS, list(amounts), list(amounts.values()))
            if not waits:
                return []
            rows = await connection.fetch(CALL_FLOW_RUNS, [row["flow_id"] for row in waits])
            return [row["flow_id"] for row in rows]

        called = await self._session.run(call)
        if called:
            with suppress(StoreError):
                await self._session.run(lambda connection: send_hints(connection, [ANY_DEFINITION]))
        return called

    async def set_limit(self, resource: str, most: int | None) -> None:
        """Limit a resource; see `Slots.set_limit`."""
        check_limit(resource, most)
        await self._change(SET_RESOURCE_LIMIT, resource, most)

    async def limits(self) -> list[ResourceLimit]:
        """Return the limits; see `Slots.limits`."""
        slots = await self._session.fetch(LIST_SLOTS)
        waits = await self._session.fetch(LIST_WAITS)
        flows = {row["flow_id"] for row in (*slots, *waits)} - {None}
        given = {row["flow_id"] for row in await self._session.fetch(READ_GIVEN_FLOWS, list(flows))}
        users = {row["flow_id"] for row in slots} & given
        ended = {tuple(row) for row in await self._session.fetch(READ_ENDED_STEPS, list(users))}
        most, waiting, impossible = Counter[str](), Counter[str](), Counter[str]()
        used: dict[str, Counter[tuple[UUID, int]]] = {}
        for row in slots:
            resource, user = row["resource"], (row["flow_id"], row["step_index"])
            most[resource] += not row["is_leaving"]
            counted = used.setdefault(resource, Counter())
            if user[0] in given and user not in ended:
                counted[user] += 1
        for row in waits:
            if row["flow_id"] in given:
                waiting[row["resource"]] += 1
                impossible[row["resource"]] += not row["is_possible"]
        return [
            ResourceLimit(
                resource=resource,
                most=most[resource],
                used=counted.total(),
                users=tuple(
                    SlotUser(UUID(int=flow_id.int), index, number)
                    for (flow_id, index), number in sorted(counted.items())
                ),
                waiting=waiting[resource],
                impossible=impossible[resource],
            )
            for resource, counted in used.items()
        ]
