"""The port of limits over all workers of a store: a limited resource has slots, which steps take.

A slot belongs to the step of a flow, not to a lease: the worker that takes a flow over finds the
slots of the one that died. It is free when its flow is over, or not given to workers, or when the
step has finished, or has failed and is not tried again. So a step that waits (`Wait`) keeps its
slots, and so does one whose retry is scheduled.

A step takes all that it uses of the limited resources, or nothing. Flows that find too little wait
in the order in which they asked first, for each resource: what a flow wants that has waited longer
is kept for it, so a step that needs much is not overtaken for ever. A flow is not waited for if it
is over, uses more than there is, or does not ask for a minute when it should.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Protocol, runtime_checkable
from uuid import UUID

import msgspec

from chem_persistence.errors import InvalidArgument

__all__ = [
    "FIRST_PAUSE",
    "LONGEST_PAUSE",
    "NOT_WAITED_FOR",
    "PAUSE_PER_FLOW",
    "LimitingLeases",
    "ResourceLimit",
    "SlotUser",
    "Slots",
    "Taken",
    "check_limit",
    "check_uses",
    "needed_slots",
    "slots_of",
]

FIRST_PAUSE, LONGEST_PAUSE = timedelta(milliseconds=250), timedelta(seconds=10)
"""A flow that waits asks again after half of the time that it has waited, between these bounds."""

PAUSE_PER_FLOW = timedelta(milliseconds=100)
"""But at least so much later for each flow that has waited longer: many do not ask all the time."""

NOT_WAITED_FOR = timedelta(minutes=1)
"""A flow that is so late to ask again does not keep others from the slots."""

MOST_SLOTS = 10_000
"""The largest limit: a resource has a row for each slot."""

LONGEST_NAME = 200
"""The characters of a resource's name: it is part of a key."""


class Taken(msgspec.Struct, frozen=True, gc=False):
    """What became of a request for slots; `is_limited` is whether a resource of it has any.

    `pause` is None if the slots were taken, or else after how long to ask again; `short_of` is then
    a resource of which too little is free.
    """

    is_limited: bool
    pause: timedelta | None = None
    short_of: str | None = None


class SlotUser(msgspec.Struct, frozen=True):
    """A step of a flow that uses a resource, and how many slots of it."""

    flow_id: UUID
    step_index: int
    slots: int


class ResourceLimit(msgspec.Struct, frozen=True):
    """The limit of a resource over all workers of a store, and who uses it.

    `used` is more than `most` for a while after the limit was lowered. `waiting` counts the flows
    that wait for slots, `impossible` those of them that use more than a limit.
    """

    resource: str
    most: int
    used: int
    users: tuple[SlotUser, ...]
    waiting: int
    impossible: int


class Slots(Protocol):
    """The slots of the limited resources, for all workers of a store.

    Every method raises:
        StoreUnavailable, StoreError: the store cannot be reached, or refused.
    """

    async def take(self, flow_id: UUID, step_index: int, uses: Mapping[str, int]) -> Taken:
        """Take what a step uses of the limited resources: all, or nothing.

        Slots that the step has already are counted. The caller holds the flow's lease.

        Raises:
            InvalidArgument: the step uses less than 1 of a resource.
        """
        ...

    async def give_back(self, flow_id: UUID, step_index: int, token: UUID) -> None:
        """Free the slots of a step that was not begun, if its flow is held by this lease."""
        ...

    async def call_next(self, freed: Mapping[str, int]) -> list[UUID]:
        """Call the flows that may have what a step has freed; return those that were called."""
        ...

    async def set_limit(self, resource: str, most: int | None) -> None:
        """Limit how much of a resource steps use at once, over all workers; None: no limit.

        A step takes what it uses (`Step.uses`), all or nothing, before it begins. A flow whose
        step finds too little is released, and tries again. Steps that run already when a resource
        is limited first are not counted. If the limit is lowered below what is in use, those that
        use it end as they would, and nobody takes their slots.

        Raises:
            InvalidArgument: the name is empty, longer than 200 characters or not printable; or
                the limit is less than 1, or more than 10,000.
        """
        ...

    async def limits(self) -> list[ResourceLimit]:
        """Return the limits, by name, and who uses the resources."""
        ...


@runtime_checkable
class LimitingLeases(Protocol):
    """Leases of flows whose steps are limited over all workers."""

    @property
    def slots(self) -> Slots:
        """The slots of the limited resources."""
        ...


def check_limit(resource: str, most: int | None) -> None:
    """Check a limit of a resource.

    Raises:
        InvalidArgument: see `Slots.set_limit`.
    """
    if not 1 <= len(resource) <= LONGEST_NAME or not resource.isprintable():
        raise InvalidArgument(
            "resource", f"must be 1 to {LONGEST_NAME} printable characters, but is {resource!r}"
        )
    if most is not None and not 1 <= most <= MOST_SLOTS:
        raise InvalidArgument(
            "most", f"must be 1 to {MOST_SLOTS}, or None for no limit, but is {most}"
        )


def check_uses(uses: Mapping[str, int]) -> dict[str, int]:
    """Return what a step uses, as numbers that a store can count.

    Raises:
        InvalidArgument: see `Slots.take`.
    """
    for resource, amount in uses.items():
        if amount < 1:
            raise InvalidArgument("uses", f"must be at least 1 of {resource!r}, but is {amount}")
    return {resource: min(amount, MOST_SLOTS + 1) for resource, amount in uses.items()}


def slots_of(leases: object) -> Slots | None:
    """Return the slots of a store's leases, or None if the store limits nothing."""
    return leases.slots if isinstance(leases, LimitingLeases) else None


def needed_slots(store: object) -> Slots:
    """Return the slots of a store.

    Raises:
        InvalidArgument: the store limits nothing.
    """
    slots = slots_of(getattr(store, "leases", None))
    if slots is None:
        raise InvalidArgument("store", "has no leases, and so limits nothing over its workers")
    return slots
