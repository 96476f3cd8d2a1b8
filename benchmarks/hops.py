"""Count what one call runs through: the library's files and functions, and queries.

python -m benchmarks.hops [DATABASE_URL]

A reader of the code crosses these files, so the numbers are kept small: `tests/shape/test_hops.py`
fails when one is above its limit. They do not depend on the machine or its load. Without a URL an
embedded server is started.
"""

import asyncio
import contextlib
import io
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
from uuid_utils.compat import uuid7

import chem_persistence
from chem_persistence import (
    Artifact,
    FlowDefinition,
    FlowEventKind,
    FlowInitialized,
    PgEventStore,
    PgFlowRepository,
    PoolProvider,
    StepDefinition,
    StepFinished,
    StepKind,
    StepSignal,
    StepStarted,
    build_pool,
    embedded_postgres,
)

__all__ = ["LIMITS", "Hops", "measure"]

_PACKAGE = str(Path(chem_persistence.__file__).parent) + "/"
_QUERY = asyncpg.Connection.fetch.__code__


class Hops(msgspec.Struct, frozen=True):
    """The files and functions that were entered, and the queries that were sent."""

    files: int
    functions: int
    queries: int


LIMITS = {
    "append_kind, with an artifact": Hops(files=13, functions=87, queries=1),
    "load, 14 events": Hops(files=10, functions=34, queries=1),
    "show --html, 14 events": Hops(files=74, functions=404, queries=6),
}
"""The largest number of each that is accepted.

The page has five functions to spare: on a busy machine a few more run, of what watches connections.
"""


def measure(url: str) -> dict[str, Hops]:
    """Make each call on a database once to fill caches, then again and count."""
    counted: dict[str, Hops] = {}
    with asyncio.Runner() as runner:
        flow_id, counted["append_kind, with an artifact"], counted["load, 14 events"] = runner.run(
            _calls(url)
        )
    counted["show --html, 14 events"] = _count_page(url, flow_id)
    return counted


async def _calls(url: str) -> tuple[UUID, Hops, Hops]:
    flow_id = UUID(int=uuid7().int)
    step = StepDefinition(id="read", kind=StepKind.SOURCE, version="1", params={})
    definition = FlowDefinition((step,))
    artifact = Artifact.from_payload(kind="Molecule", payload={"smiles": "c1ccccc1"})
    finished = StepFinished(0, "read", (artifact.hash,), "f" * 64)
    async with await build_pool(url) as pool:
        provider = PoolProvider(pool)
        store, repository = PgEventStore(provider), PgFlowRepository(provider)
        start: list[FlowEventKind] = [FlowInitialized(definition.definition_hash, 1)]
        start += [StepStarted(0, "read"), *[StepSignal(0, "read", "progress")] * 11]
        await store.append_kinds(flow_id, start)
        append = await _least(
            lambda: store.append_kind(UUID(int=uuid7().int), start[0]),
            lambda: store.append_kind(
                UUID(int=uuid7().int), finished, artifacts=[artifact], expected_version=0
            ),
        )
        await store.append_kind(flow_id, finished, artifacts=[artifact], expected_version=13)
        await store.aclose()  # no writer gives its connection back during the load
        load = await _least(
            lambda: repository.load(flow_id, None, definition),
            lambda: repository.load(flow_id, None, definition),
        )
    return flow_id, append, load


async def _least(first: Callable[[], Awaitable[Any]], call: Callable[[], Awaitable[Any]]) -> Hops:
    """Count a call made right after another one; return the least of several counts.

    A timer that runs in between adds functions of its own.
    """
    counted = []
    for _ in range(10):
        await first()
        with _counter() as counter:
            await call()
        counted.append(counter.hops())
    return min(counted, key=lambda hops: (hops.files, hops.functions))


def _count_page(url: str, flow_id: UUID) -> Hops:
    from chem_persistence.__main__ import main  # noqa: PLC0415  # needs the extra `cli`

    with tempfile.TemporaryDirectory() as directory:
        page = Path(directory) / "flow.html"
        sys.argv[1:] = ["show", str(flow_id), "--html", str(page), "--database-url", url]
        with (
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
            _counter() as counter,
        ):
            main()
    return counter.hops()


class _Counter:
    """Records each function of the library that is entered; resuming a coroutine does not count."""

    def __init__(self) -> None:
        self._entered: set[CodeType] = set()
        self._queries: dict[int, FrameType] = {}  # kept, so that no other frame gets the same id

    def note(self, frame: FrameType, event: str, _argument: Any) -> None:
        if event != "call":
            return
        if frame.f_code.co_filename.startswith(_PACKAGE):
            self._entered.add(frame.f_code)
        elif frame.f_code is _QUERY:
            self._queries[id(frame)] = frame

    def hops(self) -> Hops:
        named = {(code.co_filename, code.co_qualname) for code in self._entered}
        files = {file for file, name in named if name != "<module>"}
        return Hops(len(files), len(named), len(self._queries))


@contextlib.contextmanager
def _counter() -> Iterator[_Counter]:
    counter = _Counter()
    sys.setprofile(counter.note)
    try:
        yield counter
    finally:
        sys.setprofile(None)


def main() -> None:
    """Measure, and print the table."""
    with asyncio.Runner() as runner, contextlib.ExitStack() as stack:
        if len(sys.argv) > 1:
            url = sys.argv[1]
        else:
            server = embedded_postgres()
            url = runner.run(server.__aenter__())
            stack.callback(lambda: runner.run(server.__aexit__(None, None, None)))
        counted = measure(url)
    print(f"{'':32}{'files':>12}{'functions':>14}{'queries':>12}")
    for name, hops in counted.items():
        limit = LIMITS[name]
        print(
            f"{name:32}{hops.files:>5} (<= {limit.files})"
            f"{hops.functions:>6} (<= {limit.functions}){hops.queries:>5} (<= {limit.queries})"
        )


if __name__ == "__main__":
    main()
