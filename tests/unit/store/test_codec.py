"""The codec: golden rows always decode, and what cannot be trusted raises."""

from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, get_args
from uuid import UUID

import msgspec
import pytest
import rfc8785
from msgspec.structs import replace

from chem_persistence import (
    Artifact,
    ArtifactCorrupt,
    FlowEventKind,
    FlowInitialized,
    InvalidPayload,
    PropertyPreferenceAssigned,
    RetryScheduled,
    StepFailed,
    StepFinished,
    StepSignal,
    StepStarted,
    StepWaits,
    UnreadableEvent,
    UserInteractionProvided,
    UserInteractionRequested,
)
from chem_persistence.domain.canonical_json.encode import canonical_json, read_json
from chem_persistence.domain.events import EVENT_KINDS, event_type
from chem_persistence.store.codec import (
    StoredArtifact,
    StoredEvent,
    decode_artifact,
    decode_event,
    decode_kind,
    decode_replayed,
    encode_kind,
    encode_metadata,
)
from tests.golden.kinds import ADDED, KINDS, METADATA, appendable, golden_rows
from tests.support.flows.json_values import REFUSED, SURVIVING

FLOW_ID = UUID(int=5)
GOLDEN = golden_rows()

STORED = StoredEvent(
    seq=3,
    flow_id=FLOW_ID,
    version=2,
    event_id=UUID(int=9),
    ts=datetime(2026, 1, 1, tzinfo=UTC),
    event_type="stepstarted",
    payload=b'{"step_id": "acquire", "step_index": 0, "type": "stepstarted"}',
    metadata=b"{}",
    link=bytes(32),
)


def stored_artifact(artifact: Artifact, **changes: Any) -> StoredArtifact:
    stored = StoredArtifact(
        hash=artifact.hash,
        kind=artifact.kind,
        payload=artifact.encoded() if artifact.content is None else None,
        content=artifact.content,
        media_type=artifact.media_type,
        metadata=encode_metadata(artifact.metadata),
    )
    return replace(stored, **changes)


def test_every_kind_has_a_golden_row() -> None:
    assert set(GOLDEN) == set(EVENT_KINDS) == {event_type(kind) for kind in KINDS}
    assert set(EVENT_KINDS.values()) == set(get_args(FlowEventKind))


def test_every_kind_has_its_own_letter_and_its_class_name_in_lower_case() -> None:
    assert "".join(kind.variant for kind in EVENT_KINDS.values()) == "ISFXGPRBUVCWK"
    assert list(EVENT_KINDS) == [kind.__name__.lower() for kind in EVENT_KINDS.values()]


@pytest.mark.parametrize("kind", KINDS, ids=event_type)
def test_a_golden_row_decodes_to_the_event_that_was_stored(kind: FlowEventKind) -> None:
    row = GOLDEN[event_type(kind)]
    event = decode_event(
        replace(
            STORED,
            event_type=row.event_type,
            payload=row.payload.encode(),
            metadata=row.metadata.encode(),
        )
    )
    assert (event.kind, event.metadata) == (kind, METADATA)
    assert (event.event_type, event.variant) == (row.event_type, kind.variant)


@pytest.mark.parametrize("kind", KINDS, ids=event_type)
def test_a_golden_row_is_encoded_again_to_the_bytes_that_were_sent(kind: FlowEventKind) -> None:
    row, given = GOLDEN[event_type(kind)], appendable(kind)
    sent = row.of(given).canonical_payload.encode()
    decoded = decode_kind(row.of(given).payload.encode(), FLOW_ID, 0)
    assert encode_kind(decoded)[0] == encode_kind(given)[0] == sent
    assert canonical_json(kind) == row.canonical_payload.encode()
    assert rfc8785.dumps(read_json(sent)) == sent


@pytest.mark.parametrize("kind", KINDS, ids=event_type)
def test_what_encoding_gives_back_is_what_decoding_gives(kind: FlowEventKind) -> None:
    encoded, read_back = encode_kind(appendable(kind))
    decoded = decode_kind(encoded, FLOW_ID, 0)
    assert repr(read_back) == repr(decoded)
    assert type(decoded) is type(kind)


def with_user_data(value: object) -> list[FlowEventKind]:
    return [
        StepSignal(0, "a", "s", value),
        PropertyPreferenceAssigned("p", "q", "r", value),
        UserInteractionRequested(0, "a", value),
        UserInteractionProvided(0, "a", value),
    ]


@pytest.mark.parametrize("value", SURVIVING.values(), ids=SURVIVING)
def test_user_data_survives_with_the_same_canonical_form(value: object) -> None:
    for kind in with_user_data(value):
        encoded, read_back = encode_kind(kind)
        assert (
            encode_kind(decode_kind(encoded, FLOW_ID, 0))[0] == encoded == encode_kind(read_back)[0]
        )


@pytest.mark.parametrize(("value", "path"), REFUSED.values(), ids=REFUSED)
def test_user_data_that_is_not_i_json_is_refused_with_its_path(value: object, path: str) -> None:
    for kind, field in zip(
        with_user_data(value), ["data", "rationale", "schema", "provided"], strict=True
    ):
        with pytest.raises(InvalidPayload) as caught:
            encode_kind(kind)
        assert caught.value.path.startswith(f"$.{field}{path}"[:100])


@pytest.mark.parametrize("kind", KINDS, ids=event_type)
def test_what_is_decoded_for_a_replay_is_the_fact_but_for_the_data_of_a_signal(
    kind: FlowEventKind,
) -> None:
    encoded, given = encode_kind(appendable(kind))
    replayed = decode_replayed(encoded, FLOW_ID, 0, event_type(kind))
    if isinstance(given, StepSignal):
        assert isinstance(replayed, StepSignal)
        assert msgspec.json.decode(msgspec.json.encode(replayed.data)) == given.data
        replayed = StepSignal(replayed.step_index, replayed.step_id, replayed.signal, given.data)
    assert repr(replayed) == repr(given)


@pytest.mark.parametrize("stored_type", ["stepsignal", "stepstarted", "stepfinished", "unknown"])
@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{}",
        b'{"type":"stepsignal","step_id":"a","step_index":0}',
        b'{"type":"stepsignal","step_id":"a","step_index":-1,"signal":"s"}',
        b'{"type":"stepsignal","step_id":"a","step_index":0,"signal":"s","more":1}',
        b'{"type":"stepsignal","step_id":"a","step_index":0,"signal":"s","data":[}',
        b'{"type":"stepsignal","step_id":"a","step_index":0,"signal":"s","data":' + b"[" * 100_000,
        b'{"type":"stepfailed","step_id":"a","step_index":0,"signal":"s"}',
        b'{"type":"stepstarted","step_id":"a","step_index":0}',
    ],
)
def test_a_replay_names_what_is_unreadable_as_every_reader_does(
    payload: bytes, stored_type: str
) -> None:
    outcomes: list[str] = []
    for decode in (decode_kind, decode_replayed):
        try:
            outcomes.append(repr(decode(payload, FLOW_ID, 3, stored_type)))
        except UnreadableEvent as error:
            outcomes.append(str(error))
    read, replayed = outcomes
    assert replayed.replace("_SignalUnread", "StepSignal").replace("data=null", "data=None") == read


def test_integers_of_the_thirteen_stay_integers() -> None:
    kind = decode_kind(
        b'{"type":"flowinitialized","definition_hash":"d","step_count":7}', FLOW_ID, 0
    )
    assert kind == FlowInitialized("d", 7)


def test_a_row_from_before_a_field_existed_decodes() -> None:
    old = b'{"type":"userinteractionrequested","step_index":0,"step_id":"a"}'
    assert decode_kind(old, FLOW_ID, 0) == UserInteractionRequested(0, "a", None, None)


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'"stepstarted"',
        b'{"type":"stepstarted"}',
        b'{"type":"stepstarted","step_id":"a"}',
        b'{"type":"stepstarted","step_id":"a","step_index":"0"}',
        b'{"type":"stepstarted","step_id":"a","step_index":-1}',
        b'{"type":"stepstarted","step_id":"a","step_index":0.5}',
        b'{"type":"stepstarted","step_id":null,"step_index":0}',
        b'{"type":"stepstarted","step_id":"a","step_index":0,"more":1}',
        b'{"type":"StepStarted","step_id":"a","step_index":0}',
        b'{"type":"stepskipped","step_id":"a","step_index":0}',
        b'{"type":7,"step_id":"a","step_index":0}',
        b'{"step_id":"a","step_index":0}',
        (
            b'{"type":"stepfailed","step_id":"a","step_index":0,'
            b'"error":{"message":"m"},"fingerprint":"f"}'
        ),
        b'{"type":"branchcreated","branch_id":"no uuid"}',
        b'{"type":"stepstarted","step_id":"\xff","step_index":0}',
        b'{"type":"stepsignal","step_id":"a","step_index":0,"signal":"s","data":1e999}',
        b'{"type":"stepsignal","step_id":"a","step_index":0,"signal":"s","data":'
        + b"9" * 400
        + b"}",
        b'{"type":"stepsignal","step_id":"a","step_index":0,"signal":"s","data":' + b"[" * 100_000,
    ],
)
def test_a_payload_that_is_no_event_is_unreadable(payload: bytes) -> None:
    with pytest.raises(UnreadableEvent) as caught:
        decode_event(replace(STORED, payload=payload))
    assert (caught.value.flow_id, caught.value.version) == (FLOW_ID, 2)


def test_a_payload_of_another_type_than_its_row_is_unreadable() -> None:
    with pytest.raises(UnreadableEvent, match="stored as 'stepfinished'") as caught:
        decode_event(replace(STORED, event_type="stepfinished"))
    assert (caught.value.flow_id, caught.value.version) == (FLOW_ID, 2)


@pytest.mark.parametrize(
    "metadata", [b"", b"null", b"[]", b'"x"', b"7", b"{", b'{"n":' + b"9" * 400 + b"}"]
)
def test_metadata_that_is_no_object_is_unreadable(metadata: bytes) -> None:
    with pytest.raises(UnreadableEvent, match="metadata") as caught:
        decode_event(replace(STORED, metadata=metadata))
    assert (caught.value.flow_id, caught.value.version) == (FLOW_ID, 2)


@pytest.mark.parametrize(
    ("kind", "field"),
    [
        (StepStarted(-1, "a"), "step_index"),
        (StepStarted(0, 7), "step_id"),  # type: ignore[arg-type]
        (StepFinished(0, "a", (7,), "f"), "outputs"),  # type: ignore[arg-type]
        (StepFailed(0, "a", "error", "f"), "error"),  # type: ignore[arg-type]
        (RetryScheduled("a", True, "why"), "retry_index"),
        (FlowInitialized("d", 1.5), "step_count"),  # type: ignore[arg-type]
    ],
)
def test_a_field_of_the_wrong_type_is_refused_and_named(kind: FlowEventKind, field: str) -> None:
    with pytest.raises(InvalidPayload, match=f"{type(kind).__name__}: .*{field}"):
        encode_kind(kind)


@pytest.mark.parametrize(
    "kind", [None, 7, "stepstarted", [], Artifact.from_payload(kind="V", payload=1)]
)
def test_a_fact_that_is_none_of_the_thirteen_is_refused(kind: FlowEventKind) -> None:
    with pytest.raises(InvalidPayload, match=type(kind).__qualname__):
        encode_kind(kind)


@pytest.mark.parametrize("metadata", [None, {}, MappingProxyType({})])
def test_no_metadata_is_the_empty_object(metadata: Any) -> None:
    assert encode_metadata(metadata) == b"{}"


@pytest.mark.parametrize("metadata", [[], ["a"], "", "a", 0, 7, False, ()])
def test_metadata_that_is_no_object_is_refused(metadata: Any) -> None:
    with pytest.raises(InvalidPayload, match="metadata must be an object"):
        encode_metadata(metadata)


@pytest.mark.parametrize(
    "artifact",
    [
        Artifact.from_payload(kind="Value", payload={"n": 6.02214076e23}, metadata={"by": "Ada"}),
        Artifact.from_payload(kind="Value", payload=None),
        Artifact.from_content(kind="Text", content=b"", media_type="text/plain"),
        Artifact.from_content(kind="Text", content=b"abc", media_type=""),
    ],
)
def test_a_stored_artifact_is_decoded_as_it_was(artifact: Artifact) -> None:
    assert decode_artifact(stored_artifact(artifact)) == artifact


@pytest.mark.parametrize(
    "change",
    [
        {"hash": "0" * 64},
        {"payload": b'{"n": 2}'},
        {"payload": b"{"},
        {"payload": None},
        {"payload": b'{"n": "\xff"}'},
        {"payload": b"9" * 400},
        {"payload": b'{"n": "\\u0000"}'},
        {"content": b'{"n":1}'},
        {"payload": None, "content": b"x"},
        {"metadata": b"[]"},
        {"metadata": b"{"},
    ],
)
def test_an_altered_artifact_is_corrupt(change: dict[str, Any]) -> None:
    stored = stored_artifact(Artifact.from_payload(kind="Value", payload={"n": 1}), **change)
    with pytest.raises(ArtifactCorrupt) as caught:
        decode_artifact(stored)
    assert caught.value.artifact_hash == stored.hash


def test_an_event_is_frozen() -> None:
    with pytest.raises(AttributeError):
        decode_event(STORED).version = 7  # type: ignore[misc]


def test_events_are_no_unions_of_unknown_tags() -> None:
    tags = {kind.__struct_config__.tag_field for kind in EVENT_KINDS.values()}
    assert tags == {"type"}
    assert all(kind.__struct_config__.forbid_unknown_fields for kind in EVENT_KINDS.values())
    assert msgspec.json.encode(KINDS[1]).startswith(b'{"type":"stepstarted"')


def test_a_stored_answer_without_a_decision_hash_is_unreadable_and_an_empty_one_is_read() -> None:
    row = b'{"type":"userinteractionprovided","step_index":0,"step_id":"a","provided":1%b}'
    with pytest.raises(UnreadableEvent, match="decision_hash"):
        decode_kind(row % b"", FLOW_ID, 0)
    kind = decode_kind(row % b',"decision_hash":""', FLOW_ID, 0)
    assert kind == UserInteractionProvided(0, "a", 1)


@pytest.mark.parametrize("kind", ADDED, ids=event_type)
def test_an_event_with_a_field_that_was_added_decodes_and_encodes_as_its_golden_row(
    kind: FlowEventKind,
) -> None:
    row = golden_rows("added_fields")[event_type(kind)]
    assert decode_kind(row.payload.encode(), FLOW_ID, 0) == kind
    assert encode_kind(kind)[0] == row.canonical_payload.encode()


@pytest.mark.parametrize("kind", ADDED, ids=event_type)
def test_an_event_without_the_fields_that_were_added_has_none_of_their_keys(
    kind: FlowEventKind,
) -> None:
    added = {field.name for field in msgspec.structs.fields(kind) if field.default is msgspec.UNSET}
    assert added
    bare = replace(kind, **dict.fromkeys(added, msgspec.UNSET))
    assert set(read_json(encode_kind(bare)[0])) == {*kind.__struct_fields__, "type"} - added


@pytest.mark.parametrize(
    "payload",
    [
        b'{"type":"stepwaits","step_id":"a","step_index":0}',
        b'{"type":"stepwaits","step_id":"a","step_index":0,"until":"2026-01-01T00:00:00"}',
        b'{"type":"stepwaits","step_id":"a","step_index":0,"until":1767225600}',
        b'{"type":"retryscheduled","step_id":"a","retry_index":1,"reason":"","not_before":null}',
        b'{"type":"flowinitialized","definition_hash":"d","step_count":1,"due":"today"}',
        b'{"type":"flowinitialized","definition_hash":"d","step_count":1,"parent":{"item":0}}',
        b'{"type":"flowcancelled"}',
        b'{"type":"stepwaits","step_id":"a","step_index":0,"until":"0001-01-01T00:00:00+05:00"}',
    ],
)
def test_a_time_without_a_zone_or_a_field_of_another_type_is_unreadable(payload: bytes) -> None:
    with pytest.raises(UnreadableEvent):
        decode_kind(payload, FLOW_ID, 0)


def test_a_time_of_another_zone_is_read_in_utc() -> None:
    row = b'{"type":"stepwaits","step_id":"a","step_index":0,"until":"2026-01-01T02:00:00+02:00"}'
    kind = decode_kind(row, FLOW_ID, 0)
    assert isinstance(kind, StepWaits)
    assert kind.until is not None
    assert kind.until.isoformat() == "2026-01-01T00:00:00+00:00"
