"""What every store must do with an append."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from uuid import UUID, uuid4

import msgspec
import pytest
from uuid_utils.compat import uuid7

from chem_persistence import (
    Artifact,
    ArtifactCorrupt,
    ArtifactNotFound,
    ArtifactTooLarge,
    BranchCreated,
    ConcurrencyConflict,
    EventIdReused,
    FlowEvent,
    FlowEventKind,
    InMemoryEventStore,
    InvalidArgument,
    InvalidPayload,
    StepFailed,
    StepFinished,
    StepSignal,
    StepStarted,
)
from chem_persistence.store import append_request, checks
from tests.support.flows.flows import initialized, new_flow_id, whole_history
from tests.support.servers.backends import SMALL_ARTIFACT_LIMIT, Backend

BRANCH = UUID("0190c3a5-7f00-7abc-8def-0123456789ab")


def molecule(name: str = "benzene") -> Artifact:
    return Artifact.from_payload(kind="Molecule", payload={"name": name, "energy": 6.02214076e23})


def finished(artifact: Artifact) -> StepFinished:
    return StepFinished(0, "acquire", (artifact.hash,), "f" * 64)


def signal(data: object) -> StepSignal:
    return StepSignal(0, "acquire", "said", data)


def versions(events: Sequence[FlowEvent]) -> list[int]:
    return [event.version for event in events]


async def test_appended_events_are_listed_as_they_were_returned(backend: Backend) -> None:
    flow_id = new_flow_id()
    artifact = molecule()
    returned = await backend.store.append_kinds(
        flow_id, whole_history(artifact), artifacts=[artifact], metadata={"actor": "Ada", "n": 1e16}
    )
    assert await backend.store.list(flow_id) == returned
    async with backend.reconnected() as again:
        assert await again.store.list(flow_id) == returned


async def test_versions_begin_at_0_and_seq_ascends_over_flows(backend: Backend) -> None:
    first, second = new_flow_id(), new_flow_id()
    events = [
        await backend.store.append_kind(flow_id, initialized())
        for flow_id in (first, second, first)
    ]
    assert versions(events) == [0, 0, 1]
    assert events[0].seq < events[1].seq < events[2].seq


async def test_the_store_makes_version_7_event_ids(backend: Backend) -> None:
    event = await backend.store.append_kind(new_flow_id(), initialized())
    assert event.event_id.version == 7


async def test_times_are_utc(backend: Backend) -> None:
    event = await backend.store.append_kind(new_flow_id(), initialized())
    assert event.ts.utcoffset() == timedelta(0)


async def test_a_list_begins_after_a_version_and_ends_at_a_limit(backend: Backend) -> None:
    flow_id = new_flow_id()
    await backend.store.append_kinds(flow_id, whole_history(molecule()))
    assert versions(await backend.store.list(flow_id, after_version=2)) == [3, 4, 5, 6, 7]
    assert versions(await backend.store.list(flow_id, after_version=2, limit=2)) == [3, 4]
    assert await backend.store.list(flow_id, limit=0) == []
    assert await backend.store.list(flow_id, after_version=7) == []
    assert versions(await backend.store.list(flow_id, after_version=-5, limit=1)) == [0]


async def test_an_unknown_flow_is_empty(backend: Backend) -> None:
    assert await backend.store.list(new_flow_id()) == []


@pytest.mark.parametrize("expected", [0, 2, 7])
async def test_a_version_that_is_not_the_flows_is_a_conflict(
    backend: Backend, expected: int
) -> None:
    flow_id = new_flow_id()
    await backend.store.append_kind(flow_id, initialized(), expected_version=0)
    with pytest.raises(ConcurrencyConflict) as caught:
        await backend.store.append_kind(
            flow_id, StepStarted(0, "acquire"), expected_version=expected
        )
    assert (caught.value.flow_id, caught.value.expected, caught.value.actual) == (
        flow_id,
        expected,
        1,
    )
    assert len(await backend.store.list(flow_id)) == 1


async def test_conflict_keeps_no_artifact(backend: Backend) -> None:
    flow_id = new_flow_id()
    await backend.store.append_kind(flow_id, initialized())
    artifact = molecule()
    with pytest.raises(ConcurrencyConflict):
        await backend.store.append_kind(
            flow_id, finished(artifact), artifacts=[artifact], expected_version=0
        )
    with pytest.raises(ArtifactNotFound):
        await backend.store.get_artifact(artifact.hash)


async def test_a_batch_is_all_or_nothing(backend: Backend) -> None:
    flow_id = new_flow_id()
    with pytest.raises(InvalidPayload):
        await backend.store.append_kinds(flow_id, [initialized(), signal(float("nan"))])
    assert await backend.store.list(flow_id) == []


async def test_a_repeated_append_returns_the_original_events(backend: Backend) -> None:
    flow_id, artifact = new_flow_id(), molecule()
    kinds: list[FlowEventKind] = [initialized(), finished(artifact)]
    ids = [uuid7(), uuid7()]

    async def append(expected: int | None) -> list[FlowEvent]:
        return await backend.store.append_kinds(
            flow_id,
            kinds,
            artifacts=[artifact],
            expected_version=expected,
            event_ids=ids,
            metadata={"n": 1e300},
        )

    originals = await append(0)
    await backend.store.append_kind(flow_id, StepStarted(1, "compute"))
    assert await append(0) == originals
    assert await append(None) == originals
    assert await append(3) == originals
    assert versions(await backend.store.list(flow_id)) == [0, 1, 2]


@pytest.mark.parametrize("change", ["fact", "metadata", "longer", "shorter", "order"])
async def test_an_event_id_with_other_content_is_refused(backend: Backend, change: str) -> None:
    flow_id, ids = new_flow_id(), [uuid7(), uuid7()]
    kinds = [signal(1), signal(2)]
    await backend.store.append_kinds(flow_id, kinds, event_ids=ids)
    metadata = {"actor": "Eve"} if change == "metadata" else None
    match change:
        case "fact":
            kinds = [signal(1), signal(3)]
        case "longer":
            kinds, ids = [*kinds, signal(3)], [*ids, uuid7()]
        case "shorter":
            kinds, ids = [signal(2), signal(3)], [ids[1], uuid7()]
        case "order":
            ids.reverse()
        case _:
            pass
    with pytest.raises(EventIdReused):
        await backend.store.append_kinds(flow_id, kinds, event_ids=ids, metadata=metadata)
    assert len(await backend.store.list(flow_id)) == 2


async def test_an_event_id_with_a_value_of_another_json_type_is_refused(backend: Backend) -> None:
    flow_id, event_id = new_flow_id(), uuid7()
    await backend.store.append_kind(flow_id, signal({"n": 1}), event_id=event_id)
    with pytest.raises(EventIdReused):
        await backend.store.append_kind(flow_id, signal({"n": True}), event_id=event_id)


async def test_the_same_event_id_in_two_flows_is_two_events(backend: Backend) -> None:
    event_id = uuid7()
    events = [
        await backend.store.append_kind(new_flow_id(), initialized(), event_id=event_id)
        for _ in range(2)
    ]
    assert events[0].flow_id != events[1].flow_id


async def test_repeated_appends_at_the_same_time_are_one(backend: Backend) -> None:
    flow_id, event_id = new_flow_id(), uuid7()
    await backend.store.append_kind(flow_id, initialized())
    events = await asyncio.gather(
        *(backend.store.append_kind(flow_id, signal("once"), event_id=event_id) for _ in range(16))
    )
    assert all(event == events[0] for event in events)
    assert len(await backend.store.list(flow_id)) == 2


async def test_16_writers_on_one_flow_leave_no_gap_and_no_twin(backend: Backend) -> None:
    flow_id = new_flow_id()

    async def write(writer: int) -> list[FlowEvent]:
        return [await backend.store.append_kind(flow_id, signal([writer, n])) for n in range(10)]

    acknowledged = await asyncio.gather(*(write(writer) for writer in range(16)))
    events = await backend.store.list(flow_id)
    assert versions(events) == list(range(160))
    assert sorted(event.seq for event in events) == [event.seq for event in events]
    assert sorted((e for own in acknowledged for e in own), key=lambda e: e.version) == events
    for own in acknowledged:
        assert versions(own) == sorted(versions(own))


async def test_16_writers_that_expect_a_version_never_fork_a_flow(backend: Backend) -> None:
    flow_id = new_flow_id()

    async def write() -> int:
        for version in range(5):
            try:
                await backend.store.append_kind(flow_id, signal(version), expected_version=version)
            except ConcurrencyConflict:
                continue
        return 0

    await asyncio.gather(*(write() for _ in range(16)))
    events = await backend.store.list(flow_id)
    assert versions(events) == list(range(len(events)))
    assert [event.kind for event in events] == [signal(version) for version in range(len(events))]


async def test_16_writers_on_many_flows_with_shared_artifacts(backend: Backend) -> None:
    artifacts = [molecule(str(n)) for n in range(8)]
    flow_ids = [new_flow_id() for _ in range(16)]

    async def write(flow_id: UUID) -> None:
        for n in range(8):
            chosen = artifacts[n:] + artifacts[:n]
            await backend.store.append_kinds(
                flow_id,
                [initialized(), finished(chosen[0])],
                artifacts=chosen,
                expected_version=2 * n,
            )

    await asyncio.gather(*(write(flow_id) for flow_id in flow_ids))
    events = [event for flow_id in flow_ids for event in await backend.store.list(flow_id)]
    assert len({event.seq for event in events}) == len(events) == 16 * 16
    for artifact in artifacts:
        assert await backend.store.get_artifact(artifact.hash) == artifact


async def test_an_artifact_of_two_flows_is_read_from_both(backend: Backend) -> None:
    artifact = molecule()
    for flow_id in (new_flow_id(), new_flow_id()):
        await backend.store.append_kind(flow_id, finished(artifact), artifacts=[artifact])
    assert await backend.store.get_artifact(artifact.hash) == artifact


async def test_the_first_description_of_an_artifact_stays(backend: Backend) -> None:
    first = Artifact.from_payload(kind="Molecule", payload={"a": 1}, metadata={"by": "Ada"})
    second = Artifact.from_payload(kind="Fragment", payload={"a": 1})
    for artifact in (first, second):
        await backend.store.append_kind(new_flow_id(), finished(artifact), artifacts=[artifact])
    assert await backend.store.get_artifact(first.hash) == first


async def test_a_binary_artifact_keeps_its_bytes_and_media_type(backend: Backend) -> None:
    artifact = Artifact.from_content(
        kind="Spectrum",
        content=bytes(range(256)) * 100,
        media_type="application/octet-stream",
        metadata={"x": [1.5]},
    )
    await backend.store.append_kind(new_flow_id(), finished(artifact), artifacts=[artifact])
    assert await backend.store.get_artifact(artifact.hash) == artifact


async def test_an_empty_binary_artifact_is_kept(backend: Backend) -> None:
    artifact = Artifact.from_content(kind="Nothing", content=b"", media_type="text/plain")
    await backend.store.append_kind(new_flow_id(), finished(artifact), artifacts=[artifact])
    assert await backend.store.get_artifact(artifact.hash) == artifact


@pytest.mark.parametrize("payload", [None, False, 0, "", [], {}, [None]])
async def test_a_payload_that_is_empty_or_null_is_kept(backend: Backend, payload: object) -> None:
    artifact = Artifact.from_payload(kind="Value", payload=payload)
    await backend.store.append_kind(new_flow_id(), finished(artifact), artifacts=[artifact])
    assert await backend.store.get_artifact(artifact.hash) == artifact


async def test_an_artifact_whose_hash_does_not_match_stores_nothing(backend: Backend) -> None:
    flow_id, artifact = new_flow_id(), molecule()
    forged = msgspec.structs.replace(artifact, payload={"name": "other"})
    with pytest.raises(ArtifactCorrupt) as caught:
        await backend.store.append_kinds(
            flow_id, [initialized(), finished(forged)], artifacts=[forged]
        )
    assert caught.value.artifact_hash == artifact.hash
    assert await backend.store.list(flow_id) == []
    with pytest.raises(ArtifactNotFound):
        await backend.store.get_artifact(artifact.hash)


async def test_an_artifact_above_the_limit_stores_nothing(backend: Backend) -> None:
    flow_id = new_flow_id()
    artifact = Artifact.from_content(
        kind="Big", content=b"x" * (SMALL_ARTIFACT_LIMIT + 1), media_type="application/octet-stream"
    )
    with pytest.raises(ArtifactTooLarge) as caught:
        await backend.store.append_kind(flow_id, finished(artifact), artifacts=[artifact])
    assert (caught.value.size, caught.value.limit) == (
        SMALL_ARTIFACT_LIMIT + 1,
        SMALL_ARTIFACT_LIMIT,
    )
    assert await backend.store.list(flow_id) == []


async def test_an_event_above_the_limit_stores_nothing(backend: Backend) -> None:
    flow_id = new_flow_id()
    with pytest.raises(InvalidPayload, match="limit"):
        await backend.store.append_kind(flow_id, signal("x" * (17 * 2**20)))
    assert await backend.store.list(flow_id) == []


async def test_an_artifact_that_is_not_there_is_not_found(backend: Backend) -> None:
    with pytest.raises(ArtifactNotFound):
        await backend.store.get_artifact("0" * 64)


async def test_structs_in_user_data_come_back_as_objects(backend: Backend) -> None:
    class Atom(msgspec.Struct):
        element: str
        charge: float

    event = await backend.store.append_kind(new_flow_id(), signal([Atom("C", 1e16)]))
    assert event.kind == signal([{"element": "C", "charge": 1e16}])


@pytest.mark.parametrize("flow_id", [UUID(int=0), "", None, 7])
async def test_an_empty_flow_id_is_refused(backend: Backend, flow_id: UUID) -> None:
    with pytest.raises(InvalidArgument, match="flow_id"):
        await backend.store.append_kind(flow_id, initialized())
    with pytest.raises(InvalidArgument, match="flow_id"):
        await backend.store.list(flow_id)


async def test_an_append_of_nothing_is_refused(backend: Backend) -> None:
    with pytest.raises(InvalidArgument, match="kinds"):
        await backend.store.append_kinds(new_flow_id(), [])


@pytest.mark.parametrize("ids", [[], [uuid4()], [uuid4()] * 3, [UUID(int=1)] * 2])
async def test_event_ids_that_do_not_match_the_events_are_refused(
    backend: Backend, ids: list[UUID]
) -> None:
    with pytest.raises(InvalidArgument, match="event_ids"):
        await backend.store.append_kinds(new_flow_id(), [initialized(), signal(1)], event_ids=ids)


@pytest.mark.parametrize("artifact_hash", ["", "\0", "A" * 64, "\ud800" * 64, None, 7])
async def test_what_can_be_no_hash_is_not_found(backend: Backend, artifact_hash: str) -> None:
    with pytest.raises(ArtifactNotFound):
        await backend.store.get_artifact(artifact_hash)


async def test_no_event_stands_after_a_version_that_no_flow_can_reach(backend: Backend) -> None:
    flow_id = new_flow_id()
    await backend.store.append_kind(flow_id, initialized())
    assert await backend.store.list(flow_id, after_version=2**40, limit=2**40) == []


async def test_a_version_that_no_flow_can_reach_is_refused(backend: Backend) -> None:
    with pytest.raises(InvalidArgument, match="expected_version"):
        await backend.store.append_kind(new_flow_id(), initialized(), expected_version=2**40)


async def test_a_negative_version_or_limit_is_refused(backend: Backend) -> None:
    with pytest.raises(InvalidArgument, match="expected_version"):
        await backend.store.append_kind(new_flow_id(), initialized(), expected_version=-1)
    with pytest.raises(InvalidArgument, match="limit"):
        await backend.store.list(new_flow_id(), limit=-1)


@pytest.mark.parametrize(
    "kind",
    [
        StepStarted(-1, "acquire"),
        StepStarted("0", "acquire"),  # type: ignore[arg-type]
        StepFinished(0, "acquire", "not a list", "f"),  # type: ignore[arg-type]
        {"type": "stepstarted"},
        None,
    ],
)
async def test_a_fact_with_a_field_of_the_wrong_type_is_refused(
    backend: Backend, kind: FlowEventKind
) -> None:
    flow_id = new_flow_id()
    with pytest.raises(InvalidPayload):
        await backend.store.append_kind(flow_id, kind)
    assert await backend.store.list(flow_id) == []


async def test_metadata_that_is_no_object_is_refused(backend: Backend) -> None:
    with pytest.raises(InvalidPayload):
        await backend.store.append_kind(new_flow_id(), initialized(), metadata=["Ada"])  # type: ignore[arg-type]


class BadClock:
    def now(self) -> datetime:
        return datetime(2026, 1, 1)  # noqa: DTZ001  # naive on purpose


class Tokyo:
    def now(self) -> datetime:
        return datetime(2026, 1, 1, 9, tzinfo=timezone(timedelta(hours=9)))


async def test_a_clock_without_time_zone_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="clock"):
        await InMemoryEventStore(clock=BadClock()).append_kind(new_flow_id(), initialized())


async def test_a_clock_of_another_zone_gives_utc_times() -> None:
    event = await InMemoryEventStore(clock=Tokyo()).append_kind(new_flow_id(), initialized())
    assert event.ts.isoformat() == "2026-01-01T00:00:00+00:00"


@pytest.mark.parametrize(
    "kind",
    [
        BranchCreated(str(BRANCH).upper(), BRANCH, BRANCH, "acquire"),  # type: ignore[arg-type]
        BranchCreated(BRANCH.hex, BRANCH, BRANCH, "acquire"),  # type: ignore[arg-type]
        StepFailed(0, "acquire", {"error_class": "ValueError", "message": "bad"}, "f"),  # type: ignore[arg-type]
    ],
)
async def test_what_is_given_in_another_form_is_recognised_when_it_is_repeated(
    backend: Backend, kind: FlowEventKind
) -> None:
    flow_id, event_id = new_flow_id(), new_flow_id()
    event = await backend.store.append_kind(flow_id, kind, event_id=event_id)
    assert await backend.store.append_kind(flow_id, kind, event_id=event_id) == event
    assert await backend.store.list(flow_id) == [event]


async def test_an_append_that_is_too_large_as_a_whole_is_refused(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(append_request, "MAX_APPEND_BYTES", 3 * SMALL_ARTIFACT_LIMIT)
    monkeypatch.setattr(append_request, "MAX_EVENT_BYTES", SMALL_ARTIFACT_LIMIT)
    half, flow_id = SMALL_ARTIFACT_LIMIT // 2, new_flow_id()
    with pytest.raises(InvalidPayload, match="the append has"):
        await backend.store.append_kinds(flow_id, [signal("x" * half)] * 9)
    large = [
        Artifact.from_content(kind="Bytes", content=bytes([n]) * half, media_type="x/y")
        for n in range(6)
    ]
    with pytest.raises(InvalidPayload, match="the append has"):
        await backend.store.append_kind(flow_id, initialized(), artifacts=large)
    assert (
        await backend.store.append_kind(flow_id, initialized(), artifacts=large[:4])
    ).version == 0


@pytest.mark.parametrize("payload", [{"a": [0] * 6}, [[{str(n): n for n in range(6)}]]])
async def test_json_that_the_database_cannot_hold_is_refused_in_every_store(
    backend: Backend, payload: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checks, "MAX_JSON_ITEMS", 5)
    for module in (append_request, checks):
        monkeypatch.setattr(module, "MAX_JSON_MEMBERS", 5)
    artifact = Artifact.from_payload(kind="Large", payload=payload)
    with pytest.raises(InvalidPayload, match="more than JSONB holds"):
        await backend.store.append_kind(new_flow_id(), initialized(), artifacts=[artifact])
