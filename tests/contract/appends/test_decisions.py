"""A person's answer and its hash, on every store."""

from typing import Any

import pytest
from uuid_utils.compat import uuid7

from chem_persistence import (
    EventIdReused,
    InvalidPayload,
    UserInteractionProvided,
    content_hash,
)
from tests.support.flows.flows import new_flow_id
from tests.support.servers.backends import Backend

ANSWERS = [True, None, {"conformer": 4, "energy": -1e21}, ["C", 1.5], "é", {"b": 1, "a": [1e19]}]


def answer(provided: Any, decision_hash: str = "") -> UserInteractionProvided:
    return UserInteractionProvided(2, "choose", provided, decision_hash)


@pytest.mark.parametrize("provided", ANSWERS)
async def test_a_decision_hash_that_is_left_out_is_computed(
    backend: Backend, provided: Any
) -> None:
    flow_id = new_flow_id()
    whole = answer(provided, content_hash(provided))
    appended = await backend.store.append_kinds(flow_id, [answer(provided), whole])
    assert [event.kind for event in appended] == [whole, whole]
    assert [event.kind for event in await backend.store.list(flow_id)] == [whole, whole]


@pytest.mark.parametrize("provided", ANSWERS)
@pytest.mark.parametrize("wrong", ["0" * 64, "h", content_hash("another answer"), " "])
async def test_a_wrong_decision_hash_is_refused_and_nothing_is_stored(
    backend: Backend, provided: Any, wrong: str
) -> None:
    flow_id = new_flow_id()
    with pytest.raises(InvalidPayload) as caught:
        await backend.store.append_kinds(flow_id, [answer(provided), answer(provided, wrong)])
    assert caught.value.path == "$.decision_hash"
    assert content_hash(provided) in caught.value.reason
    assert await backend.store.list(flow_id) == []


@pytest.mark.parametrize("provided", [float("nan"), 2**53, {"a": "\ud800"}])
async def test_an_answer_that_is_not_i_json_is_refused_with_its_path(
    backend: Backend, provided: Any
) -> None:
    with pytest.raises(InvalidPayload) as caught:
        await backend.store.append_kind(new_flow_id(), answer(provided))
    assert caught.value.path.startswith("$.provided")


async def test_it_is_refused_in_a_transaction_too(backend: Backend) -> None:
    flow_id = new_flow_id()
    async with backend.store.transaction() as opened:
        with pytest.raises(InvalidPayload):
            await opened.append_kind(flow_id, answer(True, "0" * 64))
        event = await opened.append_kind(flow_id, answer(True))
    assert event.kind == answer(True, content_hash(True))


@pytest.mark.parametrize("first", [answer("yes"), answer("yes", content_hash("yes"))])
@pytest.mark.parametrize("second", [answer("yes"), answer("yes", content_hash("yes"))])
async def test_an_answer_is_recognised_with_its_hash_and_without(
    backend: Backend, first: UserInteractionProvided, second: UserInteractionProvided
) -> None:
    flow_id, event_id = new_flow_id(), uuid7()
    original = await backend.store.append_kind(flow_id, first, event_id=event_id)
    assert await backend.store.append_kind(flow_id, second, event_id=event_id) == original
    with pytest.raises(EventIdReused):
        await backend.store.append_kind(flow_id, answer("no"), event_id=event_id)
