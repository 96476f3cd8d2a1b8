"""Each store with the leases of its flows, in turn."""

import os

import pytest

from tests.support.leases.desk import Desk

ON_A_SERVER = ["desk_on_postgres"]
if not os.environ.get("CHEM_TEST_CITUS"):  # there the first one is distributed already
    ON_A_SERVER += ["desk_distributed"]


@pytest.fixture(
    params=[
        "desk_in_memory",
        *(pytest.param(name, marks=pytest.mark.database) for name in ON_A_SERVER),
    ]
)
def desk(request: pytest.FixtureRequest) -> Desk:
    """Return each store in turn, the last one with the texts that Citus runs."""
    desk: Desk = request.getfixturevalue(request.param)
    return desk
