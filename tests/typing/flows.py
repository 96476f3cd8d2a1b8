"""Flows and their submission as the type checker sees them; checked by `mypy --strict`, never run.

A wrong flow carries the error that it must cause: if it causes none, the ignore is unused, which is
an error.
"""

from datetime import timedelta
from typing import assert_type
from uuid import UUID

import msgspec

from chem_persistence import (
    Ask,
    BlockingStep,
    EventStore,
    Flow,
    FlowClient,
    FlowEngine,
    FlowRepository,
    InMemoryEventStore,
    MaxScore,
    PgEventStore,
    Step,
    StepContext,
    flow,
    step,
)


class Molecule(msgspec.Struct, frozen=True):
    smiles: str


class Conformer(msgspec.Struct, frozen=True):
    smiles: str
    xyz: str


class Energy(msgspec.Struct, frozen=True):
    smiles: str
    hartree: float


class Library(msgspec.Struct, frozen=True):
    path: str


class Embed(BlockingStep[Molecule, Conformer]):
    id = "embed"

    def compute(self, input: Molecule, _context: StepContext) -> Conformer:  # noqa: A002
        return Conformer(input.smiles, "")


class XtbParams(msgspec.Struct, frozen=True):
    method: str = "gfn2"


class Optimise(Step[Conformer, Energy]):
    id = "xtb"

    def __init__(self, params: XtbParams) -> None:
        self.params = params

    async def run(self, input: Conformer, _context: StepContext) -> Energy:  # noqa: A002
        return Energy(input.smiles, -1.0)


@step("read")
def read(library: Library) -> Molecule:
    return Molecule(library.path)


@step("optimise", version="2", params=XtbParams())
async def optimise(conformer: Conformer, context: StepContext) -> Energy:
    context.signal("begun")
    return Energy(conformer.smiles, -1.0)


@step("embed")
def embed(molecule: Molecule, _context: StepContext) -> Conformer:
    return Conformer(molecule.smiles, "")


@step("rename")
async def rename(molecule: Molecule) -> Molecule:
    return molecule


energy = flow("energy", Embed()).then(Optimise(XtbParams()))
assert_type(energy, Flow[Molecule, Energy])
assert_type(flow("read", read), Flow[Library, Molecule])
assert_type(read, Step[Library, Molecule])
assert_type(optimise, Step[Conformer, Energy])
assert_type(embed, Step[Molecule, Conformer])
assert_type(rename, Step[Molecule, Molecule])
functions = flow("functions", read).then(rename).then(embed).then(optimise)
assert_type(functions, Flow[Library, Energy])

flow("wrong", read).then(optimise)  # type: ignore[arg-type]
flow("wrong", Embed()).then(Embed())  # type: ignore[arg-type]
energy.name = "other"  # type: ignore[misc]
energy.steps = ()  # type: ignore[misc]


@step("no input")  # type: ignore[arg-type]
def no_input() -> Molecule:
    return Molecule("C")


async def runs(store: EventStore, repository: FlowRepository) -> None:
    engine = FlowEngine(store, repository, energy)
    assert_type(engine, FlowEngine[Molecule])
    assert_type(await engine.run_to_end(input=Molecule("CCO")), UUID)
    await engine.run_to_end(input=Library("x"))  # type: ignore[arg-type]


async def submits(client: FlowClient) -> None:
    flow_id = await client.submit(
        energy, Molecule("CCO"), ahead=timedelta(hours=1), label="ethanol"
    )
    assert_type(flow_id, UUID)
    assert_type(await client.submit_many(energy, [Molecule("C"), Molecule("CC")]), list[UUID])
    assert_type(await client.result(energy, flow_id, timeout=timedelta(hours=1)), Energy)
    await client.submit(energy, Library("x"))  # type: ignore[misc]
    await client.submit_many(energy, [Library("x")])  # type: ignore[misc]


async def submits_in_a_transaction(memory: InMemoryEventStore, store: PgEventStore) -> None:
    async with store.transaction() as transaction:
        assert_type(await transaction.submit(energy, Molecule("CCO"), label="ethanol"), UUID)
        await transaction.submit(energy, Library("x"))  # type: ignore[misc]
    async with memory.transaction() as in_memory:
        assert_type(await in_memory.submit(energy, Molecule("CCO")), UUID)


# ---- a person


class Verdict(msgspec.Struct, frozen=True):
    accept: bool


class Review(Ask[Energy, Verdict, Energy]):
    id = "review"
    answer = Verdict
    timeout = 3_600.0

    def question(self, energy: Energy) -> str:
        return f"Is {energy.smiles} plausible?"

    def decide(self, energy: Energy, answer: Verdict) -> Energy:
        return energy if answer.accept else Energy("", 0.0)

    def default(self, _: Energy) -> Verdict:
        return Verdict(accept=False)


class OtherAnswer(Ask[Energy, Verdict, Energy]):
    id = "other"
    answer = Molecule  # type: ignore[assignment]

    def question(self, energy: Energy) -> str:
        return energy.smiles

    def decide(self, energy: Energy, _: Molecule) -> Energy:  # type: ignore[override]
        return energy


async def gate(client: FlowClient, flow_id: UUID) -> None:
    await client.answer(flow_id, "review", Verdict(accept=True), actor="Ada")
    await client.answer(flow_id, "review", Verdict(accept=True))  # type: ignore[call-arg]
    await client.signal(flow_id, "review", "hurry", {"by": "Ada"})


assert_type(flow("review", Review()), Flow[Energy, Energy])
flow("embed", Embed()).then(Review())  # type: ignore[arg-type]
assert_type(
    flow("embed", Embed()).with_params({"embed": {"iterations": 5}}), Flow[Molecule, Conformer]
)
flow("embed", Embed()).with_params({"embed": 5})  # type: ignore[dict-item]
flow("embed", Embed()).with_params({}, by="nobody")  # type: ignore[arg-type]


def prefer(context: StepContext, conformers: tuple[Conformer, ...]) -> None:
    assert_type(context.prefer(MaxScore("energy"), conformers), Conformer)
    context.prefer(max, conformers)  # type: ignore[arg-type]
