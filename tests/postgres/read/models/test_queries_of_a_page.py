"""How many queries it takes to show a flow and to write its page."""

from pathlib import Path
from uuid import UUID

import pytest

from chem_persistence import (
    Artifact,
    FlowCompleted,
    FlowEventKind,
    FlowInitialized,
    PgEventStore,
    PoolProvider,
    StepFinished,
    StepStarted,
    flow_page,
)
from chem_persistence.cli.flow_story import read_story
from tests.support.counting import CountingProvider
from tests.support.flows.flows import new_flow_id


async def stored_flow(provider: PoolProvider, steps: int, size: int = 10) -> UUID:
    """Store a completed flow of two events and one artifact per step."""
    flow_id = new_flow_id()
    artifacts = [
        Artifact.from_content(
            kind="Spectrum", content=bytes([step]) * size, media_type="application/octet-stream"
        )
        for step in range(steps)
    ]
    kinds: list[FlowEventKind] = [FlowInitialized("d" * 64, steps)]
    for step, artifact in enumerate(artifacts):
        kinds.append(StepStarted(step, f"s{step}"))
        kinds.append(StepFinished(step, f"s{step}", (artifact.hash,), "f" * 64))
    kinds.append(FlowCompleted("c" * 64))
    await PgEventStore(provider).append_kinds(flow_id, kinds, artifacts=artifacts)
    return flow_id


async def queries_of_show(provider: PoolProvider, flow_id: UUID, html: Path | None) -> int:
    counting = CountingProvider(provider)
    await read_story(counting, flow_id, html=html)
    return counting.lent


@pytest.mark.parametrize("steps", [6, 150])
async def test_a_flow_is_shown_in_three_queries_and_its_page_written_in_four(
    provider: PoolProvider, tmp_path: Path, steps: int
) -> None:
    flow_id = await stored_flow(provider, steps)
    page = tmp_path / "page.html"
    assert await queries_of_show(provider, flow_id, None) == 3
    assert await queries_of_show(provider, flow_id, page) == 4
    text = page.read_text(encoding="utf-8")
    assert f"Events ({2 * steps + 2})" in text
    assert text.count('class="card"') == steps


async def test_a_page_alone_takes_five_queries(
    provider: PoolProvider,
) -> None:
    flow_id = await stored_flow(provider, 6)
    counting = CountingProvider(provider)
    await flow_page(PgEventStore(counting), flow_id)
    assert counting.lent == 5, "events, the definition, artifacts twice, who took results over"


async def test_large_artifacts_take_a_query_for_each_batch(provider: PoolProvider) -> None:
    flow_id = await stored_flow(provider, 20, size=2_000_000)
    counting = CountingProvider(provider)
    await flow_page(PgEventStore(counting), flow_id)
    assert counting.lent == 5 + 5, "batches of four times 2,000,000 bytes"
