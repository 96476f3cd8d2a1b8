"""Sequences of steps as the type checker sees them; checked by `mypy --strict`, never run.

A wrong sequence carries the error that it must cause: if it causes none, the ignore is unused,
which is an error.
"""

from typing import assert_type
from uuid import UUID

import msgspec

from chem_persistence import (
    BlockingStep,
    EventStore,
    FlowBuilder,
    FlowChain,
    FlowEngine,
    FlowInstance,
    FlowRepository,
    Step,
    StepContext,
)


class Mixture(msgspec.Struct):
    smiles: str


class Molecules(msgspec.Struct):
    smiles: list[str]


class NamedMolecules(Molecules):
    name: str = ""


class Count(msgspec.Struct):
    molecules: int


class Seed(Step[None, Mixture]):
    id = "seed"

    async def run(self, _nothing: None, _context: StepContext) -> Mixture:
        return Mixture("CCO")


class Split(Step[Mixture, Molecules]):
    id = "split"

    async def run(self, mixture: Mixture, _context: StepContext) -> Molecules:
        return Molecules(mixture.smiles.split("."))


class SplitWithName(Step[Mixture, NamedMolecules]):
    id = "split with name"

    async def run(self, mixture: Mixture, _context: StepContext) -> NamedMolecules:
        return NamedMolecules(mixture.smiles.split("."))


class SplitPerhaps(Step[Mixture, Molecules | None]):
    id = "split perhaps"

    async def run(self, _mixture: Mixture, _context: StepContext) -> Molecules | None:
        return None


class CountMolecules(BlockingStep[Molecules, Count]):
    id = "count"

    def compute(self, molecules: Molecules, _context: StepContext) -> Count:
        return Count(len(molecules.smiles))


class CountPerhaps(Step[Molecules | None, Count]):
    id = "count perhaps"

    async def run(self, molecules: Molecules | None, _context: StepContext) -> Count:
        return Count(0 if molecules is None else len(molecules.smiles))


def right_sequences(store: EventStore, repository: FlowRepository) -> None:
    builder = assert_type(FlowEngine.builder(store, repository), FlowBuilder)
    seeded = assert_type(builder.first_step(Seed()), FlowChain[None, Mixture])
    split = assert_type(seeded.add_step(Split()), FlowChain[None, Molecules])
    counted = assert_type(split.add_step(CountMolecules()), FlowChain[None, Count])
    assert_type(counted.build(), FlowEngine[None])
    with_input = builder.first_step(Split()).add_step(CountMolecules()).build()
    assert_type(with_input, FlowEngine[Mixture])


def a_step_may_take_more_than_it_is_given(store: EventStore, repository: FlowRepository) -> None:
    seeded = FlowEngine.builder(store, repository).first_step(Seed())
    assert_type(seeded.add_step(SplitWithName()).add_step(CountMolecules()), FlowChain[None, Count])
    assert_type(seeded.add_step(SplitPerhaps()).add_step(CountPerhaps()), FlowChain[None, Count])
    assert_type(seeded.add_step(Split()).add_step(CountPerhaps()), FlowChain[None, Count])


def wrong_sequences(store: EventStore, repository: FlowRepository) -> None:
    builder = FlowEngine.builder(store, repository)
    builder.first_step(Seed()).add_step(CountMolecules())  # type: ignore[arg-type]
    builder.first_step(Seed()).add_step(Seed())  # type: ignore[arg-type]
    builder.first_step(Seed()).add_step(Split()).add_step(Split())  # type: ignore[arg-type]
    builder.first_step(Seed()).add_step(SplitPerhaps()).add_step(CountMolecules())  # type: ignore[arg-type]
    builder.first_step(Seed).add_step(Split())  # type: ignore[arg-type]
    builder.first_step(Seed()).build().add_step(Split())  # type: ignore[attr-defined]
    builder.build()  # type: ignore[attr-defined]


async def inputs(engine: FlowEngine[Mixture], without: FlowEngine[None], flow_id: UUID) -> None:
    assert_type(await engine.run_to_end(input=Mixture("CCO")), UUID)
    assert_type(await engine.run_step(flow_id, Mixture("CCO")), FlowInstance)
    await engine.run_to_end(flow_id)
    await without.run_to_end()
    await engine.run_to_end(input=Molecules([]))  # type: ignore[arg-type]
    await engine.run_step(flow_id, "CCO")  # type: ignore[arg-type]
    await without.run_to_end(input=Mixture("CCO"))  # type: ignore[arg-type]
    await engine.run_to_end("flow")  # type: ignore[arg-type]


async def answers(engine: FlowEngine[None]) -> None:
    assert_type(await engine.event_variants(), list[str])
    assert_type(await engine.event_trace(), list[str])
    assert_type(await engine.flow_fingerprint(), str)
    assert_type(await engine.load(), FlowInstance)


class WrongInput(Step[Mixture, Count]):
    id = "wrong input"

    async def run(self, _molecules: Molecules, _context: StepContext) -> Count:  # type: ignore[override]
        return Count(0)


class WrongOutput(Step[Mixture, Count]):
    id = "wrong output"

    async def run(self, _mixture: Mixture, _context: StepContext) -> Molecules:  # type: ignore[override]
        return Molecules([])


class WrongParams(Step[Mixture, Count]):
    id = "wrong params"
    params = "not a struct"  # type: ignore[assignment]

    async def run(self, _mixture: Mixture, _context: StepContext) -> Count:
        return Count(0)


class Unwritten(Step[Mixture, Count]):
    id = "unwritten"


def a_step_without_run_cannot_be_made() -> None:
    Unwritten()  # type: ignore[abstract]


class OverriddenRun(BlockingStep[Mixture, Count]):
    id = "overridden"

    def compute(self, _mixture: Mixture, _context: StepContext) -> Count:
        return Count(0)

    async def run(self, _mixture: Mixture, _context: StepContext) -> Count:  # type: ignore[misc]
        return Count(0)
