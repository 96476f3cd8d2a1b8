"""Large events and artifacts are verified, followed and iterated in constant memory."""

import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from uuid import UUID

import pytest

from chem_persistence import (
    Artifact,
    PgEventStore,
    PgFlowRepository,
    PoolProvider,
    StepSignal,
    verify_log,
)
from tests.support.flows.flows import DEFINITION, initialized, new_flow_id

pytestmark = pytest.mark.slow

MEBIBYTE = 2**20
EVENTS = 56
ARTIFACTS, ARTIFACT_BYTES = 20, 4 * MEBIBYTE
MOST_MEMORY = 48 * MEBIBYTE
"""A few pages of 8 MiB, as bytes and decoded; the log has 56 MiB of events."""

LARGE = StepSignal(0, "acquire", "frame", "C" * MEBIBYTE)
BODIES: dict[str, Callable[[int], Artifact]] = {
    "a text": lambda number: Artifact.from_payload(
        kind="Text", payload=f"{number}" + "C" * ARTIFACT_BYTES
    ),
    "many texts": lambda number: Artifact.from_payload(
        kind="Texts", payload=["C" * 1_000 + f"{number}"] * (ARTIFACT_BYTES // 1_000)
    ),
    "content": lambda number: Artifact.from_content(
        kind="Content", content=number.to_bytes(4) * (ARTIFACT_BYTES // 4), media_type="a/b"
    ),
}


async def peak_of(reading: Awaitable[None]) -> int:
    """Return the peak memory in bytes that a reading takes."""
    tracemalloc.start()
    try:
        await reading
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", BODIES)
async def test_10b_large_artifacts_are_verified_in_constant_memory(
    provider: PoolProvider, name: str
) -> None:
    store, flow_id = PgEventStore(provider), new_flow_id()
    await store.append_kind(flow_id, initialized())
    for number in range(ARTIFACTS):
        named = StepSignal(0, "acquire", "more")
        await store.append_kind(flow_id, named, artifacts=[BODIES[name](number)])

    async def verify() -> None:
        verification = await verify_log(provider)
        assert (verification.findings, verification.progress.artifacts) == ([], ARTIFACTS)

    assert await peak_of(verify()) < MOST_MEMORY


async def _count(events: AsyncIterator[object], most: int) -> None:
    async with aclosing(events):  # type: ignore[type-var]
        for _ in range(most):
            await anext(events)


async def _load(provider: PoolProvider, flow_id: UUID) -> None:
    repository = PgFlowRepository(provider, snapshot_after=None)
    assert (await repository.load(flow_id, None, DEFINITION)).version == EVENTS + 1


async def _verify(provider: PoolProvider, _: UUID) -> None:
    assert (await verify_log(provider)).findings == []


async def _read_feed(provider: PoolProvider, _: UUID) -> None:
    store, position, count = PgEventStore(provider), None, 0
    page = await store.read_feed_page(0)
    while page.events:
        count, position = count + len(page.events), page.position
        del page
        page = await store.read_feed_page(position)
    assert count == EVENTS + 1


READINGS: dict[str, Callable[[PoolProvider, UUID], Awaitable[None]]] = {
    "verify": _verify,
    "read_feed_page": _read_feed,
    "follow": lambda provider, _: _count(PgEventStore(provider).follow(), EVENTS + 1),
    "iterate": lambda provider, flow_id: _count(
        PgEventStore(provider).iterate(flow_id), EVENTS + 1
    ),
    "load": _load,
}


async def test_10b_large_events_are_read_in_constant_memory(provider: PoolProvider) -> None:
    store, flow_id = PgEventStore(provider), new_flow_id()
    await store.append_kind(flow_id, initialized())
    for _ in range(EVENTS):
        await store.append_kind(flow_id, LARGE)
    peaks = {name: await peak_of(read(provider, flow_id)) for name, read in READINGS.items()}
    assert {name: peak for name, peak in peaks.items() if peak >= MOST_MEMORY} == {}
