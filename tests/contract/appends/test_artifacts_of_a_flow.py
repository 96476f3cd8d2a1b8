"""The artifacts of a flow that no event names are listed, counted and shown, on every store."""

from collections.abc import AsyncIterator, Sequence

import pytest

from chem_persistence import (
    Artifact,
    FlowEventKind,
    InvalidArgument,
    PropertyPreferenceAssigned,
    StepFinished,
    StepSignal,
    StepStarted,
    UserInteractionRequested,
    flow_page,
)
from chem_persistence.store.artifact_reads import list_artifacts
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.pages.read_page import read_page
from tests.support.servers.backends import Backend, Store

STEP = (0, "acquire")
START, SIGNAL = StepStarted(*STEP), StepSignal(*STEP, "progress")
PREFERENCE = PropertyPreferenceAssigned("logP", "crippen", "a" * 64, "usual")


def artifact(number: int) -> Artifact:
    return Artifact.from_payload(kind="Frame", payload={"number": number})


def finished(*outputs: Artifact) -> StepFinished:
    return StepFinished(*STEP, tuple(output.hash for output in outputs), "f" * 64)


def cards(html: str) -> list[str]:
    """Return the hashes of the cards in their order."""
    ids = (str(attributes.get("id", "")) for _, attributes in read_page(html).elements)
    return [name.removeprefix("artifact-") for name in ids if name.startswith("artifact-")]


def roles(html: str) -> list[str]:
    page = read_page(html)
    tags = [(tag, attributes.get("class")) for tag, attributes in page.elements]
    assert tags.count(("p", "role")) == len(cards(html))
    return [text for tag, text in page.texts if tag == "p" and ", event " in text]


@pytest.mark.parametrize(
    ("fact", "role"),
    [
        (SIGNAL, "stored with a signal of step acquire, event 1"),
        (START, "stored with the start of step acquire, event 1"),
        (UserInteractionRequested(*STEP, {}), "stored with a question of step acquire, event 1"),
        (finished(), "stored with the outcome of step acquire, event 1"),
        (PREFERENCE, "stored with a preference, event 1"),
    ],
)
async def test_an_artifact_that_came_with_an_event_is_counted_and_shown(
    backend: Backend, fact: FlowEventKind, role: str
) -> None:
    flow_id, frame = new_flow_id(), artifact(1)
    await backend.store.append_kind(flow_id, initialized())
    await backend.store.append_kind(flow_id, fact, artifacts=[frame])
    (listed,) = await list_artifacts(backend.store, flow_id)
    assert (listed.artifact_hash, listed.flow_id, listed.version) == (frame.hash, flow_id, 1)
    assert listed.step_id == getattr(fact, "step_id", None)
    assert listed.output is None
    html = await flow_page(backend.store, flow_id)
    assert "Artifacts (1)" in read_page(html).text()
    assert cards(html) == [frame.hash]
    assert roles(html) == [role]
    assert html.count(f'href="#artifact-{frame.hash}"') == 1, "its event links to its card"


async def test_artifacts_stand_in_the_order_of_their_events_with_all_their_roles(
    backend: Backend,
) -> None:
    flow_id, frames = new_flow_id(), [artifact(number) for number in range(4)]
    store = backend.store
    await store.append_kinds(flow_id, [initialized(), START])
    await store.append_kind(flow_id, SIGNAL, artifacts=[frames[2]])
    await store.append_kind(flow_id, SIGNAL, artifacts=[frames[0]])
    await store.append_kind(flow_id, finished(*frames[:2]), artifacts=frames[:2])
    await store.append_kind(flow_id, SIGNAL, artifacts=[frames[3]])
    produced = await list_artifacts(store, flow_id)
    assert [(each.version, each.output) for each in produced] == [
        (2, None),
        (3, None),
        (4, 1),
        (5, None),
    ]
    html = await flow_page(store, flow_id)
    assert cards(html) == [frames[number].hash for number in (2, 0, 1, 3)]
    assert roles(html)[:2] == [
        "stored with a signal of step acquire, event 2",
        "stored with a signal of step acquire; output of step acquire, event 3",
    ]


async def test_an_artifact_belongs_to_the_flow_that_stored_it_first(backend: Backend) -> None:
    one, two, frame = new_flow_id(), new_flow_id(), artifact(1)
    for flow_id in (one, two):
        await backend.store.append_kinds(flow_id, [initialized(), SIGNAL], artifacts=[frame])
    assert [each.flow_id for each in await list_artifacts(backend.store, one)] == [one]
    assert await list_artifacts(backend.store, two) == []


async def test_a_streamed_artifact_of_a_transaction_is_listed(backend: Backend) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        yield b"frames"

    flow_id = new_flow_id()
    async with backend.store.transaction() as tx:
        streamed = await tx.put_stream(kind="run", chunks=chunks(), media_type="chemical/x-xtc")
        await tx.append_kinds(
            flow_id, [initialized(), START, SIGNAL], artifacts=[streamed, artifact(1)]
        )
    produced = await list_artifacts(backend.store, flow_id)
    assert [each.version for each in produced] == [2, 2]
    assert {each.artifact_hash for each in produced} == {streamed.hash, artifact(1).hash}
    async with backend.reconnected() as again:
        assert await list_artifacts(again.store, flow_id) == produced


async def test_what_is_rolled_back_is_not_listed(backend: Backend) -> None:
    flow_id = new_flow_id()

    async def fail_after_an_append() -> None:
        async with backend.store.transaction() as tx:
            await tx.append_kinds(flow_id, [initialized(), SIGNAL], artifacts=[artifact(1)])
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail_after_an_append()
    assert await list_artifacts(backend.store, flow_id) == []


async def test_an_id_that_cannot_name_a_flow_is_refused(backend: Backend) -> None:
    with pytest.raises(InvalidArgument):
        await list_artifacts(backend.store, "no flow")  # type: ignore[arg-type]


class OnlyAStore:
    """A third-party store with no more than the methods of the port `EventStore`."""

    def __init__(self, store: Store) -> None:
        self.append_kind, self.append_kinds = store.append_kind, store.append_kinds
        self.list, self.get_artifact = store.list, store.get_artifact


@pytest.mark.parametrize("named", [[], [artifact(1)], [artifact(1), artifact(2)]])
async def test_of_a_store_that_cannot_list_them_the_named_ones_are_shown(
    backend: Backend, named: Sequence[Artifact]
) -> None:
    flow_id = new_flow_id()
    await backend.store.append_kinds(flow_id, [initialized(), SIGNAL], artifacts=[artifact(9)])
    await backend.store.append_kind(flow_id, finished(*named), artifacts=named)
    html = await flow_page(OnlyAStore(backend.store), flow_id)
    assert cards(html) == [output.hash for output in named]
