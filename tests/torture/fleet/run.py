"""The run: flows are submitted to a fleet whose processes and server are struck by faults."""

import asyncio
import signal
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from random import Random
from typing import Any
from uuid import UUID, uuid5

import msgspec

from chem_persistence import (
    ConnectionProvider,
    Flow,
    FlowClient,
    FlowEngine,
    InMemoryEventStore,
    InMemoryFlowRepository,
    PgEventStore,
    PgFlowRepository,
    PoolProvider,
    StoreUnavailable,
    build_pool,
)
from chem_persistence.engine.leases.renewal import seconds_since_boot
from chem_persistence.postgres.connection.session import Session
from tests.torture.fleet.checker import Expected, Flaw, Verdict, check
from tests.torture.fleet.served import FLOW, Number, read_runs
from tests.torture.fleet.workers import Struck, Workers
from tests.torture.servers.server import SETTINGS, Server

__all__ = ["Form", "Outcome", "expected_of", "run"]

NAMESPACE = UUID("5fd3f3a2-6f43-4f6e-9a7c-1a1f0b7f3c1e")
CONNECTIONS = "200"
WAVES = 20
WAVES_SHARE = 0.5
"""The share of the time in which flows are submitted."""

POLL_SECONDS = 0.2
SECONDS_TO_THE_END = 120.0
"""How long the fleet may need, after the last fault, for what is left."""


class Form(msgspec.Struct, frozen=True):
    """The size of a run; a fault comes every `every` seconds, a lease has `lease` seconds."""

    workers: int
    flows: int
    seconds: float
    restarts: int
    every: float = 1.0
    lease: float = 2.0
    step_seconds: float = 0.3


class Outcome(msgspec.Struct):
    """What a run did, and the result of the checker."""

    form: Form
    verdict: Verdict
    struck: list[Struck]
    seconds: float
    """Until all flows were over."""


async def run(directory: Path, seed: int, form: Form, say: Callable[[str], None]) -> Outcome:
    """Strike a fleet that runs flows, and check the log when all of them should be over."""
    inputs = {uuid5(NAMESPACE, f"{seed}/{n}"): Number(n) for n in range(form.flows)}
    expected = await expected_of(FLOW, inputs)
    async with _server(directory) as server:
        log_of_runs = directory / "runs"
        workers = Workers(
            server.writer_url,
            directory,
            "tests.torture.fleet.served:flows",
            lease=form.lease,
            FLEET_RUNS=str(log_of_runs),
            FLEET_SECONDS=str(form.step_seconds),
        )
        try:
            async with await build_pool(server.writer_url) as pool:
                for _ in range(form.workers):
                    await workers.start()
                await workers.until_all_serve()
                say(f"{form.workers} workers serve")
                began = seconds_since_boot()
                provider = PoolProvider(pool)
                await _strike_under_load(provider, _Target(server, workers), inputs, seed, form)
                await _until_over(provider)
                seconds = seconds_since_boot() - began
                say(f"{seconds:.0f} s: no flow wants a worker; checking")
                await workers.end()
                runs = read_runs(log_of_runs)
                verdict = await check(
                    provider, expected, runs, workers.struck, workers=form.workers
                )
                await _check_results(verdict, provider, expected)
        finally:
            await workers.kill_all()
    for error in workers.unexpected:
        verdict.find(Flaw.UNEXPECTED, error)
    return Outcome(form, verdict, workers.struck, seconds)


async def expected_of(flow: Flow[Any, Any], inputs: Mapping[UUID, Any]) -> dict[UUID, Expected]:
    """Run a flow with each input in memory, where nothing strikes it."""
    store = InMemoryEventStore()
    engine = FlowEngine(store, InMemoryFlowRepository(store), flow)
    steps = frozenset(step.id for step in flow.steps)
    expected = {}
    for flow_id, number in inputs.items():
        instance = await engine.load(await engine.run_to_end(flow_id, number))
        output = await store.get_artifact(instance.steps[-1].outputs[0])
        fingerprint = await engine.flow_fingerprint(flow_id)
        expected[flow_id] = Expected(fingerprint, steps, flow.read_output(output).n)
    return expected


@asynccontextmanager
async def _server(directory: Path) -> AsyncIterator[Server]:
    server = Server(directory / "server", SETTINGS | {"max_connections": CONNECTIONS})
    try:
        await server.start()
        await (await build_pool(server.writer_url)).close()  # creates the schema
        yield server
    finally:
        await server.stop()


class _Target(msgspec.Struct, frozen=True):
    server: Server
    workers: Workers


async def _strike_under_load(
    provider: ConnectionProvider,
    target: _Target,
    inputs: dict[UUID, Number],
    seed: int,
    form: Form,
) -> None:
    """Submit the flows, and inject faults meanwhile and after that."""
    client = FlowClient(PgEventStore(provider), PgFlowRepository(provider))
    submitting = asyncio.create_task(_submit(client, inputs, form))
    try:
        await _strike(target, Random(f"{seed}/fleet"), form)
        await submitting
    finally:
        submitting.cancel()
    target.workers.go_on()


async def _submit(client: FlowClient, inputs: dict[UUID, Number], form: Form) -> None:
    """Submit the flows in waves; a wave whose answer was lost is submitted again."""
    flow_ids, size = list(inputs), -(-len(inputs) // WAVES)
    for first in range(0, len(flow_ids), size):
        wave = flow_ids[first : first + size]
        while True:
            with suppress(StoreUnavailable):
                await client.submit_many(FLOW, [inputs[each] for each in wave], flow_ids=wave)
                break
            await asyncio.sleep(POLL_SECONDS)
        await asyncio.sleep(form.seconds * WAVES_SHARE / WAVES)


async def _strike(target: _Target, dice: Random, form: Form) -> None:
    server, workers, began = target.server, target.workers, seconds_since_boot()
    restarts = [form.seconds * (n + 1) / (form.restarts + 1) for n in range(form.restarts)]
    while (passed := seconds_since_boot() - began) < form.seconds:
        await asyncio.sleep(form.every)
        if restarts and passed > restarts[0]:
            restarts.pop(0)
            workers.struck.append(Struck("immediate restart", seconds_since_boot(), None))
            server.signal(signal.SIGQUIT)
            await server.revive()
        elif workers.up:
            number = dice.choice(workers.up)
            if dice.random() < 0.5 and workers.stopped < form.workers // 2:
                workers.stop_for(number, form.lease * dice.uniform(1.2, 2.0))
            else:
                workers.kill(number)


async def _until_over(provider: ConnectionProvider) -> None:
    """Wait until no flow wants a worker; what is left after some time is for the checker."""
    with suppress(TimeoutError):
        async with asyncio.timeout(SECONDS_TO_THE_END):
            while await Session(provider).fetch("SELECT 1 FROM flow_runs LIMIT 1"):
                await asyncio.sleep(POLL_SECONDS)


async def _check_results(
    verdict: Verdict, provider: ConnectionProvider, expected: dict[UUID, Expected]
) -> None:
    """Compare what a client reads as the flows' results with those of the runs in memory."""
    if verdict.flaws() & {Flaw.LOST, Flaw.UNFINISHED}:
        return
    client = FlowClient(PgEventStore(provider), PgFlowRepository(provider))
    for flow_id, wanted in expected.items():
        result = await client.result(FLOW, flow_id)
        if result.n != wanted.result:
            verdict.find(Flaw.RESULT, f"{result.n}, not {wanted.result}", flow_id)
