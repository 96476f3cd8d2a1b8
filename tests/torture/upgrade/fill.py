"""Fill a log by the version whose checkout comes first in PYTHONPATH.

    python fill.py URL EVENTS

Prints the file of the library that it used. It imports nothing but the library, so that it runs
with earlier versions.
"""

import asyncio
import sys
from uuid import uuid4

import chem_persistence
from chem_persistence import (
    Artifact,
    FlowCompleted,
    FlowDefinition,
    FlowEventKind,
    FlowInitialized,
    PgEventStore,
    PoolProvider,
    StepDefinition,
    StepFinished,
    StepKind,
    StepStarted,
    build_pool,
)

STEPS = [StepDefinition(f"step {n}", StepKind.TRANSFORM) for n in range(9)]
DEFINITION = FlowDefinition((StepDefinition("source", StepKind.SOURCE), *STEPS))
CALLERS = 32


async def main(url: str, events: int) -> None:
    async with await build_pool(url, max_size=4) as pool:
        store = PgEventStore(PoolProvider(pool))
        left = iter(range(events // (2 * len(DEFINITION.steps) + 2)))

        async def work() -> None:
            for number in left:
                kinds, artifact = flow(number)
                await store.append_kinds(uuid4(), kinds, artifacts=[artifact])

        await asyncio.gather(*(work() for _ in range(CALLERS)))
    sys.stdout.write(f"{chem_persistence.__file__}\n")


def flow(number: int) -> tuple[list[FlowEventKind], Artifact]:
    """Return the events of a flow that ended, and what each of its steps produced."""
    artifact = Artifact.from_payload(kind="Energy", payload={"molecule": number, "energy": -40.5})
    kinds: list[FlowEventKind] = [
        FlowInitialized(DEFINITION.definition_hash, len(DEFINITION.steps))
    ]
    for index, step in enumerate(DEFINITION.steps):
        finished = StepFinished(index, step.id, (artifact.hash,), "f" * 64)
        kinds += [StepStarted(index, step.id), finished]
    return [*kinds, FlowCompleted("e" * 64)], artifact


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
