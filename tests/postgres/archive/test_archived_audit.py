"""What is archived, before a verification or during it, is no finding."""

from functools import partial
from typing import TypeAlias
from uuid import UUID

import asyncpg
import pytest

from chem_persistence import (
    Artifact,
    PgEventStore,
    PoolProvider,
    StepFinished,
    StepSignal,
    verify_log,
)
from chem_persistence.domain.tampering import Tampering
from chem_persistence.postgres.audit import verification
from chem_persistence.postgres.audit.lost import (
    Loss,
    SeenEvent,
    find_lost_events,
    find_lost_heads,
)
from chem_persistence.store.transfer.anchors import Anchor
from tests.support.archived_flows import Meanwhile, archive, forget
from tests.support.flows.flows import initialized, new_flow_id

Owner: TypeAlias = "asyncpg.Connection[asyncpg.Record]"
SAID = StepSignal(0, "acquire", "progress")


@pytest.mark.parametrize("number", range(6))
async def test_a_verification_is_clean_before_during_and_after_an_archive(
    provider: PoolProvider, owner: Owner, number: int
) -> None:
    store, flows = PgEventStore(provider), [new_flow_id() for _ in range(3)]
    anchors = list[Anchor]()
    for flow_id in flows:
        artifact = Artifact.from_payload(kind="Value", payload=str(flow_id))
        finished = StepFinished(0, "acquire", (artifact.hash,), "f" * 64)
        await store.append_kinds(flow_id, [initialized(), finished], artifacts=[artifact])
    assert (await verify_log(provider, on_head=anchors.append)).findings == []
    meanwhile = Meanwhile(provider, number, partial(archive, owner, *flows[1:]))
    during = await verify_log(meanwhile, anchors=anchors)
    assert (meanwhile.is_done, during.findings) == (True, [])
    after = await verify_log(provider, anchors=anchors)
    assert (after.findings, after.archived, after.progress.flows) == ([], 2, 1)


@pytest.mark.parametrize("at_once", [1, 2, 9])
async def test_anchors_of_flows_that_left_are_looked_up_many_at_once(
    provider: PoolProvider, owner: Owner, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(verification, "ANCHORS_AT_ONCE", at_once)
    store, flows, anchors = (
        PgEventStore(provider),
        [UUID(int=n) for n in range(1, 8)],
        list[Anchor](),
    )
    for flow_id in flows:
        await store.append_kinds(flow_id, [initialized(), SAID])
    await verify_log(provider, on_head=anchors.append)
    await archive(owner, *flows[:2], *flows[3:5], flows[6])
    await forget(owner, flows[5], 0)
    found = await verify_log(provider, anchors=anchors)
    assert [(each.flow_id, each.version) for each in found.findings] == [(flows[5], 0)]
    assert (found.archived, found.progress.flows) == (5, 1)


async def test_an_anchor_beyond_the_register_is_a_finding(
    provider: PoolProvider, owner: Owner
) -> None:
    """The log went back, and the flow was archived with fewer events than it had."""
    store, flow_id, anchors = PgEventStore(provider), new_flow_id(), list[Anchor]()
    await store.append_kinds(flow_id, [initialized(), SAID])
    await verify_log(provider, on_head=anchors.append)
    await forget(owner, flow_id, 1)
    await archive(owner, flow_id)
    (finding,) = (await verify_log(provider, anchors=anchors)).findings
    assert (finding.flow_id, finding.tampering) == (flow_id, Tampering.TRUNCATED)


async def test_what_was_archived_is_not_lost(provider: PoolProvider, owner: Owner) -> None:
    store, flow_id, anchors = PgEventStore(provider), new_flow_id(), list[Anchor]()
    events = await store.append_kinds(flow_id, [initialized(), SAID])
    await verify_log(provider, on_head=anchors.append)
    seen = [SeenEvent(flow_id, event.version, event.event_id) for event in events]
    beyond = [SeenEvent(flow_id, 2, new_flow_id())]
    await archive(owner, flow_id)
    lost = [each async for each in find_lost_events(provider, seen + beyond)]
    assert [(each.version, each.state) for each in lost] == [(2, Loss.GONE)]
    assert [each async for each in find_lost_heads(provider, anchors)] == []
