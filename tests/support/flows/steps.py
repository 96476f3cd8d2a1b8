"""Two steps of a flow; the second one calls a function of the test first."""

from collections.abc import Callable
from typing import Any

import msgspec

from chem_persistence import FlowEngine, Step, StepContext, StepKind
from tests.support.servers.backends import Backend

__all__ = ["Count", "Mixture", "engine_of"]


class Mixture(msgspec.Struct):
    smiles: str


class Count(msgspec.Struct):
    molecules: int


class Acquire(Step[Mixture, Mixture]):
    id = "acquire"

    async def run(self, mixture: Mixture, _context: StepContext) -> Mixture:
        return mixture


class CountMolecules(Step[Mixture, Count]):
    id = "count"
    kind = StepKind.SINK

    def __init__(self, act: Callable[[StepContext], Any]) -> None:
        self._act = act

    async def run(self, mixture: Mixture, context: StepContext) -> Count:
        self._act(context)
        return Count(len(mixture.smiles.split(".")))


def engine_of(
    backend: Backend, act: Callable[[StepContext], Any] = lambda _context: None
) -> FlowEngine[Mixture]:
    builder = FlowEngine.builder(backend.store, backend.repository)
    return builder.first_step(Acquire()).add_step(CountMolecules(act)).build()
