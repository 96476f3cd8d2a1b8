"""The results of the screening of the example, as a log has them and as a run in memory has."""

from chem_persistence import (
    FlowCompleted,
    PgEventStore,
    PgReadModels,
    PoolProvider,
    StepFinished,
)

__all__ = ["IN_MEMORY", "SUBMIT", "results"]

IN_MEMORY = """
import asyncio
import sys

from nci.flow import SCREEN
from nci.molecules import Library, Summary
from screen_nci import NCI

from chem_persistence import FlowEngine, InMemoryEventStore, InMemoryFlowRepository


async def main() -> None:
    store = InMemoryEventStore()
    engine = FlowEngine(store, InMemoryFlowRepository(store), SCREEN)
    flow_id = await engine.run_to_end(input=Library(NCI.read_text("utf-8"), int(sys.argv[1])))
    summary = (await engine.load(flow_id)).steps[-1].outputs[0]
    table = (await store.get_artifact(summary)).decode(Summary).table
    sys.stdout.buffer.write(f"{await engine.flow_fingerprint(flow_id)}\\n".encode())
    sys.stdout.buffer.write((await store.get_artifact(table)).content)


asyncio.run(main())
"""
"""A program that prints the results of the molecules whose number is its argument."""

SUBMIT = """
import asyncio
import sys
from uuid import NAMESPACE_URL, uuid5

from nci.flow import SCREEN
from nci.molecules import Library
from screen_nci import NCI

from chem_persistence import FlowClient, PgEventStore, PgFlowRepository, PoolProvider, build_pool


async def main() -> None:
    async with await build_pool(sys.argv[2]) as pool:
        provider = PoolProvider(pool)
        client = FlowClient(PgEventStore(provider), PgFlowRepository(provider))
        library = Library(NCI.read_text("utf-8"), int(sys.argv[1]))
        print(await client.submit(SCREEN, library, flow_id=uuid5(NAMESPACE_URL, "screen")))


asyncio.run(main())
"""
"""A program that gives the screen of so many molecules to workers of the log of a URL, once."""


async def results(provider: PoolProvider) -> str:
    """Return the fingerprint of the first screen of a log, and its table."""
    store = PgEventStore(provider)
    flows = await PgReadModels(provider).flows(limit=100, roots=True)
    flow_id = flows[-1].flow_id  # the oldest
    finished, completed = (event.kind for event in (await store.list(flow_id))[-2:])
    assert isinstance(finished, StepFinished)
    assert isinstance(completed, FlowCompleted)
    table = await store.get_artifact(finished.outputs[1])
    assert table.content is not None
    return f"{completed.flow_fingerprint}\n{table.content.decode()}"
