"""A flow's definition is stored with its first event, once, and says what differs."""

from typing import Any
from uuid import UUID

import pytest

from chem_persistence import (
    Artifact,
    DefinitionMismatch,
    FlowEngine,
    FlowInitialized,
    InMemoryEventStore,
    InMemoryFlowRepository,
    InvalidArgument,
    StepStarted,
    StoreError,
)
from chem_persistence.domain.definition import MOST_METADATA
from chem_persistence.store.definitions import read_definition, unseen_definitions
from tests.support.flows.flows import new_flow_id
from tests.support.flows.values import Embed, Molecule, Optimise, Settings, energy_flow
from tests.support.servers.backends import Backend


def engine_of(backend: Backend, method: str = "gfn2") -> FlowEngine[Molecule]:
    return FlowEngine(backend.store, backend.repository, energy_flow(method))


async def artifacts_of(backend: Backend, flow_id: UUID) -> list[tuple[int, str]]:
    """Return the artifacts that were first stored with a flow's events: versions and kinds."""
    store: Any = backend.store
    stored = await store.list_artifacts(flow_id)
    return [(each.version, (await store.get_artifact(each.artifact_hash)).kind) for each in stored]


async def test_the_definition_has_its_hash_and_those_of_its_steps(backend: Backend) -> None:
    engine = engine_of(backend)
    await engine.run_to_end(input=Molecule("C"))
    definition = engine.definition
    stored = await backend.store.get_artifact(definition.definition_hash)
    assert stored.payload == {"steps": [step.definition_hash for step in definition.steps]}
    embed, optimise = definition.steps
    assert (await backend.store.get_artifact(embed.definition_hash)).payload == {
        "id": "embed",
        "kind": "transform",
        "version": "1",
        "params": None,
    }
    assert (await backend.store.get_artifact(optimise.definition_hash)).payload == {
        "id": "optimise",
        "kind": "transform",
        "version": "2",
        "params": {"method": "gfn2", "cycles": 20},
    }
    assert await read_definition(backend.store, definition.definition_hash) == definition


async def test_the_definition_belongs_to_the_first_event_of_the_first_flow(
    backend: Backend,
) -> None:
    engine = engine_of(backend)
    first = await engine.run_to_end(input=Molecule("C"))
    second = await engine.run_to_end(input=Molecule("CC"))
    kinds = [kind for version, kind in await artifacts_of(backend, first) if version == 0]
    assert sorted(kinds) == [
        "Molecule",
        "chem_persistence.FlowDefinition",
        "chem_persistence.StepDefinition",
        "chem_persistence.StepDefinition",
    ]
    assert [kind for _, kind in await artifacts_of(backend, second)] == ["Molecule", "Molecule"]


async def test_a_store_is_sent_a_definition_once(backend: Backend) -> None:
    engine = engine_of(backend)
    assert len(unseen_definitions(backend.store, engine.definition)) == 3
    await engine.run_to_end(input=Molecule("C"))
    assert unseen_definitions(backend.store, engine.definition) == ()
    async with backend.reconnected() as again:  # a new process does not know what is stored
        await engine_of(again).run_to_end(input=Molecule("C"))
        assert unseen_definitions(again.store, engine.definition) == ()


async def test_a_definition_is_sent_again_after_an_append_that_failed() -> None:
    class Refusing(InMemoryEventStore):
        is_away = True

        async def _append(self, call: Any) -> Any:
            if self.is_away:
                raise StoreError("away")
            return await super()._append(call)

    store = Refusing()
    engine = FlowEngine(store, InMemoryFlowRepository(store), energy_flow())
    with pytest.raises(StoreError):
        await engine.run_to_end(input=Molecule("C"))
    store.is_away = False
    await engine.run_to_end(input=Molecule("C"))
    assert await read_definition(store, engine.definition.definition_hash) == engine.definition


async def test_another_definition_says_which_parameter_differs(backend: Backend) -> None:
    flow_id = await engine_of(backend, "gfn1").run_to_end(input=Molecule("C"))
    with pytest.raises(DefinitionMismatch) as raised:
        await engine_of(backend, "gfn2").load(flow_id)
    assert raised.value.differences == (
        """step 'optimise': params.method was "gfn1", and is "gfn2\"""",
    )
    assert str(raised.value).endswith(
        """since then step 'optimise': params.method was "gfn1", and is "gfn2\""""
    )
    with pytest.raises(DefinitionMismatch, match=r"params\.method"):
        await engine_of(backend, "gfn2").run_to_end(flow_id)


async def test_a_flow_without_a_stored_definition_works_as_before(backend: Backend) -> None:
    engine, flow_id = engine_of(backend), new_flow_id()
    given = Artifact.from_payload(kind="Molecule", payload=Molecule("C"))
    begun = FlowInitialized(engine.definition.definition_hash, 2, given.hash)
    await backend.store.append_kinds(flow_id, [begun, StepStarted(0, "embed")], artifacts=[given])
    assert await read_definition(backend.store, begun.definition_hash) is None
    with pytest.raises(DefinitionMismatch) as raised:
        await engine_of(backend, "other").load(flow_id)
    assert raised.value.differences == ()
    await engine.run_to_end(flow_id)
    assert (await engine.load(flow_id)).completed


async def test_other_artifacts_are_not_read_as_definitions(backend: Backend) -> None:
    payloads: list[Any] = [None, {"steps": 1}, {"steps": []}, {"steps": ["a" * 64]}]
    payloads.append({"steps": [1]})
    other = [Artifact.from_payload(kind="Table", payload=payload) for payload in payloads]
    await backend.store.append_kind(new_flow_id(), StepStarted(0, "embed"), artifacts=other)
    for artifact in other:
        assert await read_definition(backend.store, artifact.hash) is None


async def test_large_parameters_are_read_from_the_steps(backend: Backend) -> None:
    flow = energy_flow("x" * MOST_METADATA)
    engine = FlowEngine(backend.store, backend.repository, flow)
    await engine.run_to_end(input=Molecule("C"))
    own = await backend.store.get_artifact(flow.definition_hash)
    assert own.metadata == {}
    assert await read_definition(backend.store, flow.definition_hash) == flow.definition


async def test_parameters_that_the_store_does_not_take_do_not_stop_a_flow() -> None:
    store = InMemoryEventStore(max_artifact_bytes=300)
    flow = energy_flow("x" * 300)
    engine = FlowEngine(store, InMemoryFlowRepository(store), flow)
    await engine.run_step(input=Molecule("C"))
    assert await read_definition(store, flow.definition_hash) is None


def test_a_flow_does_not_change() -> None:
    begun = energy_flow()
    longer = begun.then(type("Again", (Embed,), {"id": "again"})())
    assert [step.id for step in begun.steps] == ["embed", "optimise"]
    assert [step.id for step in longer.steps] == ["embed", "optimise", "again"]
    assert begun.definition_hash != longer.definition_hash
    with pytest.raises(AttributeError):
        begun.name = "other"  # type: ignore[misc]


def test_a_name_is_not_hashed_and_must_not_be_empty() -> None:
    assert energy_flow(name="a").definition_hash == energy_flow(name="b").definition_hash
    assert energy_flow(name="a").definition.steps[1].params == {"cycles": 20, "method": "gfn2"}
    with pytest.raises(InvalidArgument, match="name"):
        energy_flow(name="")
    assert Optimise(Settings()).definition() == energy_flow().definition.steps[1]
