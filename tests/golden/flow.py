"""The flow of the golden logs, as a program of the library's first version would write it.

Never changed: the fingerprints of its steps are in the logs.
"""

import msgspec

from chem_persistence import (
    Artifact,
    EventStore,
    FlowEngine,
    FlowRepository,
    Step,
    StepContext,
    StepKind,
)

__all__ = ["Failure", "Mixture", "golden_engine", "golden_steps"]


class Mixture(msgspec.Struct):
    smiles: str


class Molecules(msgspec.Struct):
    smiles: list[str]


class Masses(msgspec.Struct):
    daltons: list[float]


class Weights(msgspec.Struct):
    carbon: float = 12.011
    other: float = 1e-7


class Failure:
    """The step after which a flow is left: it raises, or its process dies."""

    def __init__(self, step_id: str = "", error: BaseException | None = None) -> None:
        self._step_id = step_id
        self._error = error

    def strike(self, step_id: str) -> None:
        """Raise the error, once."""
        if step_id == self._step_id and self._error is not None:
            error, self._error = self._error, None
            raise error


class Split(Step[Mixture, Molecules]):
    id = "split"
    kind = StepKind.SOURCE

    def __init__(self, failure: Failure) -> None:
        self._failure = failure

    async def run(self, mixture: Mixture, context: StepContext) -> Molecules:
        self._failure.strike(self.id)
        parts = mixture.smiles.split(".")
        context.signal("split", {"parts": len(parts), "share": 1 / len(parts)})
        return Molecules(parts)


class Weigh(Step[Molecules, Masses]):
    id = "weigh"
    version = "2"
    params: Weights

    def __init__(self, failure: Failure) -> None:
        self.params = Weights()
        self._failure = failure

    async def run(self, molecules: Molecules, context: StepContext) -> Masses:
        self._failure.strike(self.id)
        context.add_artifact(
            Artifact.from_content(kind="Report", content=b"\x00\xff", media_type="text/plain")
        )
        return Masses([len(smiles) * self.params.carbon for smiles in molecules.smiles])


class Total(Step[Masses, Masses]):
    id = "total"
    kind = StepKind.SINK

    def __init__(self, failure: Failure) -> None:
        self._failure = failure

    async def run(self, masses: Masses, _context: StepContext) -> Masses:
        self._failure.strike(self.id)
        return Masses([sum(masses.daltons), 1e22, -0.0])


def golden_steps(failure: Failure) -> tuple[Split, Weigh, Total]:
    return Split(failure), Weigh(failure), Total(failure)


def golden_engine(
    store: EventStore, repository: FlowRepository, failure: Failure
) -> FlowEngine[Mixture]:
    """Return the engine that runs the flow, in every version of the library."""
    split, weigh, total = golden_steps(failure)
    builder = FlowEngine.builder(store, repository)
    return builder.first_step(split).add_step(weigh).add_step(total).build()
