"""Any input raises only the library's own errors; `make test-long` fuzzes for longer."""

import hashlib
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chem_persistence import (
    Artifact,
    ArtifactCorrupt,
    InvalidArgument,
    InvalidPayload,
    StepSignal,
    UnreadableEvent,
    canonical_json,
)
from chem_persistence.domain.canonical_json.encode import read_json
from chem_persistence.errors import InvalidDatabaseUrl
from chem_persistence.postgres.connection.url import DatabaseUrl, parse_database_url
from chem_persistence.store.codec import (
    StoredArtifact,
    StoredEvent,
    decode_artifact,
    decode_event,
    decode_kind,
    encode_kind,
    encode_metadata,
)
from chem_persistence.store.transfer.anchors import Anchor, read_anchors, writing_anchors
from tests.support.examples import examples
from tests.support.flows.hostile import EVENT_TEXTS, JSON_TEXTS, OBJECTS, mutated

T = TypeVar("T")
E = TypeVar("E", bound=Exception)

FLOW_ID = UUID(int=5)
BOUNDED = settings(
    deadline=None,
    derandomize=True,
    database=None,
    max_examples=examples(100),
    suppress_health_check=list(HealthCheck),
)
AT_LENGTH = settings(BOUNDED, derandomize=False, max_examples=5_000, print_blob=True)

JSON_BYTES = (JSON_TEXTS | EVENT_TEXTS).map(lambda text: text.encode("utf-8", "surrogatepass"))
BYTES = st.binary() | JSON_BYTES | mutated(JSON_BYTES)
EVENTS = st.builds(
    StoredEvent,
    seq=st.integers(),
    flow_id=st.just(FLOW_ID),
    version=st.integers(),
    event_id=st.uuids(),
    ts=st.datetimes(timezones=st.just(UTC)),
    event_type=st.sampled_from(["stepsignal", "stepstarted", "flowinitialized", ""]) | st.text(),
    payload=BYTES,
    metadata=st.just(b"{}") | BYTES,
    link=st.binary(max_size=33),
)
ARTIFACTS = st.builds(
    lambda body, content, named, **rest: StoredArtifact(
        hash=hashlib.sha256(body or content or b"").hexdigest() if named else "0" * 64,
        payload=body,
        content=content,
        **rest,
    ),
    st.none() | BYTES,
    st.none() | st.binary(),
    st.booleans(),
    kind=st.text(st.characters()) | st.none(),
    media_type=st.text(st.characters()),
    metadata=st.just(b"{}") | BYTES,
)


def outcome_of(work: Callable[[], T], expected: type[E]) -> T | E:
    """Return the result, or the one error that the work may raise."""
    try:
        return work()
    except expected as error:
        return error


def read_an_event(stored: StoredEvent) -> None:
    event = outcome_of(lambda: decode_event(stored), UnreadableEvent)
    if isinstance(event, UnreadableEvent):
        assert (event.flow_id, event.version) == (stored.flow_id, stored.version)
    else:
        assert event.event_type == stored.event_type


def read_a_kind(data: bytes) -> None:
    kind = outcome_of(lambda: decode_kind(data, FLOW_ID, 7), UnreadableEvent)
    if isinstance(kind, UnreadableEvent):
        assert (kind.flow_id, kind.version) == (FLOW_ID, 7)
        return
    written = outcome_of(lambda: encode_kind(kind), InvalidPayload)
    if not isinstance(
        written, InvalidPayload
    ):  # JSON that is no I-JSON: a key with U+0000, nested too deep, ...
        assert repr(written[1]) == repr(decode_kind(written[0], FLOW_ID, 7))


def read_an_artifact(stored: StoredArtifact) -> None:
    artifact = outcome_of(lambda: decode_artifact(stored), ArtifactCorrupt)
    if isinstance(artifact, ArtifactCorrupt):
        assert artifact.artifact_hash == stored.hash
    else:
        assert artifact.hash == hashlib.sha256(artifact.encoded()).hexdigest()


def write_an_object(value: Any) -> None:
    encoded = outcome_of(lambda: canonical_json(value), InvalidPayload)
    if isinstance(encoded, InvalidPayload):
        assert encoded.path.startswith("$")
    else:
        assert canonical_json(read_json(encoded)) == encoded


def append_an_object(value: Any) -> None:
    outcome_of(lambda: encode_kind(value), InvalidPayload)
    outcome_of(lambda: encode_kind(StepSignal(0, "acquire", "said", value)), InvalidPayload)
    outcome_of(lambda: encode_kind(StepSignal(value, value, value)), InvalidPayload)
    outcome_of(lambda: encode_metadata(value), InvalidPayload)
    outcome_of(lambda: Artifact.from_payload(kind="", payload=value), InvalidPayload)
    outcome_of(
        lambda: Artifact.from_content(kind="", content=b"", media_type="", metadata=value),
        InvalidPayload,
    )


URLS = [
    "postgresql://u:p@h:5432/d?sslmode=disable&application_name=a%20b&options=-c%20role%3Dx",
    "postgres://[::1]:1,h/d?hostaddr=127.0.0.1,::1&connect_timeout=7&target_session_attrs=any",
    "postgresql:///d?host=/var/run&user=u&password=%00&sslrootcert=system&ssl=true",
]
URL_TEXTS = st.text(st.characters()) | mutated(st.sampled_from([url.encode() for url in URLS])).map(
    lambda data: data.decode("utf-8", "surrogateescape")
)
VARIABLES = st.sampled_from(
    ["PGHOST", "PGPORT", "PGHOSTADDR", "PGSSLMODE", "PGCONNECT_TIMEOUT", "PGREQUIRESSL"]
)


def read_a_url(example: tuple[str, dict[str, str]]) -> None:
    url, environ = example
    read = outcome_of(lambda: parse_database_url(url, environ), InvalidDatabaseUrl)
    if isinstance(read, DatabaseUrl):
        assert read.dsn.encode().startswith(b"postgresql://")


def anchor_file() -> bytes:
    with TemporaryDirectory() as directory:
        file = Path(directory, "anchors.jsonl")
        with writing_anchors(file, datetime(2026, 1, 1, tzinfo=UTC)) as writer:
            for number in range(3):
                writer.write(Anchor(UUID(int=number), number, "a" * 64))
        return file.read_bytes()


def with_a_new_sum(data: bytes) -> bytes:
    """Rewrite the last line, as someone does who changes an unsigned file."""
    lines = data.splitlines(keepends=True)[:-1]
    digest = hashlib.sha256(b"".join(lines)).hexdigest()
    return b"".join(
        [*lines, msgspec.json.encode({"flows": len(lines) - 1, "sha256": digest}) + b"\n"]
    )


FILES = mutated(st.just(anchor_file()))


def read_anchors_from(data: bytes) -> None:
    with TemporaryDirectory() as directory:
        file = Path(directory, "anchors.jsonl")
        file.write_bytes(data)
        anchors = outcome_of(lambda: list(read_anchors(file)), InvalidArgument)
    if isinstance(anchors, InvalidArgument):
        assert anchors.name == "anchors"
    else:
        assert all(isinstance(anchor.version, int) for anchor in anchors)


TARGETS: dict[str, tuple[st.SearchStrategy[Any], Callable[[Any], None]]] = {
    "stored events": (EVENTS, read_an_event),
    "stored facts": (BYTES, read_a_kind),
    "stored artifacts": (ARTIFACTS, read_an_artifact),
    "objects": (OBJECTS, write_an_object),
    "objects to append": (OBJECTS, append_an_object),
    "database URLs": (
        st.tuples(URL_TEXTS, st.dictionaries(VARIABLES, st.text(st.characters()), max_size=2)),
        read_a_url,
    ),
    "anchor files": (FILES | FILES.map(with_a_new_sum) | st.binary(), read_anchors_from),
}


@pytest.mark.parametrize("target", TARGETS)
def test_hostile_input_meets_only_the_librarys_own_errors(target: str) -> None:
    examples, use = TARGETS[target]
    BOUNDED(given(examples)(use))()


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("target", TARGETS)
def test_at_length_hostile_input_meets_only_the_librarys_own_errors(target: str) -> None:
    examples, use = TARGETS[target]
    AT_LENGTH(given(examples)(use))()
