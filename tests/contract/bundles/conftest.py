"""Each store with the leases of its flows, in turn."""

import os

import pytest

from tests.support.leases.desk import Desk

DESKS = ["desk_in_memory", "desk_on_postgres"]
if not os.environ.get("CHEM_TEST_CITUS"):  # there the second one is distributed already
    DESKS += ["desk_distributed"]


@pytest.fixture(params=DESKS)
def desk(request: pytest.FixtureRequest) -> Desk:
    """Return each store in turn, the last one with the texts that Citus runs."""
    desk: Desk = request.getfixturevalue(request.param)
    return desk
