"""A clock that does not give a time with a zone is an error of the library."""

from datetime import UTC, date, datetime, time, timedelta, timezone
from typing import Any, cast

import pytest

from chem_persistence import Clock, InMemoryEventStore, InvalidArgument, PgEventStore, PoolProvider
from tests.support.flows.flows import initialized, new_flow_id


class Giving:
    """A clock that always gives the same."""

    def __init__(self, given: Any) -> None:
        self._given = given

    def now(self) -> Any:
        return self._given


@pytest.mark.parametrize(
    "given",
    [
        date(2026, 1, 1),
        time(tzinfo=UTC),
        1_767_225_600.0,
        "2026-01-01",
        None,
        datetime(2026, 1, 1),  # noqa: DTZ001  # without a zone
        datetime.min.replace(tzinfo=timezone(timedelta(hours=14))),
    ],
    ids=repr,
)
@pytest.mark.parametrize("kind", ["memory", "postgres"])
async def test_a_clock_that_gives_no_time_is_refused(
    provider: PoolProvider, kind: str, given: object
) -> None:
    clock = cast("Clock", Giving(given))
    stores = {
        "memory": InMemoryEventStore(clock=clock),
        "postgres": PgEventStore(provider, clock=clock),
    }
    with pytest.raises(InvalidArgument, match="clock"):
        await stores[kind].append_kind(new_flow_id(), initialized())
