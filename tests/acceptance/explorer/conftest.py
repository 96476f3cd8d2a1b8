"""The explorer on a small log, served by a process of its own."""

import asyncio
import http.client
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

import pytest
import pytest_asyncio
from msgspec import structs

from chem_persistence import (
    Artifact,
    FlowCompleted,
    FlowEventKind,
    PgEventStore,
    PoolProvider,
    StepSignal,
    archive_flows,
    build_pool,
    import_bundle,
)
from tests.support.commands import FORKED, command_environment
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.flows.logged_flows import logged_flows
from tests.support.forks import ForkedProcess
from tests.support.servers.server import TestServer

ETHANOL = """\

     RDKit          3D

  3  2  0  0  0  0  0  0  0  0999 V2000
   -0.8883    0.1670   -0.0273 C   0  0  0  0  0  0  0  0  0  0  0  0
    0.4658   -0.5116   -0.0368 C   0  0  0  0  0  0  0  0  0  0  0  0
    1.4311    0.3229    0.5867 O   0  0  0  0  0  0  0  0  0  0  0  0
  1  2  1  0
  2  3  1  0
M  END
"""
CONFORMER = Artifact.from_content(
    kind="conformer", content=ETHANOL.encode(), media_type="chemical/x-mdl-molfile"
)
PAGE = Artifact.from_content(
    kind="page", content=b"<script>document.title = 'run'</script>", media_type="text/html"
)
TABLE = Artifact.from_payload(
    kind="Scan", payload={"energy": [3.0, 1.5, 2.25], "rows": [{"bond": 1.4, "note": "<b>"}]}
)
ARCHIVED = UUID("cccc0000-0000-4000-8000-000000000003")
KEPT = Artifact.from_payload(kind="Solvent", payload={"smiles": "O"})


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    text: str


async def ask(
    url: str,
    path: str = "/",
    *,
    method: str = "GET",
    host: str | None = None,
    headers: Mapping[str, str] | None = None,
    body: str = "",
) -> Answer:
    """Send a request, by default with the Host header of the URL."""
    place = urlsplit(url)

    def send() -> Answer:
        connection = http.client.HTTPConnection(place.hostname or "", place.port, timeout=30)
        given = {"Host": place.netloc if host is None else host, **(headers or {})}
        connection.request(method, path, body or None, given)
        answer = connection.getresponse()
        text = answer.read().decode("utf-8", "replace")
        connection.close()
        return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, text)

    return await asyncio.to_thread(send)


async def started(database_url: str, *options: str) -> ForkedProcess:
    arguments = ("serve", "--port", "0", "--database-url", database_url, *options)
    return await FORKED.process(arguments, variables=command_environment())


@asynccontextmanager
async def served(database_url: str, *options: str) -> AsyncIterator[tuple[str, ForkedProcess]]:
    """Serve the explorer; yield its address and its process, which is killed if it still runs."""
    process = await started(database_url, *options)
    try:
        line = (await process.stdout.readline()).decode()
        assert line.startswith("the explorer is at http://"), await process.communicate()
        yield line.split()[4].rstrip("/"), process
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def archive_twice(store: PgEventStore, folder: Path) -> None:
    """Archive a flow, import it, and archive it again; another flow uses what it had stored."""
    noted: list[FlowEventKind] = [initialized(), StepSignal(0, "acquire", "noted")]
    ended = [*noted, FlowCompleted("f" * 64)]
    await store.append_kinds(ARCHIVED, ended, artifacts=[KEPT])
    await store.append_kinds(new_flow_id(), noted, artifacts=[KEPT])
    bundle = await archive_flows(store, [ARCHIVED], folder, actor="Ada")
    await import_bundle(store, bundle.path)
    await archive_flows(store, [ARCHIVED], folder, actor="<b>Bob</b>")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def log(server: TestServer, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[str]:
    """Yield the URL of a database with a few flows and artifacts, and an archived flow."""
    async with server.database() as url:
        await logged_flows(url)
        async with await build_pool(url, max_size=2) as pool:
            store = PgEventStore(PoolProvider(pool))
            labelled = structs.replace(initialized(), label="Batch 7")
            await store.append_kind(new_flow_id(), labelled)
            for artifact in (CONFORMER, PAGE, TABLE):
                await store.append_kind(new_flow_id(), initialized(), artifacts=[artifact])
            await archive_twice(store, tmp_path_factory.mktemp("bundles"))
            await store.aclose()
        yield url


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def address(log: str) -> AsyncIterator[str]:
    async with served(log) as (url, process):
        yield url
        process.terminate()
        assert await process.communicate() == (b"", b"")
        assert process.returncode == 0
