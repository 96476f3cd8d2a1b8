"""The equation of state of a metal: relax its crystal, compute seven volumes side by side, fit.

    python examples/equation_of_state.py            # copper
    python examples/equation_of_state.py Au

The crystal is built and relaxed, seven copies of it are scaled, the energy of each is computed by a
flow of its own, and the equation of state of Birch and Murnaghan is fitted to them: F. Birch,
Physical Review 71 (1947), 809. The energies are those of ASE's calculator EMT (effective medium
theory), which knows Ni, Cu, Pd, Ag, Pt and Au. It needs `pip install ase`. The log is on the server
that DATABASE_URL names, else on an embedded one.

Run the program again on the same server, and nothing is computed: the flow's id follows from the
element.
"""

import asyncio
import sys
from contextlib import suppress
from typing import Self
from uuid import UUID, uuid5

import msgspec
from ase import Atoms
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.eos import EquationOfState
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from ase.units import GPa
from database import open_database

from chem_persistence import (
    FlowAlreadyCompleted,
    FlowEngine,
    Many,
    PgEventStore,
    PgFlowRepository,
    RetryPolicy,
    Step,
    StepContext,
    flow,
    step,
)

FLOWS = UUID("2b1f0c1c-6f0a-5d7a-9a57-0d8c2d5f4b11")  # the namespace of this program's flow ids
SCALES = (0.94, 0.96, 0.98, 1.00, 1.02, 1.04, 1.06)  # of the relaxed volume


class Element(msgspec.Struct, frozen=True):
    """A metal whose crystal is face-centred cubic."""

    symbol: str


class Crystal(msgspec.Struct, frozen=True):
    """A periodic cell, its vectors and positions in angstrom."""

    symbols: str
    cell: list[list[float]]
    positions: list[list[float]]

    @classmethod
    def of(cls, atoms: Atoms) -> Self:
        """Return the crystal of ASE's atoms."""
        return cls(str(atoms.symbols), atoms.cell.array, atoms.positions)

    def atoms(self) -> Atoms:
        """Return ASE's atoms, with a calculator of their energy."""
        return Atoms(self.symbols, self.positions, cell=self.cell, pbc=True, calculator=EMT())


class Force(msgspec.Struct, frozen=True):
    """A crystal is relaxed when no force is larger, in electronvolts per angstrom."""

    largest: float


class Energy(msgspec.Struct, frozen=True):
    """The energy of a volume, in electronvolts and cubic angstrom."""

    volume: float
    energy: float


class Fit(msgspec.Struct, frozen=True):
    """The volume of least energy in cubic angstrom, the energy there, and the bulk modulus."""

    volume: float
    energy: float
    bulk_modulus_gpa: float


@step("build")
def build(element: Element) -> Crystal:
    """Return the crystal with the lattice constant that ASE knows."""
    return Crystal.of(bulk(element.symbol))


class Relax(Step[Crystal, Crystal]):
    """Moves the atoms and the cell until no force is left."""

    id = "relax"
    params: Force
    retry = RetryPolicy(attempts=3)

    def __init__(self, params: Force) -> None:
        self.params = params

    async def run(self, crystal: Crystal, _context: StepContext) -> Crystal:
        """Return the relaxed crystal."""
        atoms = crystal.atoms()
        BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=self.params.largest)
        return Crystal.of(atoms)


@step("scale")
def scale(crystal: Crystal) -> Many[Crystal]:
    """Return the crystal in seven volumes."""
    scaled = []
    for share in SCALES:
        atoms = crystal.atoms()
        atoms.set_cell(atoms.cell * share ** (1 / 3), scale_atoms=True)
        scaled.append(Crystal.of(atoms))
    return Many(tuple(scaled))


@step("energy")
def compute_energy(crystal: Crystal) -> Energy:
    """Return the energy of one volume."""
    atoms = crystal.atoms()
    return Energy(atoms.get_volume(), atoms.get_potential_energy())


@step("fit")
def fit(energies: Many[Energy]) -> Fit:
    """Return the parameters of the equation of state."""
    volumes = [point.volume for point in energies.items]
    equation = EquationOfState(
        volumes, [point.energy for point in energies.items], "birchmurnaghan"
    )
    volume, energy, bulk_modulus = equation.fit()
    return Fit(volume, energy, bulk_modulus / GPa)


EQUATION = (
    flow("equation of state", build)
    .then(Relax(Force(0.001)))
    .then(scale)
    .map(flow("volume", compute_energy))
    .then(fit)
)
"""What the command `chem-persistence worker equation_of_state:EQUATION` serves."""


async def main(symbol: str) -> None:
    """Run the flow, and print what it found."""
    flow_id = uuid5(FLOWS, symbol)
    async with open_database() as provider:
        store = PgEventStore(provider)
        engine = FlowEngine(store, PgFlowRepository(provider), EQUATION)
        with suppress(FlowAlreadyCompleted):  # in an earlier run
            await engine.run_to_end(flow_id, Element(symbol))
        slots = (await engine.load(flow_id)).steps
        energies = (await store.get_artifact(slots[-2].outputs[0])).decode(Many[Energy])
        found = (await store.get_artifact(slots[-1].outputs[0])).decode(Fit)
        trace = await engine.event_trace(flow_id)
        await store.aclose()
    print("volume, Å³  energy, meV")
    for point in energies.items:
        print(f"{point.volume:10.3f} {1000 * point.energy:12.2f}")
    print(f"least energy at {found.volume:.2f} Å³, lattice {(4 * found.volume) ** (1 / 3):.3f} Å")
    print(f"bulk modulus {found.bulk_modulus_gpa:.0f} GPa")
    print(" ".join(trace))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else "Cu"))

# Output:
# volume, Å³  energy, meV
#     10.871        12.40
#     11.103         1.30
#     11.334        -5.03
#     11.565        -7.04
#     11.797        -5.16
#     12.028         0.22
#     12.259         8.75
# least energy at 11.57 Å³, lattice 3.590 Å
# bulk modulus 134 GPa
# I S F S F S F S W F S F C
