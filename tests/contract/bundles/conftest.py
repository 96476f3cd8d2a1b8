"""The stores with the leases of their flows."""

import pytest

from tests.support.leases.desk import Desk


@pytest.fixture(params=["memory", "on_postgres"])
def desk(request: pytest.FixtureRequest) -> Desk:
    name = "desk_in_memory" if request.param == "memory" else "desk_on_postgres"
    desk: Desk = request.getfixturevalue(name)
    return desk
