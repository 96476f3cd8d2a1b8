"""Payloads of which JSONB would make too much: read back, or refused when they are appended."""

from typing import Any
from uuid import uuid4

import msgspec
import pytest

from chem_persistence import (
    Artifact,
    FlowEventKind,
    InvalidPayload,
    StepSignal,
    UserInteractionProvided,
    UserInteractionRequested,
    canonical_json,
)
from chem_persistence.store.checks import MAX_JSONB_BYTES, jsonb_size
from tests.support.servers.backends import Backend

SMALLEST, LARGEST = 5e-324, 1.7976931348623157e308
TEXT = "1e-300," * 100_000
"""Text that looks like numbers: it does not grow."""

PAYLOADS = {
    "tiny numbers": [1e-300] * 200_000,
    "huge numbers": {"weights": [1e99] * 200_000},
    "the smallest": [[SMALLEST, LARGEST]] * 4_000,
    "few digits, many zeros": [[1e-7, 1e21]] * 80_000,
    "an even length": {"b": [0.1] * 400_000, "aa": [1.0] * 3, "c": "\u6c34"},
    "one string": "C" * 1_900_000,
    "nothing but a large text": {"text": TEXT},
}


AT_LENGTH = {"huge numbers", "few digits, many zeros"}
"""Others go the same way, with numbers that are written in less time."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] if name in AT_LENGTH else [])
        for name in PAYLOADS
    ],
)
async def test_1_what_is_accepted_can_be_read_in_every_way(backend: Backend, name: str) -> None:
    artifact = Artifact.from_payload(kind="grid", payload=PAYLOADS[name], metadata={"b": 1e-300})
    await backend.store.append_kind(uuid4(), StepSignal(0, "s", "x"), artifacts=[artifact])
    async with backend.reconnected() as again:
        found = await again.store.get_artifact(artifact.hash)
        chunks = [chunk async for chunk in again.store.read_artifact(artifact.hash)]
    assert found == artifact
    assert found.content is None
    assert b"".join(chunks) == canonical_json(PAYLOADS[name])


async def test_1_a_content_that_is_json_stays_a_content(backend: Backend) -> None:
    content = canonical_json([0.5] * 400_000)
    artifact = Artifact.from_content(kind="x", content=content, media_type="application/json")
    await backend.store.append_kind(uuid4(), StepSignal(0, "s", "x"), artifacts=[artifact])
    found = await backend.store.get_artifact(artifact.hash)
    assert (found.content, found.payload) == (content, None)


MANY = [1e-300] * (MAX_JSONB_BYTES // 302)
FACTS: dict[str, FlowEventKind] = {
    "a signal": StepSignal(0, "s", "x", MANY),
    "a request": UserInteractionRequested(0, "s", {"x": {"y": [1e200] * 170_000}}, "hint"),
    "a decision": UserInteractionProvided(0, "s", [[SMALLEST]] * 110_000),
}


@pytest.mark.parametrize("name", FACTS)
async def test_1_an_event_that_jsonb_makes_too_large_is_refused(
    backend: Backend, name: str
) -> None:
    flow_id = uuid4()
    with pytest.raises(InvalidPayload, match=r"has \d+ bytes as JSONB, .* as an artifact"):
        await backend.store.append_kind(flow_id, FACTS[name])
    assert await backend.store.list(flow_id) == []


async def test_1_metadata_that_jsonb_makes_too_large_are_refused(backend: Backend) -> None:
    flow_id = uuid4()
    with pytest.raises(InvalidPayload, match="bytes as JSONB"):
        await backend.store.append_kind(flow_id, StepSignal(0, "s", "x"), metadata={"m": MANY})
    artifact = Artifact.from_payload(kind="x", payload=1, metadata={"m": MANY})
    with pytest.raises(InvalidPayload, match=r"the artifact's metadata has .* bytes as JSONB"):
        await backend.store.append_kind(flow_id, StepSignal(0, "s", "x"), artifacts=[artifact])
    with pytest.raises(InvalidPayload, match="the artifact's metadata has"):
        async with backend.store.transaction() as transaction:
            await transaction.put_stream(
                kind="x", chunks=_none(), media_type="x/y", metadata={"m": MANY}
            )
    assert await backend.store.list(flow_id) == []


async def _none() -> Any:
    yield b"content"


@pytest.mark.parametrize(
    "data",
    [
        [1e-300] * 100_000,
        TEXT * 4,
        pytest.param({"rows": [[1e21] * 9] * 9_000}, marks=pytest.mark.slow),
    ],
)
async def test_1_an_event_that_jsonb_can_hold_is_read_back(backend: Backend, data: Any) -> None:
    event = await backend.store.append_kind(
        uuid4(), StepSignal(0, "s", "x", data), metadata={"data": data}
    )
    async with backend.reconnected() as again:
        assert await again.store.list(event.flow_id) == [event]


@pytest.mark.parametrize(
    "value",
    [
        [1e-300],
        [SMALLEST, -SMALLEST],
        [LARGEST, 1e21, 1.5e21, 123456789012345680000.0],
        {"a": -1.25e-7, "b": [1.2345678901234567e-120]},
        ["1e-300,", 'quote " 1e-300,', "\\"],
        {"1e-300": 1e-9},
        [0.1, 1, "text", None, True, {}],
    ],
)
async def test_1_the_size_that_jsonb_makes_is_known(value: Any) -> None:
    written = _as_jsonb(canonical_json(value))
    assert 0 <= jsonb_size(canonical_json(value)) - len(written) <= 20 * (written.count(b",") + 1)


def _as_jsonb(encoded: bytes) -> bytes:
    """Write JSON as JSONB does: no exponents, and a blank after each comma and colon."""

    def written(item: Any) -> str:
        match item:
            case dict():
                return "{" + ", ".join(f'"{k}": {written(v)}' for k, v in item.items()) + "}"
            case list():
                return "[" + ", ".join(map(written, item)) + "]"
            case float() | int() if not isinstance(item, bool):
                from decimal import Decimal

                return format(Decimal(repr(item)), "f")
            case _:
                return msgspec.json.encode(item).decode()

    return written(msgspec.json.decode(encoded)).encode()


@pytest.mark.parametrize(
    "payload",
    [
        {"smiles": "C", "kcal": 1.0, "heavy": 2, "nested": {"zz": 1.5, "a": [{"yy": 0, "b": 1}]}},
        {"\U0001f600": 1, "\ue000": 2, "a": 3, "": 4},
        [1.0, 1e16, 1e15, 9007199254740992.0, 1e21, 1e22, 0.1, -0.0, 1e-7, 123456789.0],
    ],
)
async def test_15_every_store_reads_keys_in_canonical_order_and_numbers_of_one_type(
    backend: Backend, payload: Any
) -> None:
    expected = repr(msgspec.json.decode(canonical_json(payload)))
    large = {"payload": payload, "fill": [0.5] * 300_000}
    artifact = Artifact.from_payload(kind="x", payload=payload, metadata={"b": payload, "a": 1})
    larger = Artifact.from_payload(kind="x", payload=large)
    event = await backend.store.append_kind(
        uuid4(),
        StepSignal(0, "s", "x", payload),
        artifacts=[artifact, larger],
        metadata={"bb": payload, "a": 1, "c": 1.5},
    )
    async with backend.reconnected() as again:
        (read,) = await again.store.list(event.flow_id)
        found = await again.store.get_artifact(artifact.hash)
        found_large = await again.store.get_artifact(larger.hash)
        (followed,) = await again.store.read_feed()
    for one in (event, read, followed):
        assert isinstance(one.kind, StepSignal)
        assert list(one.metadata) == ["a", "bb", "c"]
        assert repr(one.kind.data) == repr(one.metadata["bb"]) == _restored(expected)
    assert repr(found.payload) == repr(found_large.payload["payload"]) == _restored(expected)
    assert list(found.metadata) == ["a", "b"]
    assert repr(artifact.payload) == repr(found.payload)


def _restored(expected: str) -> str:
    """Integers that I-JSON does not have were floats."""
    for integer in ("10000000000000000", "9007199254740992", "1000000000000000000000"):
        expected = expected.replace(f" {integer},", f" {float(integer)!r},")
    return expected
