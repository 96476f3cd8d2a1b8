"""Values at the limits of I-JSON, in every part of an append, on every store."""

from collections.abc import Callable, Sequence
from typing import Any
from uuid import UUID

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from uuid_utils.compat import uuid7

from chem_persistence import (
    Artifact,
    ArtifactNotFound,
    FlowEventKind,
    InvalidPayload,
    PropertyPreferenceAssigned,
    StepFinished,
    StepSignal,
    canonical_json,
)
from chem_persistence.domain.canonical_json.careful import MAX_DEPTH
from tests.support.examples import examples
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.flows.json_values import I_JSON, MOLECULE, REFUSED, SURVIVING, Molecule, nested
from tests.support.servers.backends import Backend

IN_A_DATABASE = settings(
    deadline=None,
    derandomize=True,
    max_examples=examples(60),
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


class Entry(msgspec.Struct, frozen=True):
    """The parts of an append when a value is in one of the fields that take JSON."""

    kind: FlowEventKind
    artifacts: Sequence[Artifact] = ()
    metadata: dict[str, Any] | None = None


def produced(artifact: Artifact) -> Entry:
    return Entry(StepFinished(0, "acquire", (artifact.hash,), "f" * 64), [artifact])


def in_signal(value: object) -> Entry:
    return Entry(StepSignal(0, "acquire", "said", value))


def in_rationale(value: object) -> Entry:
    return Entry(PropertyPreferenceAssigned("logP", "cheapest", "c" * 64, value))


def in_event_metadata(value: object) -> Entry:
    return Entry(StepSignal(0, "acquire", "said"), metadata={"v": value})


def in_artifact_payload(value: object) -> Entry:
    return produced(Artifact.from_payload(kind="Value", payload=value))


def in_artifact_metadata(value: object) -> Entry:
    content = uuid7().bytes
    return produced(
        Artifact.from_content(
            kind="V", content=content, media_type="text/plain", metadata={"v": value}
        )
    )


def forged_payload(value: object) -> Entry:
    return produced(Artifact(hash="0" * 64, kind="Value", payload=value))


def forged_metadata(value: object) -> Entry:
    artifact = Artifact.from_payload(kind="Value", payload=1)
    return produced(msgspec.structs.replace(artifact, metadata={"v": value}))


PLACES = [in_signal, in_rationale, in_event_metadata, in_artifact_payload, in_artifact_metadata]
REFUSALS: list[tuple[Callable[[object], Entry], str]] = [
    (in_signal, "$.data"),
    (in_rationale, "$.rationale"),
    (in_event_metadata, "$.v"),
    (forged_payload, "$"),
    (forged_metadata, "$.v"),
]
NAMES = [place.__name__ for place, _ in REFUSALS]


async def append(backend: Backend, flow_id: UUID, entry: Entry) -> None:
    await backend.store.append_kind(
        flow_id, entry.kind, artifacts=entry.artifacts, metadata=entry.metadata
    )


async def read(backend: Backend, flow_id: UUID, entry: Entry) -> Any:
    """Read back the value that the entry holds."""
    event = (await backend.store.list(flow_id))[-1]
    match event.kind:
        case StepSignal(data=value) if entry.metadata is None:
            return value
        case PropertyPreferenceAssigned(rationale=value):
            return value
        case StepFinished(outputs=(artifact_hash,)):
            artifact = await backend.store.get_artifact(artifact_hash)
            return artifact.payload if artifact.content is None else artifact.metadata["v"]
        case _:
            return event.metadata["v"]


async def survives(
    backend: Backend, flow_id: UUID, value: object, place: Callable[[object], Entry]
) -> Any:
    entry = place(value)
    await append(backend, flow_id, entry)
    read_back = await read(backend, flow_id, entry)
    assert canonical_json(read_back) == canonical_json(value)
    return read_back


@pytest.mark.parametrize("place", PLACES)
async def test_a_value_is_read_back_with_the_same_canonical_form(
    backend: Backend, place: Callable[[object], Entry]
) -> None:
    for value in SURVIVING.values():
        await survives(backend, new_flow_id(), value, place)


@pytest.mark.parametrize("place", PLACES)
async def test_a_struct_is_read_back_through_a_typed_decoder_as_it_was(
    backend: Backend, place: Callable[[object], Entry]
) -> None:
    read_back = await survives(backend, new_flow_id(), MOLECULE, place)
    typed = msgspec.json.decode(canonical_json(read_back), type=Molecule)
    assert typed == MOLECULE == msgspec.convert(read_back, Molecule)
    assert [type(atom.charge) for atom in typed.atoms] == [float] * 4
    assert [atom.charge for atom in typed.atoms] == [1e16, 6.02214076e23, 1.0, 0.0]


async def test_an_artifact_is_decoded_by_type_from_its_encoded_bytes(backend: Backend) -> None:
    artifact = Artifact.from_payload(kind="Molecule", payload=MOLECULE)
    await append(backend, new_flow_id(), produced(artifact))
    stored = await backend.store.get_artifact(artifact.hash)
    assert msgspec.json.decode(stored.encoded(), type=Molecule) == MOLECULE
    assert stored.verified() == artifact.encoded()


@pytest.mark.parametrize("place", PLACES)
async def test_a_float_that_jsonb_would_turn_into_an_integer_is_read_back_as_a_float(
    backend: Backend, place: Callable[[object], Entry]
) -> None:
    for value in (1e16, 6.02214076e23, 1e21, 1e22, 2.0**53, -(2.0**63), 1e300, 5e-324, 0.1):
        read_back = await survives(backend, new_flow_id(), {"n": [value]}, place)
        assert (read_back["n"][0], type(read_back["n"][0])) == (value, float)


@pytest.mark.parametrize(("place", "prefix"), REFUSALS, ids=NAMES)
async def test_what_is_not_i_json_is_refused_with_its_path_and_stores_nothing(
    backend: Backend, place: Callable[[object], Entry], prefix: str
) -> None:
    flow_id = new_flow_id()
    good = Artifact.from_payload(kind="Value", payload="good")
    kinds: list[FlowEventKind] = [initialized(), StepFinished(0, "acquire", (good.hash,), "f" * 64)]
    for name, (value, path) in REFUSED.items():
        entry = place(value)
        with pytest.raises(InvalidPayload) as caught:
            await backend.store.append_kinds(
                flow_id,
                [*kinds, entry.kind],
                artifacts=[good, *entry.artifacts],
                metadata=entry.metadata,
            )
        assert caught.value.path.startswith(f"{prefix}{path}"[:100]), name
    assert await backend.store.list(flow_id) == []
    with pytest.raises(ArtifactNotFound):
        await backend.store.get_artifact(good.hash)


@pytest.mark.parametrize("place", PLACES)
async def test_a_value_as_deep_as_the_place_allows_is_kept_and_one_deeper_is_refused(
    backend: Backend, place: Callable[[object], Entry]
) -> None:
    above = 0 if place is in_artifact_payload else 1
    await survives(backend, new_flow_id(), nested(MAX_DEPTH - above, 7), place)
    with pytest.raises(InvalidPayload, match="nested deeper"):
        await append(backend, new_flow_id(), place(nested(MAX_DEPTH - above + 1, 7)))


@pytest.mark.parametrize("field", ["kind", "media_type"])
async def test_an_artifact_whose_description_is_no_json_text_stores_nothing(
    backend: Backend, field: str
) -> None:
    flow_id = new_flow_id()
    artifact = Artifact.from_content(kind="Text", content=b"x", media_type="text/plain")
    texts: list[Any] = ["\0", "a\ud800", None, 7]
    for text in texts:
        with pytest.raises(InvalidPayload) as caught:
            await append(
                backend, flow_id, produced(msgspec.structs.replace(artifact, **{field: text}))
            )
        assert caught.value.path == f"$.{field}"
    assert await backend.store.list(flow_id) == []


async def test_a_media_type_is_read_back_as_it_was(backend: Backend) -> None:
    for media_type in ("", "chemical/x-mdl-molfile; charset=utf-8"):
        artifact = Artifact.from_content(
            kind="T", content=media_type.encode(), media_type=media_type
        )
        await append(backend, new_flow_id(), produced(artifact))
        assert await backend.store.get_artifact(artifact.hash) == artifact


@IN_A_DATABASE
@given(value=I_JSON)
async def test_every_i_json_value_survives_in_every_place(backend: Backend, value: object) -> None:
    for place in PLACES:
        await survives(backend, new_flow_id(), value, place)


@pytest.mark.slow
@settings(IN_A_DATABASE, derandomize=False, max_examples=1_500)
@given(value=I_JSON)
async def test_at_length_every_i_json_value_survives_in_every_place(
    backend: Backend, value: object
) -> None:
    for place in PLACES:
        await survives(backend, new_flow_id(), value, place)


async def test_both_stores_give_the_same_values_of_the_same_types(
    memory: Backend, postgres: Backend
) -> None:
    for value in [*SURVIVING.values(), 1e16, [1.0, 1, True], {"a": 2.0**53, "b": 2**53 - 1}]:
        for place in PLACES:
            flow_id, entry = new_flow_id(), place(value)
            for backend in (memory, postgres):
                await append(backend, flow_id, entry)
            one, other = [await read(backend, flow_id, entry) for backend in (memory, postgres)]
            assert one == other
            assert types(one) == types(other)
    assert types(1e16) == "float"


def types(value: object) -> str:
    """Return the types in a value, independent of the order of its keys."""
    match value:
        case dict():
            return "{" + ",".join(f"{key}:{types(value[key])}" for key in sorted(value)) + "}"
        case list():
            return "[" + ",".join(map(types, value)) + "]"
        case _:
            return type(value).__name__
