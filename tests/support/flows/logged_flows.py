"""A small log for the commands: a completed flow, and one that failed with a hostile text."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

from chem_persistence import (
    Artifact,
    FlowEventKind,
    FlowInitialized,
    PgEventStore,
    PoolProvider,
    RetryScheduled,
    StepError,
    StepFailed,
    StepFinished,
    StepStarted,
)
from tests.support.commands import command
from tests.support.flows.flows import DEFINITION, whole_history
from tests.support.servers.backends import migrated_pool
from tests.support.servers.server import TestServer

__all__ = [
    "BINARY",
    "COMPLETED",
    "FAILED",
    "HOSTILE",
    "JSON_ARTIFACT",
    "LoggedFlows",
    "logged_flows",
    "shared_log",
]

COMPLETED = UUID("aaaa0000-0000-4000-8000-000000000001")
FAILED = UUID("bbbb0000-0000-4000-8000-000000000002")
HOSTILE = "\x1b[31mred\x07 \u202e[bold]x[/bold]"
"""Would colour a terminal, ring its bell, reverse its text, and be markup for Rich."""

JSON_ARTIFACT = Artifact.from_payload(kind="Molecule", payload={"smiles": "CCO", "mass": 46.07})
BINARY = Artifact.from_content(
    kind="spectrum", content=bytes(range(256)) * 40, media_type="application/octet-stream"
)


class LoggedFlows(msgspec.Struct, frozen=True):
    """The URL of the log and the ids of its flows."""

    url: str


async def logged_flows(url: str) -> LoggedFlows:
    """Append the two flows to a log that has its tables."""
    async with await migrated_pool(url, max_size=1) as pool:
        store = PgEventStore(PoolProvider(pool))
        history = whole_history(JSON_ARTIFACT)
        await store.append_kinds(COMPLETED, history, artifacts=[JSON_ARTIFACT], expected_version=0)
        first = DEFINITION.steps[0].id
        error = StepError("laboratory.Spilled", HOSTILE, "Traceback ...")
        failing: list[FlowEventKind] = [
            FlowInitialized(DEFINITION.definition_hash, len(DEFINITION.steps)),
            StepStarted(0, first),
            StepFailed(0, first, error, "a" * 64),
            RetryScheduled(first, 1, "wiped up"),
            StepStarted(0, first),
            StepFinished(0, first, (BINARY.hash,), "a" * 64),
            StepStarted(1, HOSTILE),
            StepFailed(1, HOSTILE, error, "b" * 64),
        ]
        await store.append_kinds(FAILED, failing, artifacts=[BINARY], expected_version=0)
        await store.aclose()
    return LoggedFlows(url)


@asynccontextmanager
async def shared_log(server: TestServer, *, refreshed: bool) -> AsyncIterator[str]:
    """Yield the URL of such a log for many tests: a session can write only if it asks to."""
    async with server.database() as url:
        await logged_flows(url)
        if refreshed:
            assert (await command("refresh", "--database-url", url)).returncode == 0
        if not server.citus:  # whose databases are lent again
            name = urlsplit(url).path[1:]
            await server.administrate(
                f'ALTER DATABASE "{name}" SET default_transaction_read_only=1'
            )
        yield server.as_tested(url)
