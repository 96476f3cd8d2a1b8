"""A table of results beside the log, which is right whatever dies: a projection by a consumer.

    python examples/consumer_projection.py

A flow counts the carbon atoms of a molecule. A durable consumer writes a row for each result, in
the transaction that moves its position. Its processes are stopped at random moments here, and each
row is there once. One name is too long for the table: its flow is parked, the others go on, and it
is released when the table is mended. The log is on the server that DATABASE_URL names, else on an
embedded one.
"""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import msgspec
from database import open_database

from chem_persistence import (
    Consumer,
    FlowEngine,
    FlowEvent,
    PgEventStore,
    PgFlowRepository,
    PgTransaction,
    StepFinished,
    flow,
    step,
)

MOLECULES = {
    "benzene": "c1ccccc1",
    "caffeine": "Cn1cnc2c1c(=O)n(C)c(=O)n2C",
    "cyclohexanecarboxylic acid": "OC(=O)C1CCCCC1",
    "ethanol": "CCO",
    "glycine": "NCC(=O)O",
    "pyridine": "c1ccncc1",
}
CREATE = "CREATE TABLE IF NOT EXISTS carbon_counts (name varchar(12), carbons integer)"
INSERT = "INSERT INTO carbon_counts VALUES ($1, $2)"
WIDEN = "ALTER TABLE carbon_counts ALTER COLUMN name TYPE text"
SUMMARY = "SELECT count(*) AS rows, count(DISTINCT name) AS names FROM carbon_counts"


class Molecule(msgspec.Struct, frozen=True):
    """The input of a flow."""

    name: str
    smiles: str


class Count(msgspec.Struct, frozen=True):
    """The result of a flow."""

    name: str
    carbons: int


@step("count")
async def count(molecule: Molecule) -> Count:
    """Count the carbon atoms; none of these molecules has chlorine."""
    return Count(molecule.name, molecule.smiles.upper().count("C"))


COUNTING = flow("counting", count)


async def write_rows(events: Sequence[FlowEvent], transaction: PgTransaction) -> None:
    """Write a row for each result: committed with the position of the consumer, or not at all."""
    for event in events:
        if isinstance(event.kind, StepFinished):
            result = await transaction.get_artifact(event.kind.outputs[0])
            row = msgspec.convert(result.payload, Count)
            await transaction.connection.execute(INSERT, row.name, row.carbons)


async def run_and_stop(consumer: Consumer[PgTransaction], times: int) -> None:
    """Run two processes' worth of the consumer, and stop them after some milliseconds."""
    for milliseconds in range(times):
        running = [asyncio.create_task(consumer.run(write_rows)) for _ in range(2)]
        await asyncio.sleep(milliseconds / 200)
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)


async def main() -> None:
    """Fill the log, consume it with interruptions, mend what is parked."""
    async with open_database(connections=8) as provider:
        store = PgEventStore(provider)
        engine = FlowEngine(store, PgFlowRepository(provider), COUNTING)
        async with provider.acquire() as connection:
            await connection.execute(CREATE)
        for name, smiles in MOLECULES.items():
            await engine.run_to_end(input=Molecule(name, smiles))

        consumer = store.consumer("carbon counts", parts=4, kinds=[StepFinished])
        await run_and_stop(consumer, times=20)
        await consumer.run_to_end(write_rows, lease=timedelta(seconds=5))
        for parked in (await consumer.status()).parked:
            async with provider.acquire() as connection:
                (row,) = await connection.fetch(SUMMARY)
                print(f"{row['rows']} rows of {row['names']} molecules")
                print("parked:", parked.error.partition(": ")[2])
                await connection.execute(WIDEN)
            await consumer.release(parked.flow_id)
        await consumer.run_to_end(write_rows)
        async with provider.acquire() as connection:
            (row,) = await connection.fetch(SUMMARY)
        print(f"{row['rows']} rows of {row['names']} molecules, lag", (await consumer.status()).lag)
        await store.aclose()


if __name__ == "__main__":
    asyncio.run(main())

# Output:
# 5 rows of 5 molecules
# parked: value too long for type character varying(12)
# 6 rows of 6 molecules, lag 0
