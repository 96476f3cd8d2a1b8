"""The same flow with another parameter, without computing again what does not depend on it.

    python examples/branch_and_diff.py

A geometry is made and relaxed in few iterations. A branch relaxes it in more: it takes over the
geometry, and runs only what differs. The two are compared value by value, and the first one is
audited, that is, run again in memory and compared with its record. The log is on the server that
DATABASE_URL names, else on an embedded one.
"""

import asyncio
from collections import Counter

import msgspec
from database import open_database

from chem_persistence import (
    Flow,
    FlowClient,
    PgEventStore,
    PgFlowRepository,
    Step,
    StepContext,
    StepFinished,
    Tolerance,
    Worker,
    audit_flow,
    flow,
    record_audit,
)

RUNS: Counter[str] = Counter()


class Bond(msgspec.Struct, frozen=True):
    """Two atoms, by their distance in angstrom."""

    distance: float


class Relaxed(msgspec.Struct, frozen=True):
    """Where they come to rest, and the energy there, in electronvolts."""

    distance: float
    energy: float


class Iterations(msgspec.Struct, frozen=True):
    """How often the distance is corrected."""

    count: int


class Stretch(Step[Bond, Bond]):
    """Pulls the atoms apart."""

    id = "stretch"

    async def run(self, bond: Bond, _context: StepContext) -> Bond:
        """Return the longer bond."""
        RUNS[self.id] += 1
        return Bond(1.5 * bond.distance)


class Relax(Step[Bond, Relaxed]):
    """Follows the force of a harmonic spring with a rest length of 0.74 angstrom."""

    id = "relax"
    params: Iterations

    def __init__(self, params: Iterations) -> None:
        self.params = params

    async def run(self, bond: Bond, _context: StepContext) -> Relaxed:
        """Return where the atoms are after the iterations."""
        RUNS[self.id] += 1
        distance = bond.distance
        for _ in range(self.params.count):
            distance -= 0.5 * (distance - 0.74)
        return Relaxed(round(distance, 6), round(18.0 * (distance - 0.74) ** 2, 6))


def relaxation(iterations: int) -> Flow[Bond, Relaxed]:
    """Return the flow with so many iterations."""
    return flow("relaxation", Stretch()).then(Relax(Iterations(iterations)))


async def main() -> None:
    """Run a flow, branch it, and compare."""
    short, long = relaxation(3), relaxation(12)
    async with open_database() as provider:
        store = PgEventStore(provider)
        client = FlowClient(store, PgFlowRepository(provider))
        worker = Worker(store, [short, long], poll_interval=0.1)
        working = asyncio.create_task(worker.run())

        first = await client.submit(short, Bond(0.8))
        result = await client.result(short, first)
        print("3 iterations: ", result)
        branch = await client.branch(first, long, reason="not at rest", actor="Ada")
        result = await client.result(long, branch)
        print("12 iterations:", result)
        print("step runs:    ", dict(RUNS))

        for name, flow_id in (("first", first), ("branch", branch)):
            events = await store.list(flow_id)
            facts = [event.kind for event in events]
            reused = [
                fact.step_id
                for fact in facts
                if isinstance(fact, StepFinished) and fact.reused_from
            ]
            print(f"{name + ':':<14}", " ".join(event.variant for event in events), reused)

        audit = await audit_flow(store, short, first, Tolerance(relative=1e-9))
        await record_audit(store, audit, actor="Grace")
        agreements = [f"{step.step_id} is {step.agreement}" for step in audit.steps]
        print("audit:        ", ", ".join(agreements))
        worker.stop()
        await working
        await store.aclose()


if __name__ == "__main__":
    asyncio.run(main())

# Output:
# 3 iterations:  Relaxed(distance=0.7975, energy=0.059512)
# 12 iterations: Relaxed(distance=0.740112, energy=0.0)
# step runs:     {'stretch': 1, 'relax': 2}
# first:         I S F S F C B []
# branch:        I F S F C ['stretch']
# audit:         stretch is bit-equal, relax is bit-equal
