"""One attempt at one step: decode the input, run, encode the output."""

from typing import Any
from uuid import UUID

import msgspec

from chem_persistence.domain.artifacts import Artifact
from chem_persistence.domain.fingerprints import step_fingerprint
from chem_persistence.engine.step import Step, StepContext
from chem_persistence.engine.steps_fit import members, step_types
from chem_persistence.store.ports import EventStore

__all__ = ["Attempt"]


class Attempt:
    """An attempt at `step`, on the artifact `given` (None: nothing comes in)."""

    def __init__(
        self,
        step: Step[Any, Any],
        given: Artifact | None,
        *,
        definition_hash: str,
        store: EventStore,
        flow_id: UUID,
        step_index: int,
        number: int,
    ) -> None:
        inputs = [] if given is None else [given.hash]
        self.fingerprint = step_fingerprint(definition_hash, inputs)
        self.context = StepContext(
            store=store,
            flow_id=flow_id,
            step_index=step_index,
            step_id=step.id,
            attempt=number,
            fingerprint=self.fingerprint,
        )
        self._step = step
        self._given = given

    async def produce(self) -> list[Artifact]:
        """Run the step and give its artifacts, its own output first (None is `null`); raises whatever the step raises."""
        takes, gives = step_types(self._step)
        value = (
            None if self._given is None else msgspec.json.decode(self._given.encoded(), type=takes)
        )
        output = await self._step.run(value, self.context)
        if not isinstance(output, members(gives)):
            raise TypeError(f"step {self._step.id!r} returned {type(output).__qualname__}")
        own = Artifact.from_payload(kind=type(output).__qualname__, payload=output)
        return [own, *self.context.artifacts]
