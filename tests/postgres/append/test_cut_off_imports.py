"""An import that is cut off at any message, or whose program is killed, stores nothing or all."""

import asyncio
import os
import signal
import sys
from contextlib import suppress
from itertools import count
from pathlib import Path

import pytest

from chem_persistence import (
    FlowCompleted,
    PgEventStore,
    PoolProvider,
    StoreUnavailable,
    build_pool,
    import_bundle,
    verify_log,
)
from chem_persistence.postgres.read.rebuild import rebuild_executions
from tests.support.bundles import LARGE, SMALL_FLOW, exported, small_store
from tests.support.faults.proxy import Fault, Message, Strike, proxied
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.flows.sample_flow import FLOW_ID, sample_store
from tests.support.servers.processes import ENVIRONMENT

IMPORT = """
import asyncio, sys
from chem_persistence import PgEventStore, PoolProvider, build_pool, import_bundle

async def main():
    async with await build_pool(sys.argv[1]) as pool:
        await import_bundle(PgEventStore(PoolProvider(pool)), sys.argv[2])

asyncio.run(main())
"""


class InTransaction:
    """Matches what begins a statement of a transaction, and the reply to COMMIT."""

    def __init__(self) -> None:
        self._begun = False

    def __call__(self, message: Message) -> bool:
        self._begun = self._begun or (message.from_client and b"BEGIN" in message.data)
        begins = message.from_client and message.type in {"Q", "E"}
        return self._begun and (begins or (message.type == "C" and b"COMMIT" in message.data))


@pytest.fixture
async def bundle(tmp_path: Path) -> tuple[Path, int]:
    """Return a bundle of two flows, one with a large artifact, and its number of events."""
    store = await small_store(artifacts=(LARGE,))
    other = new_flow_id()
    await store.append_kinds(other, [initialized(), FlowCompleted("f" * 64)])
    await exported(store, tmp_path / "run.zip", SMALL_FLOW, other)
    return tmp_path / "run.zip", 7


@pytest.mark.slow
async def test_an_import_that_is_cut_off_stores_nothing_or_all(
    database_url: str, provider: PoolProvider, bundle: tuple[Path, int]
) -> None:
    path, events = bundle
    witness, seen = PgEventStore(provider), set()
    async with proxied(database_url) as proxy:
        for nth in count(1):
            async with await build_pool(proxy.url, min_size=1, max_size=1) as pool:
                fault = proxy.arm(Fault(Strike.CUT_BEFORE, InTransaction(), nth=nth))
                with suppress(StoreUnavailable):
                    await import_bundle(PgEventStore(PoolProvider(pool)), path)
                assert fault.struck.is_set()
                stored = len(await witness.read_feed())
                assert stored in {0, events}
                seen.add(stored)
                if stored:  # the message was the reply to COMMIT
                    break
    assert seen == {0, events}
    assert (await import_bundle(witness, path)).new_events == 0
    assert (await verify_log(provider)).findings == []
    assert (await rebuild_executions(provider)).rebuilt == 0


async def test_an_import_whose_program_is_killed_stores_nothing_or_all(
    database_url: str, provider: PoolProvider, bundle: tuple[Path, int]
) -> None:
    path, events = bundle
    witness = PgEventStore(provider)
    async with proxied(database_url) as proxy:
        held = proxy.arm(Fault(Strike.STALL, lambda message: b"imported_flows" in message.data))
        program = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", IMPORT, proxy.url, str(path)), env=ENVIRONMENT
        )
        await held.struck.wait()
        os.kill(program.pid, signal.SIGKILL)
        assert await program.wait() == -signal.SIGKILL
        held.release()
    assert await witness.read_feed() == []
    assert (await import_bundle(witness, path)).new_events == events


async def test_an_imported_flow_is_sound_and_its_step_rows_are_those_of_its_events(
    provider: PoolProvider, tmp_path: Path
) -> None:
    await exported(await sample_store(), tmp_path / "run.zip", FLOW_ID)
    await import_bundle(PgEventStore(provider), tmp_path / "run.zip")
    assert (await verify_log(provider)).findings == []
    assert (await rebuild_executions(provider)).rebuilt == 0
