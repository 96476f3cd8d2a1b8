"""Flows as values, for tests of clients, definitions and what is shown of them."""

import msgspec

from chem_persistence import Flow, Step, StepContext, flow

__all__ = ["Molecule", "Optimise", "Settings", "energy_flow"]


class Molecule(msgspec.Struct, frozen=True):
    smiles: str


class Settings(msgspec.Struct, frozen=True):
    method: str = "gfn2"
    cycles: int = 20


class Embed(Step[Molecule, Molecule]):
    id = "embed"

    async def run(self, molecule: Molecule, _context: StepContext) -> Molecule:
        return molecule


class Optimise(Step[Molecule, Molecule]):
    """Optimise nothing, and fail for the empty molecule."""

    id = "optimise"
    version = "2"

    def __init__(self, params: Settings) -> None:
        self.params = params
        self._method = params.method

    async def run(self, molecule: Molecule, _context: StepContext) -> Molecule:
        if not molecule.smiles:
            raise ValueError("no atoms")
        return Molecule(f"{molecule.smiles} by {self._method}")


def energy_flow(method: str = "gfn2", name: str = "energy") -> Flow[Molecule, Molecule]:
    return flow(name, Embed()).then(Optimise(Settings(method)))
