"""What the writers append, drawn at random: the same seed gives the same load."""

from collections.abc import Sequence
from random import Random
from uuid import UUID, uuid5

import msgspec

from chem_persistence import (
    Artifact,
    FlowEventKind,
    PropertyPreferenceAssigned,
    StepError,
    StepFailed,
    StepFinished,
    StepSignal,
    StepStarted,
    UserInteractionProvided,
    UserInteractionRequested,
    content_hash,
)
from tests.support.flows.flows import DEFINITION, initialized
from tests.torture.writers.records import now

__all__ = ["Load", "Plan"]

NAMESPACE = UUID("5a1ad7ab-3f0c-4e0b-9c55-6a8f1f1f7d01")
EPOCH_SECONDS = 5.0
SHARED_FLOWS = 5
OWN_FLOWS = 2
SHARED_ARTIFACTS = 6
STEPS = [(index, step.id) for index, step in enumerate(DEFINITION.steps)]


class Plan(msgspec.Struct, frozen=True):
    """One append; `at_end` passes no expected version, `with_ids` passes event ids."""

    flow_id: UUID
    kinds: list[FlowEventKind]
    artifacts: list[Artifact]
    at_end: bool
    with_ids: bool


class Load:
    """Draws appends for one task of a `slot`; every few seconds all writers turn to new flows."""

    def __init__(self, seed: int, slot: int, began: float, dice: Random) -> None:
        self._seed, self._slot, self._began, self._dice = seed, slot, began, dice

    def draw(self) -> Plan:
        """Draw an append, of one event or a batch, to a flow of this writer or of all."""
        dice = self._dice
        flow_id = self.flow_id()
        artifacts: dict[str, Artifact] = {}
        batch = dice.choice([1, 1, 1, 1, 2, 3, 5])
        kinds = [self._kind(flow_id, artifacts) for _ in range(batch)]
        at_end, with_ids = dice.random() < 0.5, dice.random() < 0.7
        return Plan(flow_id, kinds, list(artifacts.values()), at_end, with_ids)

    def flow_id(self) -> UUID:
        """Draw one of the current flows."""
        number = self._dice.randrange(SHARED_FLOWS + OWN_FLOWS)
        owner = "all" if number < SHARED_FLOWS else str(self._slot)
        epoch = int((now() - self._began) / EPOCH_SECONDS)
        return uuid5(NAMESPACE, f"{self._seed}/{owner}/{number}/{epoch}")

    def _kind(  # noqa: PLR0911  # a return per kind
        self, flow_id: UUID, artifacts: dict[str, Artifact]
    ) -> FlowEventKind:
        dice = self._dice
        index, step_id = dice.choice(STEPS)
        mark = f"{dice.getrandbits(64):016x}"
        match dice.randrange(9):
            case 0:
                return initialized()
            case 1:
                return StepStarted(index, step_id)
            case 2 | 3 | 4:
                outputs = [self._artifact(flow_id, mark) for _ in range(dice.randint(1, 3))]
                artifacts.update((artifact.hash, artifact) for artifact in outputs)
                return StepFinished(index, step_id, _hashes(outputs), 4 * mark)
            case 5:
                return StepFailed(index, step_id, StepError("ValueError", mark), 4 * mark)
            case 6:
                return PropertyPreferenceAssigned(
                    "logP", mark, 4 * mark, {"why": [mark, 6.02214076e23, -0.0]}
                )
            case 7:
                if dice.random() < 0.5:
                    return UserInteractionRequested(index, step_id, {"ask": mark})
                return UserInteractionProvided(index, step_id, mark, content_hash(mark))
            case _:
                return StepSignal(index, step_id, "said", {"mark": mark, "x": dice.random()})

    def _artifact(self, flow_id: UUID, mark: str) -> Artifact:
        """Return an artifact that the flow's writers share, or a new one."""
        dice = self._dice
        if dice.random() < 0.5:
            shared = f"{self._seed}/{flow_id}/{dice.randrange(SHARED_ARTIFACTS)}"
            return Artifact.from_payload(kind="Shared", payload={"name": shared})
        if dice.random() < 0.5:
            return Artifact.from_payload(kind="Value", payload={"mark": mark, "n": dice.random()})
        content = mark.encode() + dice.randbytes(dice.choice([10, 300, 9000]))
        return Artifact.from_content(kind="Bytes", content=content, media_type="text/plain")


def _hashes(artifacts: Sequence[Artifact]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(artifact.hash for artifact in artifacts))
