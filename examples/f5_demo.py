"""The smallest whole flow: four typed steps, run in memory and on PostgreSQL, with the same result.

    python examples/f5_demo.py

Each step takes the struct that the step before it returns. A chain whose types do not fit fails the
type check, and `add_step` raises `InvalidDefinition`. The flow runs on the server that DATABASE_URL
names, else on an embedded one. `f5` marks the files that show the persistence of a flow by itself.
"""

import asyncio
from uuid import UUID, uuid4

import msgspec
from database import open_database
from msgspec.structs import replace

from chem_persistence import (
    EventStore,
    FlowEngine,
    FlowRepository,
    InMemoryEventStore,
    InMemoryFlowRepository,
    PgEventStore,
    PgFlowRepository,
    Step,
    StepContext,
    StepKind,
    StepSlot,
)

WORDS = """\
what the words below mean:
  result       what the last step returned, read back from its artifact
  variants     the letters of the events, in the order in which each came first:
               I flow initialized, S step started, F step finished, C flow completed
  trace        the letter of every event, in the order of the log
  fingerprint  a SHA-256 over definition, inputs and outputs: equal in every run
  step states  status, attempts, outputs and fingerprint of each step, without its times
"""


class Mixture(msgspec.Struct):
    """SMILES of several molecules, with dots between them."""

    smiles: str


class Molecules(msgspec.Struct):
    """SMILES, one a molecule."""

    smiles: list[str]


class Count(msgspec.Struct):
    """The number of molecules that went through the flow."""

    molecules: int


class SeedStep(Step[None, Mixture]):
    """Provide the input."""

    id = "seed"
    kind = StepKind.SOURCE

    def __init__(self, smiles: str) -> None:
        self.params = Mixture(smiles)  # hashed with the definition: another seed is another flow
        self._mixture = self.params

    async def run(self, _nothing: None, _context: StepContext) -> Mixture:
        """Return the mixture."""
        return self._mixture


class SplitStep(Step[Mixture, Molecules]):
    """Split the mixture into its molecules."""

    id = "split"

    async def run(self, mixture: Mixture, _context: StepContext) -> Molecules:
        """Split the SMILES at its dots."""
        return Molecules(mixture.smiles.split("."))


class ForwardStep(Step[Molecules, Molecules]):
    """Pass the molecules on unchanged."""

    id = "forward"

    async def run(self, molecules: Molecules, _context: StepContext) -> Molecules:
        """Return the input."""
        return molecules


class PrintAndCountStep(Step[Molecules, Count]):
    """Print the molecules and count them."""

    id = "print_and_count"
    kind = StepKind.SINK

    async def run(self, molecules: Molecules, _context: StepContext) -> Count:
        """Print each SMILES and return their number."""
        for smiles in molecules.smiles:
            print("  molecule:", smiles)
        return Count(len(molecules.smiles))


async def run_flow(
    name: str, flow_id: UUID, store: EventStore, repository: FlowRepository
) -> tuple[str, list[StepSlot]]:
    """Run the flow on one store; return its fingerprint, and its step states without times."""
    print(f"{name}:")
    engine = (
        FlowEngine.builder(store, repository)
        .first_step(SeedStep("CCO.c1ccccc1.CC(=O)O"))
        .add_step(SplitStep())
        .add_step(ForwardStep())
        .add_step(PrintAndCountStep())
        .build()
    )
    await engine.run_to_end(flow_id)
    instance = await engine.load(flow_id)
    result = await store.get_artifact(instance.steps[-1].outputs[0])
    fingerprint = await engine.flow_fingerprint(flow_id)
    print("  result:     ", result.payload)
    print("  variants:   ", ", ".join(await engine.event_variants(flow_id)))
    print("  trace:      ", " ".join(await engine.event_trace(flow_id)))
    print("  fingerprint:", fingerprint)
    return fingerprint, [
        replace(slot, started_at=None, finished_at=None) for slot in instance.steps
    ]


async def main() -> None:
    """Run the same flow on both stores and compare."""
    print(WORDS)
    flow_id = uuid4()
    memory = InMemoryEventStore()
    in_memory = await run_flow("memory", flow_id, memory, InMemoryFlowRepository(memory))
    async with open_database() as provider:
        on_disk = await run_flow(
            "PostgreSQL", flow_id, PgEventStore(provider), PgFlowRepository(provider)
        )
    print("same fingerprint:", in_memory[0] == on_disk[0])
    print("same step states:", in_memory[1] == on_disk[1])


if __name__ == "__main__":
    asyncio.run(main())

# ruff: noqa: ERA001 - what follows is not code but what the program prints
# Output:
# what the words below mean:
#   result       what the last step returned, read back from its artifact
#   variants     the letters of the events, in the order in which each came first:
#                I flow initialized, S step started, F step finished, C flow completed
#   trace        the letter of every event, in the order of the log
#   fingerprint  a SHA-256 over definition, inputs and outputs: equal in every run
#   step states  status, attempts, outputs and fingerprint of each step, without its times
#
# memory:
#   molecule: CCO
#   molecule: c1ccccc1
#   molecule: CC(=O)O
#   result:      {'molecules': 3}
#   variants:    I, S, F, C
#   trace:       I S F S F S F S F C
#   fingerprint: 669c5fddf54d573c667f5ceb23b33f81be97e9bbe62988a6a440c4913413ea8d
# PostgreSQL:
#   molecule: CCO
#   molecule: c1ccccc1
#   molecule: CC(=O)O
#   result:      {'molecules': 3}
#   variants:    I, S, F, C
#   trace:       I S F S F S F S F C
#   fingerprint: 669c5fddf54d573c667f5ceb23b33f81be97e9bbe62988a6a440c4913413ea8d
# same fingerprint: True
# same step states: True
