"""What every store must do with appends to many flows by one call."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import pytest
from uuid_utils.compat import uuid7

from chem_persistence import (
    Artifact,
    ArtifactNotFound,
    ArtifactTooLarge,
    BatchEventStore,
    ConcurrencyConflict,
    EventIdReused,
    EventStore,
    FlowAnswer,
    FlowAppend,
    FlowEvent,
    FlowEventKind,
    InvalidArgument,
    InvalidPayload,
    StepFinished,
    StepSignal,
    StepStarted,
    event_metadata,
)
from chem_persistence.store.batches.appender import append_each
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.servers.backends import SMALL_ARTIFACT_LIMIT, Backend


class OneAtATime:
    """A store without `append_many`, as a program may have written it."""

    def __init__(self, store: EventStore) -> None:
        self._store = store
        self.append_kind = store.append_kind
        self.append_kinds = store.append_kinds
        self.list = store.list
        self.get_artifact = store.get_artifact


@pytest.fixture
def store(backend: Backend) -> BatchEventStore:
    assert isinstance(backend.store, BatchEventStore)
    return backend.store


def signal(data: object = None) -> StepSignal:
    return StepSignal(0, "acquire", "said", data)


def finished(artifact: Artifact) -> StepFinished:
    return StepFinished(0, "acquire", (artifact.hash,), "f" * 64)


def molecule(name: str = "benzene") -> Artifact:
    return Artifact.from_payload(kind="Molecule", payload={"name": name})


def begun(count: int, version: int | None = 0) -> list[FlowAppend]:
    return [
        FlowAppend(new_flow_id(), (initialized(),), expected_version=version) for _ in range(count)
    ]


def events_of(answer: FlowAnswer) -> list[FlowEvent]:
    assert isinstance(answer, list), answer
    return answer


async def test_each_flow_is_answered_with_its_events_in_the_order_given(
    store: BatchEventStore,
) -> None:
    appends = [
        FlowAppend(new_flow_id(), [initialized(), *[signal(each)] * (each % 3)])
        for each in range(40)
    ]
    answers = await store.append_many(appends)
    for append, answer in zip(appends, answers, strict=True):
        assert [event.kind for event in events_of(answer)] == list(append.kinds)
        assert await store.list(append.flow_id) == answer


async def test_no_append_has_no_answer(store: BatchEventStore) -> None:
    assert await store.append_many([]) == []


async def test_one_conflict_among_many_is_the_answer_of_its_flow_alone(
    store: BatchEventStore,
) -> None:
    appends = begun(5)
    taken = appends[2].flow_id
    first = await store.append_kind(taken, initialized())
    answers = await store.append_many(appends)
    conflict = answers.pop(2)
    assert isinstance(conflict, ConcurrencyConflict)
    assert (conflict.flow_id, conflict.expected, conflict.actual) == (taken, 0, 1)
    assert await store.list(taken) == [first]
    assert all(len(events_of(answer)) == 1 for answer in answers)


async def test_the_events_of_a_flow_are_stored_with_their_artifacts_or_not_at_all(
    store: BatchEventStore,
) -> None:
    stored, refused = molecule(str(new_flow_id())), molecule(str(new_flow_id()))
    flows = [new_flow_id(), new_flow_id()]
    kinds: list[Sequence[FlowEventKind]] = [
        [initialized(), StepStarted(0, "acquire"), finished(each)] for each in (stored, refused)
    ]
    answers = await store.append_many(
        [
            FlowAppend(flows[0], kinds[0], [stored], 0),
            FlowAppend(flows[1], kinds[1], [refused], 7),
        ]
    )
    assert await store.list(flows[0]) == answers[0]
    assert await store.get_artifact(stored.hash) == stored
    assert isinstance(answers[1], ConcurrencyConflict)
    assert await store.list(flows[1]) == []
    with pytest.raises(ArtifactNotFound):
        await store.get_artifact(refused.hash)


async def test_a_repeated_call_answers_with_the_original_events(store: BatchEventStore) -> None:
    appends = [
        FlowAppend(new_flow_id(), [initialized(), signal()], (), None, [uuid7(), uuid7()])
        for _ in range(4)
    ]
    answers = await store.append_many(appends[:3])
    assert (await store.append_many(appends))[:3] == answers
    assert [len(await store.list(each.flow_id)) for each in appends] == [2] * 4


async def test_an_event_id_that_names_another_event_is_refused_for_its_flow_alone(
    store: BatchEventStore,
) -> None:
    flow_id, event_id = new_flow_id(), uuid7()
    await store.append_kind(flow_id, signal("first"), event_id=event_id)
    reused, *others = await store.append_many(
        [FlowAppend(flow_id, [signal("second")], event_ids=[event_id]), *begun(2)]
    )
    assert isinstance(reused, EventIdReused)
    assert all(len(events_of(answer)) == 1 for answer in others)


async def test_an_artifact_of_two_flows_is_stored_once(store: BatchEventStore) -> None:
    shared = molecule(str(new_flow_id()))
    answers = await store.append_many(
        [FlowAppend(new_flow_id(), [finished(shared)], [shared]) for _ in range(2)]
    )
    assert [len(events_of(answer)) for answer in answers] == [1, 1]
    assert await store.get_artifact(shared.hash) == shared


async def test_a_flow_that_occurs_twice_refuses_the_call(store: BatchEventStore) -> None:
    appends = begun(3)
    with pytest.raises(InvalidArgument, match=f"{appends[0].flow_id} occurs twice"):
        await store.append_many([*appends, FlowAppend(appends[0].flow_id, [signal()])])
    assert [await store.list(each.flow_id) for each in appends] == [[], [], []]


async def test_an_append_may_be_a_tuple_of_its_first_four_fields(store: BatchEventStore) -> None:
    flow_id, artifact = new_flow_id(), molecule()
    (answer,) = await store.append_many([(flow_id, [finished(artifact)], [artifact], 0)])
    assert await store.list(flow_id) == answer
    short: Any = (flow_id, [signal()])
    with pytest.raises(InvalidArgument, match="2 fields"):
        await store.append_many([*begun(1), short])


async def test_what_cannot_be_stored_is_the_answer_of_its_flow(store: BatchEventStore) -> None:
    large = Artifact.from_content(
        kind="Bytes", content=bytes(SMALL_ARTIFACT_LIMIT + 1), media_type="text/plain"
    )
    answers = await store.append_many(
        [
            FlowAppend(new_flow_id(), [signal({"half": "\ud800"})]),
            FlowAppend(new_flow_id(), []),
            FlowAppend(new_flow_id(), [finished(large)], [large]),
            FlowAppend(UUID(int=0), [signal()]),
            FlowAppend(new_flow_id(), [signal()], (), -1),
            *begun(1),
        ]
    )
    assert [type(answer) for answer in answers] == [
        InvalidPayload,
        InvalidArgument,
        ArtifactTooLarge,
        InvalidArgument,
        InvalidArgument,
        list,
    ]


async def test_metadata_are_those_of_the_append_and_of_its_scope(store: BatchEventStore) -> None:
    own: Mapping[str, Any] = {"actor": "Grace", "n": 1}
    appends = [*begun(1), FlowAppend(new_flow_id(), [signal()], metadata=own)]
    with event_metadata(actor="Ada"):
        answers = await store.append_many(appends)
    assert [events_of(answer)[0].metadata for answer in answers] == [{"actor": "Ada"}, own]


async def test_large_facts_are_appended_beside_small_ones(store: BatchEventStore) -> None:
    large = FlowAppend(new_flow_id(), [signal("x" * (2**20 + 1))], (), 0)
    answers = await store.append_many([*begun(1), large, *begun(1)])
    assert [len(events_of(answer)) for answer in answers] == [1, 1, 1]


async def test_a_store_without_the_call_gives_the_same_answers(store: BatchEventStore) -> None:
    plain = OneAtATime(store)
    assert not isinstance(plain, BatchEventStore)
    stored, conflicting = begun(1), begun(1, version=3)
    answers = await append_each(plain, [*stored, *conflicting])
    assert await store.list(stored[0].flow_id) == answers[0]
    assert isinstance(answers[1], ConcurrencyConflict)
