"""Artifacts are named by the hash of their bytes."""

import hashlib
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import msgspec
import pytest
import rfc8785
from hypothesis import given
from msgspec.structs import replace

from chem_persistence import Artifact, ArtifactCorrupt, InvalidPayload, canonical_json
from tests.support.flows.json_values import I_JSON, MOLECULE, REFUSED, SURVIVING, Molecule


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_a_payloads_hash_is_the_sha_256_of_its_canonical_json() -> None:
    payload = {"z": 1e16, "a": ["\U0001f9ea", None]}
    artifact = Artifact.from_payload(kind="Value", payload=payload)
    assert artifact.hash == sha256(rfc8785.dumps(payload))  # type: ignore[arg-type]  # dict is invariant
    assert artifact.hash == sha256(artifact.encoded())
    assert artifact.media_type == "application/json"


def test_a_contents_hash_is_the_sha_256_of_its_bytes() -> None:
    artifact = Artifact.from_content(
        kind="Spectrum", content=b"\0\xff", media_type="application/x-mzml"
    )
    assert (artifact.hash, artifact.encoded()) == (sha256(b"\0\xff"), b"\0\xff")


def test_a_payload_is_kept_as_it_will_be_read_back() -> None:
    artifact = Artifact.from_payload(kind="Molecule", payload=MOLECULE)
    assert artifact.payload == msgspec.json.decode(artifact.encoded())
    assert msgspec.json.decode(artifact.encoded(), type=Molecule) == MOLECULE


def test_a_payload_does_not_change_with_the_object_it_was_made_from() -> None:
    payload = {"atoms": ["C"]}
    artifact = Artifact.from_payload(kind="Molecule", payload=payload)
    payload["atoms"].append("H")
    assert artifact.verified() == b'{"atoms":["C"]}'


def test_content_does_not_change_with_the_buffer_it_was_made_from() -> None:
    buffer = bytearray(b"abc")
    artifact = Artifact.from_content(kind="Text", content=buffer, media_type="text/plain")  # type: ignore[arg-type]
    buffer[0] = 0
    assert artifact.verified() == b"abc"


@pytest.mark.parametrize("payload", SURVIVING.values(), ids=SURVIVING)
def test_an_artifact_of_any_json_is_verified(payload: object) -> None:
    artifact = Artifact.from_payload(kind="Value", payload=payload)
    assert artifact.verified() == artifact.encoded()
    assert Artifact.from_payload(kind="Value", payload=artifact.payload) == artifact


@pytest.mark.parametrize(("value", "path"), REFUSED.values(), ids=REFUSED)
def test_what_is_not_i_json_makes_no_artifact(value: object, path: str) -> None:
    with pytest.raises(InvalidPayload) as in_payload:
        Artifact.from_payload(kind="Value", payload=value)
    assert in_payload.value.path == "$" + path
    with pytest.raises(InvalidPayload) as in_metadata:
        Artifact.from_content(
            kind="V", content=b"", media_type="text/plain", metadata={"why": value}
        )
    assert in_metadata.value.path.startswith(f"$.why{path}"[:100])


@pytest.mark.parametrize("metadata", [["Ada"], 7, "", [], 0])
def test_metadata_that_is_no_object_is_refused(metadata: Any) -> None:
    with pytest.raises(InvalidPayload, match="metadata"):
        Artifact.from_payload(kind="Value", payload=1, metadata=metadata)


@pytest.mark.parametrize("metadata", [{"a": 1}, MappingProxyType({"a": 1})])
def test_metadata_may_be_any_mapping(metadata: Any) -> None:
    assert Artifact.from_payload(kind="Value", payload=1, metadata=metadata).metadata == {"a": 1}


def test_kind_metadata_and_media_type_are_not_hashed() -> None:
    plain = Artifact.from_payload(kind="Value", payload=1)
    described = Artifact.from_payload(
        kind="Other", payload=1, metadata={"at": datetime(2026, 1, 1, tzinfo=UTC)}
    )
    assert plain.hash == described.hash
    text = Artifact.from_content(kind="V", content=b"1", media_type="text/plain")
    assert (
        text.hash
        == Artifact.from_content(kind="V", content=b"1", media_type="application/json").hash
    )


@pytest.mark.parametrize(
    "change",
    [{"hash": "0" * 64}, {"payload": 2}, {"content": b"1 "}, {"content": b"1"}, {"hash": "A" * 64}],
)
def test_an_altered_artifact_is_corrupt(change: dict[str, Any]) -> None:
    altered = replace(Artifact.from_payload(kind="Value", payload=1), **change)
    with pytest.raises(ArtifactCorrupt) as caught:
        altered.verified()
    assert caught.value.artifact_hash == altered.hash


def test_a_payload_that_was_changed_inside_is_corrupt() -> None:
    artifact = Artifact.from_payload(kind="Value", payload={"energies": [1.5, 2.5]})
    artifact.payload["energies"][0] = 0.5
    with pytest.raises(ArtifactCorrupt):
        artifact.verified()


@given(I_JSON)
def test_the_bytes_that_are_kept_are_those_that_would_be_made_again(payload: Any) -> None:
    artifact = Artifact.from_payload(kind="Value", payload=payload)
    assert artifact.verified() == replace(artifact).verified() == canonical_json(payload)
    assert artifact == replace(artifact)


@pytest.mark.parametrize("size", [10, 2**18 + 1])
def test_a_payload_of_any_size_verifies(size: int) -> None:
    artifact = Artifact.from_payload(kind="Value", payload="x" * size)
    assert len(artifact.verified()) == size + 2


@pytest.mark.parametrize("field", ["kind", "media_type"])
@pytest.mark.parametrize("text", ["\0", "a\ud800", None, 7])
def test_a_description_that_is_no_json_text_is_refused(field: str, text: Any) -> None:
    artifact = replace(Artifact.from_payload(kind="Value", payload=1), **{field: text})
    with pytest.raises(InvalidPayload) as caught:
        artifact.verified()
    assert caught.value.path == f"$.{field}"


@pytest.mark.parametrize(
    ("made", "changed"), [(1, True), (0, False), (True, 1), (None, float("nan")), (1, 2)]
)
def test_a_payload_that_was_changed_inside_has_another_hash(made: object, changed: object) -> None:
    artifact = Artifact.from_payload(kind="Value", payload={"ok": made})
    artifact.payload["ok"] = changed
    with pytest.raises((ArtifactCorrupt, InvalidPayload)):
        artifact.verified()


def test_a_payload_that_was_changed_inside_to_what_has_the_same_form_is_the_same() -> None:
    artifact = Artifact.from_payload(kind="Value", payload={"ok": 1})
    artifact.payload["ok"] = 1.0
    assert artifact.verified() == b'{"ok":1}'
