"""Each store in turn, and the texts that Citus runs; and each store whose flows can be archived."""

import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeAlias
from uuid import UUID

import pytest

from chem_persistence import (
    ArchivedBundle,
    InMemoryEventStore,
    PgEventStore,
    PoolProvider,
    archive_flows,
    build_pool,
)
from tests.support.leases.desk import Desk

Store: TypeAlias = InMemoryEventStore | PgEventStore

DESKS = ["desk_in_memory", "desk_on_postgres"]
if not os.environ.get("CHEM_TEST_CITUS"):  # there the second one is distributed already
    DESKS += ["desk_distributed"]


@pytest.fixture(params=DESKS)
def desk(request: pytest.FixtureRequest) -> Desk:
    """Return each store in turn, the last one with the texts that Citus runs."""
    desk: Desk = request.getfixturevalue(request.param)
    return desk


@pytest.fixture
async def archivist(admin_url: str) -> AsyncIterator[PgEventStore]:
    """Yield a store on connections that may archive."""
    async with await build_pool(admin_url) as pool:
        yield PgEventStore(PoolProvider(pool))


@pytest.fixture(params=["memory", "postgres"])
def store(request: pytest.FixtureRequest) -> Store:
    """Return each store in turn."""
    if request.param == "memory":
        return InMemoryEventStore()
    archivist: PgEventStore = request.getfixturevalue("archivist")
    return archivist


async def archived(store: Store, directory: Path, *flow_ids: UUID) -> ArchivedBundle:
    """Archive flows into a directory."""
    return await archive_flows(store, flow_ids, directory, actor="Ada", patience=0)
