"""A page from PostgreSQL shows what the database holds."""

from uuid import UUID

from chem_persistence import InMemoryEventStore, PgEventStore, PoolProvider, flow_page
from chem_persistence.postgres.audit.verification import verify_log
from chem_persistence.store.transfer.anchors import Anchor
from tests.golden.kinds import KINDS, METADATA, appendable
from tests.support.flows.hostile_flow import (
    HOSTILE_FLOW_ID,
    PLANTED,
    hostile_artifacts,
    hostile_kinds,
)
from tests.support.flows.sample_flow import FLOW_ID, SEEN_AT, SetClock
from tests.support.pages.read_page import read_page


async def test_the_head_of_the_chain_is_the_one_that_is_stored(provider: PoolProvider) -> None:
    store = PgEventStore(provider)
    for kind in KINDS:
        await store.append_kind(FLOW_ID, appendable(kind), metadata=METADATA)
    heads: list[Anchor] = []
    await verify_log(provider, flow_ids=[FLOW_ID], on_head=heads.append)
    page = read_page(await flow_page(store, FLOW_ID))
    assert heads[0].link in page.text()


async def test_both_stores_give_the_same_page(provider: PoolProvider) -> None:
    pages = []
    for store in (InMemoryEventStore(clock=SetClock()), PgEventStore(provider, clock=SetClock())):
        text = PLANTED[0]
        artifacts = hostile_artifacts(text)
        kinds = hostile_kinds(text, tuple(artifact.hash for artifact in artifacts))
        ids = [UUID(int=number) for number in range(1, len(kinds) + 1)]
        await store.append_kinds(HOSTILE_FLOW_ID, kinds, artifacts=artifacts, event_ids=ids)
        pages.append(await flow_page(store, HOSTILE_FLOW_ID, clock=SetClock(SEEN_AT)))
    assert pages[0] == pages[1]
