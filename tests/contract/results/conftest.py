"""Each store with the leases of its flows, in turn."""

import os

import pytest

from tests.support.leases.desk import Desk
from tests.support.leases.staff import Acts

DESKS = ["desk_in_memory", "desk_on_postgres"]
DISTRIBUTED = [] if os.environ.get("CHEM_TEST_CITUS") else ["desk_distributed"]


@pytest.fixture(params=DESKS)
def desk(request: pytest.FixtureRequest) -> Desk:
    """Return each store in turn."""
    desk: Desk = request.getfixturevalue(request.param)
    return desk


@pytest.fixture(params=[*DESKS, *DISTRIBUTED])
def every_desk(request: pytest.FixtureRequest) -> Desk:
    """Return each store in turn, the last one with the texts that Citus runs."""
    desk: Desk = request.getfixturevalue(request.param)
    return desk


@pytest.fixture
def acts() -> Acts:
    return Acts()
