"""A screening whose results the commands print."""

from collections.abc import AsyncIterator
from uuid import UUID

import msgspec
import pytest_asyncio

from chem_persistence import (
    FlowEngine,
    Many,
    PgEventStore,
    PgFlowRepository,
    PoolProvider,
    Step,
    StepContext,
    build_pool,
    flow,
)
from tests.support.flows.logged_flows import HOSTILE
from tests.support.leases.staff import Number
from tests.support.servers.server import TestServer

SCREEN = UUID("01a221e6-0000-7000-8000-000000000001")


class Molecule(msgspec.Struct):
    smiles: str


class Verdict(msgspec.Struct):
    smiles: str
    energy_kcal_mol: float
    broken: list[str]


class Read(Step[Number, Many[Molecule]]):
    id = "read"

    async def run(self, number: Number, _context: StepContext) -> Many[Molecule]:
        return Many(tuple(Molecule("C" * (n + 1)) for n in range(number.n)))


class Judge(Step[Molecule, Verdict]):
    id = "judge"

    async def run(self, molecule: Molecule, _context: StepContext) -> Verdict:
        if len(molecule.smiles) == 3:
            raise ValueError(HOSTILE)
        return Verdict(molecule.smiles, len(molecule.smiles) / 2, ["=logP"])


class Count(Step[Many[Verdict], Number]):
    id = "count"

    async def run(self, many: Many[Verdict], _context: StepContext) -> Number:
        return Number(len(many.items))


async def screened(url: str) -> str:
    """Run the screening; return the URL."""
    screen = flow("screen", Read()).map(flow("molecule", Judge()), failures=1.0).then(Count())
    async with await build_pool(url, max_size=4) as pool:
        store = PgEventStore(PoolProvider(pool))
        engine = FlowEngine(store, PgFlowRepository(PoolProvider(pool)), screen)
        await engine.run_to_end(SCREEN, Number(5))
        await store.aclose()
    return url


@pytest_asyncio.fixture(scope="package", loop_scope="package")
async def url(server: TestServer) -> AsyncIterator[str]:
    """Yield the URL of a database with the screening, which no test changes."""
    async with server.database() as url:
        yield server.as_tested(await screened(url))
