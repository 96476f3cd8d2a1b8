"""Flows that run other flows as the type checker sees them; checked by `mypy --strict`, never run.

A wrong flow carries the error that it must cause: if it causes none, the ignore is unused, which is
an error.
"""

from datetime import timedelta
from typing import assert_type
from uuid import UUID

import msgspec

from chem_persistence import (
    BlockingStep,
    ConnectionProvider,
    Flow,
    FlowClient,
    Gathered2,
    Gathered3,
    Gathered4,
    Many,
    ProcessStep,
    RetryPolicy,
    Step,
    StepContext,
    Wait,
    Worker,
    flow,
)


class Molecule(msgspec.Struct, frozen=True):
    smiles: str


class Conformer(msgspec.Struct, frozen=True):
    smiles: str
    xyz: str


class Energy(msgspec.Struct, frozen=True):
    smiles: str
    hartree: float
    imaginary: int = 0


class Table(msgspec.Struct, frozen=True):
    best: str
    rows: int


class Library(msgspec.Struct, frozen=True):
    path: str


class Geometry(msgspec.Struct, frozen=True):
    xyz: str
    converged: bool = False


# ---- a linear flow, and one that waits


class Embed(BlockingStep[Molecule, Conformer]):
    id = "embed"
    retry = RetryPolicy(attempts=3, on=(TimeoutError,))
    timeout = 300.0

    def compute(self, input: Molecule, _context: StepContext) -> Conformer:  # noqa: A002
        return Conformer(input.smiles, "...")


class XtbParams(msgspec.Struct, frozen=True):
    method: str = "gfn2"


class Optimise(Step[Conformer, Energy]):
    id = "xtb"
    uses = {"cores": 4}  # noqa: RUF012

    def __init__(self, params: XtbParams | None = None) -> None:
        self.params = params or XtbParams()

    async def run(self, input: Conformer, _context: StepContext) -> Energy:  # noqa: A002
        return Energy(input.smiles, -1.0)


class Queue(Step[Conformer, Energy]):
    id = "queue"

    async def run(
        self,
        input: Conformer,  # noqa: A002
        context: StepContext,
    ) -> Energy | Wait:
        if context.data is None:
            return Wait(timedelta(minutes=1), {"job": 1})
        return Energy(input.smiles, -1.0)


energy = flow("energy", Embed()).then(Optimise())
assert_type(energy, Flow[Molecule, Energy])
assert_type(flow("queued", Embed()).then(Queue()), Flow[Molecule, Energy])


# ---- map over molecules, and reduce


class Read(Step[Library, Many[Molecule]]):
    id = "read"

    async def run(self, _: Library, _context: StepContext) -> Many[Molecule]:
        return Many((Molecule("C"), Molecule("CC")))


class Rank(Step[Many[Energy], Table]):
    id = "rank"

    async def run(self, input: Many[Energy], _context: StepContext) -> Table:  # noqa: A002
        best = min(input.items, key=lambda energy: energy.hartree)
        return Table(best.smiles, len(input.items))


energies = flow("screen", Read()).map(energy, at_once=500, failures=0.02)
assert_type(energies, Flow[Library, Many[Energy]])
screen = energies.then(Rank())
assert_type(screen, Flow[Library, Table])


# ---- a branch by the result


class Refine(Step[Energy, Energy]):
    id = "refine"

    async def run(self, input: Energy, _context: StepContext) -> Energy:  # noqa: A002
        return input


def is_minimum(energy: Energy) -> str:
    return "saddle" if energy.imaginary else "minimum"


refine = flow("refine", Refine())
checked = energy.choose(is_minimum, {"saddle": refine, "minimum": flow("accept", Refine())})
assert_type(checked, Flow[Molecule, Energy])


# ---- flows inside of flows, side by side


class Prepare(Step[Molecule, Molecule]):
    id = "neutralise"

    async def run(self, input: Molecule, _context: StepContext) -> Molecule:  # noqa: A002
        return input


class Gap(Step[Gathered2[Energy, Energy], Energy]):
    id = "gap"

    async def run(
        self,
        input: Gathered2[Energy, Energy],  # noqa: A002
        _context: StepContext,
    ) -> Energy:
        return Energy(input.first.smiles, input.second.hartree - input.first.hartree)


gap = flow("gap", Prepare()).gather(energy, checked).then(Gap())
assert_type(gap, Flow[Molecule, Energy])
nested = flow("nested", Prepare()).call(gap, id="inner")
assert_type(nested, Flow[Molecule, Energy])
three = flow("three", Prepare()).gather(energy, checked, flow("embed", Embed()))
assert_type(three, Flow[Molecule, Gathered3[Energy, Energy, Conformer]])
four = flow("four", Prepare()).gather(energy, checked, flow("embed", Embed()), energy)
assert_type(four, Flow[Molecule, Gathered4[Energy, Energy, Conformer, Energy]])


# ---- a loop, and a checkpoint


class Begin(Step[Molecule, Geometry]):
    id = "begin"

    async def run(self, _: Molecule, context: StepContext) -> Geometry:
        saved = await context.saved(Geometry)
        assert_type(saved, Geometry | None)
        await context.save(Geometry("..."))
        return saved or Geometry("...")


class Relax(ProcessStep[Geometry, Geometry]):
    id = "relax"

    def compute(self, input: Geometry, context: StepContext) -> Geometry:  # noqa: A002
        geometry = context.saved_blocking(Geometry) or input
        context.save_blocking(geometry)
        return geometry


relaxed = flow("opt", Begin()).repeat(
    flow("block", Relax()), until=lambda geometry: geometry.converged, limit=20
)
assert_type(relaxed, Flow[Molecule, Geometry])


async def linear(client: FlowClient) -> Energy:
    flow_id = await client.submit(energy, Molecule("CCO"))
    return await client.result(energy, flow_id, timeout=timedelta(hours=1))


async def worker(provider: ConnectionProvider) -> None:
    serving = Worker(provider, [energy, screen, checked, gap], at_once=64, limits={"cores": 16})
    await serving.run()
    Worker(provider, [Embed()])  # type: ignore[list-item]
    Worker(provider, energy)  # type: ignore[arg-type]


async def submits(client: FlowClient) -> None:
    flow_id = await client.submit(screen, Library("x"))
    assert_type(await client.result(screen, flow_id, timeout=timedelta(hours=1)), Table)
    await client.submit(energy, Library("x"))  # type: ignore[misc]
    assert_type(await client.submit_many(energy, [Molecule("C"), Molecule("CC")]), list[UUID])
    await client.submit_many(energy, [Library("x")])  # type: ignore[misc]


# ---- what is refused

flow("wrong", Read()).then(Rank())  # type: ignore[arg-type]
energy.map(energy)  # type: ignore[misc, arg-type]
screen.map(energy)  # type: ignore[misc, arg-type]
flow("wrong", Read()).map(energy).then(Rank()).then(Embed())  # type: ignore[arg-type]
flow("wrong", Read()).map(refine)  # type: ignore[arg-type]
energy.call(energy)  # type: ignore[arg-type]
energy.repeat(energy, until=bool, limit=2)  # type: ignore[arg-type]
energy.choose(is_minimum, {"saddle": energy})  # type: ignore[dict-item]
flow("wrong", Prepare()).gather(energy, refine)  # type: ignore[arg-type]
flow("wrong", Prepare()).gather(energy)  # type: ignore[call-overload]


class Late(Step[Conformer, Energy]):
    async def run(  # type: ignore[override]
        self,
        input: Conformer,  # noqa: A002
        _context: StepContext,
    ) -> str | Wait:
        return input.smiles
