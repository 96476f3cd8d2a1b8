"""Which artifacts of children a process keeps, and for how long."""

import pytest

from chem_persistence import Artifact, InMemoryEventStore
from chem_persistence.engine.children import kept
from chem_persistence.engine.children.kept import keep_artifact, take_artifacts


def artifact(number: int, size: int = 1) -> Artifact:
    return Artifact.from_payload(kind="Number", payload=[number, "x" * size])


def test_an_artifact_is_kept_until_it_is_taken() -> None:
    store, first, second = InMemoryEventStore(), artifact(1), artifact(2)
    keep_artifact(store, first)
    keep_artifact(store, second)
    assert take_artifacts(store, [first.hash, "absent", first.hash]) == {first.hash: first}
    assert take_artifacts(store, [first.hash, second.hash]) == {second.hash: second}


def test_it_is_kept_for_the_store_that_has_it() -> None:
    store, only = InMemoryEventStore(), artifact(1)
    keep_artifact(store, only)
    assert take_artifacts(InMemoryEventStore(), [only.hash]) == {}


def test_a_large_artifact_is_not_kept() -> None:
    store, large = InMemoryEventStore(), artifact(1, kept.MOST_BYTES)
    keep_artifact(store, large)
    assert take_artifacts(store, [large.hash]) == {}


def test_of_many_artifacts_the_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST_ARTIFACTS", 2)
    store, made = InMemoryEventStore(), [artifact(number) for number in range(3)]
    for each in (made[0], made[1], made[0], made[2]):
        keep_artifact(store, each)
    found = take_artifacts(store, [each.hash for each in made])
    assert list(found.values()) == [made[0], made[2]]
