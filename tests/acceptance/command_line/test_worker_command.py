"""The command `worker`: it serves the flows of a module until it is told to stop."""

import asyncio
import json
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

import pytest

from chem_persistence.cli.commands.operate import worker as operate
from chem_persistence.cli.options import Target
from tests.documentation.test_command_line_reference import documented
from tests.support.commands import FORKED, command, command_environment
from tests.support.faults.fleet import fleet_flow
from tests.support.forks import ForkedProcess
from tests.support.leases.desk import postgres_desk
from tests.support.leases.staff import submit, trace, until

if TYPE_CHECKING:
    import asyncpg

MODULE = """
from tests.support.faults.fleet import fleet_flow

one = fleet_flow()
several = [one]
nothing = 7
"""


@pytest.fixture
def module(tmp_path: Path) -> Path:
    """Return the directory of a module with flows."""
    (tmp_path / "my_flows.py").write_text(MODULE, encoding="utf-8")
    return tmp_path


@asynccontextmanager
async def started(directory: Path, *arguments: str) -> AsyncIterator[ForkedProcess]:
    process = await FORKED.process(
        ["worker", *arguments], variables=command_environment(), folder=directory
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize(
    ("stop", "name"), [(signal.SIGTERM, "my_flows:one"), (signal.SIGINT, "my_flows:several")]
)
async def test_it_serves_until_it_is_told_to_stop(
    database_url: str,
    pool: "asyncpg.Pool[asyncpg.Record]",
    module: Path,
    stop: signal.Signals,
    name: str,
) -> None:
    options = ["--at-once", "3", "--limit", "cores=2", "--lease", "60", "--grace", "2.5"]
    arguments = [name, *options, "--database-url", database_url]
    async with postgres_desk(pool) as desk, started(module, *arguments) as process:
        flow_id = await submit(desk, fleet_flow())
        await until(desk, flow_id, lambda events: events[-1].variant == "C")
        assert await trace(desk, flow_id) == "ISFSFSFC"
        process.send_signal(stop)
        printed, errors = await process.communicate()
    assert (process.returncode, errors) == (0, b"")
    assert printed.decode().splitlines()[0] == "serving 1 flow, at most 3 at once; Ctrl-C stops"


async def test_it_may_be_stopped_as_soon_as_it_says_that_it_serves(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A supervisor that has read the line stops the worker before the worker does anything."""
    missed: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _: missed.append(number))
    monkeypatch.setattr(operate, "print_line", lambda _: signal.raise_signal(signal.SIGTERM))
    try:
        async with asyncio.timeout(60):
            options = operate.WorkerOptions(1, [], 30, 1, None)
            name = "tests.torture.fleet.served:flows"
            code = await operate.run_worker(
                Target(database_url, None, "public"), name, options, as_json=False
            )
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (code, missed) == (0, [])


async def test_its_json_says_what_it_serves(
    database_url: str, pool: "asyncpg.Pool[asyncpg.Record]", module: Path
) -> None:
    arguments = ["my_flows:one", "--json", "--database-url", database_url]
    async with started(module, *arguments) as process:
        printed = json.loads(await process.stdout.readline())
        while await pool.fetchval("SELECT count(*) FROM flow_workers") == 0:  # until it serves
            await asyncio.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    assert printed.keys() == documented("worker").keys()
    assert printed["definitions"] == [fleet_flow().definition.definition_hash]


async def test_its_metrics_are_served_to_prometheus(
    database_url: str, pool: "asyncpg.Pool[asyncpg.Record]", module: Path
) -> None:
    arguments = ["my_flows:one", "--json", "--metrics", "0", "--database-url", database_url]
    async with postgres_desk(pool) as desk, started(module, *arguments) as process:
        url = json.loads(await process.stdout.readline())["metrics"]
        assert url.startswith("http://127.0.0.1:")
        flow_id = await submit(desk, fleet_flow())
        await until(desk, flow_id, lambda events: events[-1].variant == "C")
        served = await asyncio.to_thread(lambda: urlopen(url).read().decode())
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == 0
    claims = [line for line in served.splitlines() if "worker_claims_total{" in line]
    assert [line.split()[-1] for line in claims] == ["1.0"]
    assert f'definition_hash="{fleet_flow().definition_hash}"' in claims[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["my_flows"], "must be like package.module:flows"),
        (["no_such_module:flows"], "cannot import no_such_module"),
        (["my_flows:missing"], "has no flow, or flows, named 'missing'"),
        (["my_flows:nothing"], "has no flow, or flows, named 'nothing'"),
        (["my_flows:one", "--limit", "cores"], "must be like cores=16"),
        (["my_flows:one", "--at-once", "0"], "is not a whole number of at least 1"),
        (["my_flows:one", "--lease", "0.5"], "is not a number of at least 1"),
        (["my_flows:one", "--grace", "-1"], "is not a number of at least 0"),
        (["my_flows:one", "--metrics", "here"], "must be PORT or HOST:PORT, not 'here'"),
        (["my_flows:one", "--metrics", "70000"], "must be PORT or HOST:PORT, not '70000'"),
        (["my_flows:one", "--metrics", "192.0.2.1:9464"], "cannot serve on 192.0.2.1:9464"),
    ],
)
async def test_what_it_cannot_serve_is_wrong_use(
    database_url: str, module: Path, arguments: list[str], message: str
) -> None:
    done = await command("worker", *arguments, "--database-url", database_url, cwd=module)
    assert done.returncode == 2
    assert message in done.stderr
