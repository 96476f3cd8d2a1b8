"""The author and the reason of an append, set once for a scope."""

import asyncio

import pytest

from chem_persistence import InvalidPayload, event_metadata
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.servers.backends import Backend


async def test_every_append_of_a_scope_carries_its_metadata(backend: Backend) -> None:
    with event_metadata(actor="Ada", reason="calibration", instrument="NMR-3"):
        event = await backend.store.append_kind(new_flow_id(), initialized())
    assert event.metadata == {"actor": "Ada", "reason": "calibration", "instrument": "NMR-3"}
    assert await backend.store.list(event.flow_id) == [event]


async def test_outside_the_scope_an_append_has_no_metadata(backend: Backend) -> None:
    with event_metadata(actor="Ada"):
        pass
    assert (await backend.store.append_kind(new_flow_id(), initialized())).metadata == {}


async def test_an_inner_scope_adds_to_the_outer_and_replaces_what_it_names(
    backend: Backend,
) -> None:
    with event_metadata(actor="Ada", correlation_id="run-7"), event_metadata(actor="Bob"):
        event = await backend.store.append_kind(new_flow_id(), initialized())
    assert event.metadata == {"actor": "Bob", "correlation_id": "run-7"}


async def test_what_the_append_is_given_wins(backend: Backend) -> None:
    with event_metadata(actor="Ada", reason="routine"):
        event = await backend.store.append_kind(
            new_flow_id(), initialized(), metadata={"reason": "repair"}
        )
    assert event.metadata == {"actor": "Ada", "reason": "repair"}


async def test_tasks_at_the_same_time_keep_their_own_scopes(backend: Backend) -> None:
    async def append(actor: str) -> object:
        with event_metadata(actor=actor):
            await asyncio.sleep(0)
            return (await backend.store.append_kind(new_flow_id(), initialized())).metadata["actor"]

    names = [f"actor {n}" for n in range(8)]
    assert await asyncio.gather(*(append(name) for name in names)) == names


async def test_metadata_of_a_scope_follow_the_json_rule(backend: Backend) -> None:
    with event_metadata(weight=float("nan")), pytest.raises(InvalidPayload):
        await backend.store.append_kind(new_flow_id(), initialized())
