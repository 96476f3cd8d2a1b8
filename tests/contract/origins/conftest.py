"""Each store with the leases of its flows, in turn."""

import pytest

from tests.support.leases.desk import Desk


@pytest.fixture(params=["desk_in_memory", "desk_on_postgres"])
def desk(request: pytest.FixtureRequest) -> Desk:
    """Return each store in turn."""
    desk: Desk = request.getfixturevalue(request.param)
    return desk
