"""The command `consumers` lists what consumers do, and changes them."""

import json
from collections.abc import Sequence
from typing import Any

from chem_persistence import FlowEvent, PgEventStore, PgTransaction, PoolProvider, build_pool
from tests.support.commands import command
from tests.support.consuming import signal
from tests.support.flows.flows import new_flow_id


async def on(url: str, *arguments: object) -> str:
    done = await command("consumers", *arguments, "--database-url", url)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


async def refusal(url: str, *arguments: object) -> str:
    done = await command("consumers", *arguments, "--database-url", url)
    assert (done.returncode, done.stdout) == (2, "")
    return done.stderr


async def listed(url: str) -> dict[str, Any]:
    (consumer,) = json.loads(await on(url, "list", "--json"))["consumers"]
    found: dict[str, Any] = consumer
    return found


async def test_a_consumer_is_listed_released_reset_resized_and_removed(database_url: str) -> None:
    bare = await command("consumers", variables={"DATABASE_URL": database_url})
    assert (bare.returncode, bare.stdout) == (0, "no consumers\n")
    async with await build_pool(database_url, max_size=3) as pool:
        store, flow_id, poison = PgEventStore(PoolProvider(pool)), new_flow_id(), new_flow_id()
        for each in (flow_id, poison, poison):
            await store.append_kind(each, signal())
        consumer = store.consumer("counts", parts=2)

        async def fail(events: Sequence[FlowEvent], _: PgTransaction) -> None:
            if any(event.flow_id == poison for event in events):
                raise ValueError("no such molecule")

        await consumer.run_to_end(fail, tries=2, poll_interval=0.01)

        heading, first, second, trouble = (await on(database_url, "list")).splitlines()
        assert heading.split()[:5] == ["consumer", "part", "position", "lag", "parked"]
        assert (first.split()[:2], second.split()[0]) == (["counts", "0"], "1")
        assert trouble.startswith(f"counts {poison} parked ")
        assert trouble.endswith(" at 2: ValueError: no such molecule")

        released = await on(database_url, "release", "counts", poison)
        assert released == f"consumer counts: released flow {poison}\n"
        assert " released " in await on(database_url, "list")
        await consumer.run_to_end(lambda *_: nothing())
        assert (await listed(database_url))["parked"] == []

        reset = await on(database_url, "reset", "counts", "--to", "1")
        assert reset == "consumer counts: all parts are at 1\n"
        assert {part["lag"] for part in (await listed(database_url))["parts"]} == {2}
        await on(database_url, "reset", "counts", "--to", "end")
        assert {part["lag"] for part in (await listed(database_url))["parts"]} == {0}

        resized = await on(database_url, "resize", "counts", "3")
        assert resized == "consumer counts: has 3 parts\n"
        assert len((await listed(database_url))["parts"]) == 3

        assert "'end'" not in await refusal(database_url, "reset", "counts", "--to", "last")
        assert "has not parked" in await refusal(database_url, "release", "counts", poison)
        assert "there is no consumer 'none'" in await refusal(database_url, "remove", "none")
        assert await on(database_url, "remove", "counts") == "consumer counts: removed\n"
        assert await on(database_url, "list") == "no consumers\n"


async def nothing() -> None:
    """Consume without an effect."""
