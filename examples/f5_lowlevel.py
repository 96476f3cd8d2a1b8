"""The log without the engine: a flow of one step, its events appended by hand, then replayed.

    python examples/f5_lowlevel.py

This is what the engine does for you, one append at a time. `expected_version` is the number of
events that the writer has seen: a second writer gets a `ConcurrencyConflict` instead of a fork. The
step's artifact is stored in the transaction of the event that names it. The log is on the server
that DATABASE_URL names, else on an embedded one.
"""

import asyncio
from uuid import uuid4

from database import open_database

from chem_persistence import (
    Artifact,
    ConcurrencyConflict,
    FlowCompleted,
    FlowDefinition,
    FlowInitialized,
    PgEventStore,
    PgFlowRepository,
    StepDefinition,
    StepFinished,
    StepKind,
    StepStarted,
    content_hash,
)


async def main() -> None:
    """Append I, S, F and C, read them back, and replay them."""
    step = StepDefinition(id="seed", kind=StepKind.SOURCE)
    definition = FlowDefinition(steps=(step,))
    artifact = Artifact.from_payload(kind="Molecule", payload={"smiles": "CCO"})
    fingerprint = content_hash({"schema": 1, "step": step.definition_hash, "inputs": []})
    finished = {"fingerprint": fingerprint, "outputs": [artifact.hash]}
    flow_fingerprint = content_hash(
        {"schema": 1, "definition": definition.definition_hash, "steps": [finished]}
    )
    flow_id = uuid4()

    async with open_database() as provider:
        store = PgEventStore(provider)
        began = FlowInitialized(definition.definition_hash, step_count=1)
        await store.append_kind(flow_id, began, expected_version=0)
        await store.append_kind(flow_id, StepStarted(0, "seed"), expected_version=1)
        outcome = StepFinished(0, "seed", (artifact.hash,), fingerprint)
        await store.append_kind(flow_id, outcome, artifacts=[artifact], expected_version=2)
        try:
            await store.append_kind(flow_id, outcome, expected_version=2)
        except ConcurrencyConflict as conflict:
            print("a second writer that has seen two events is")
            print(
                f"refused: expected version {conflict.expected}, actual version {conflict.actual}"
            )
        await store.append_kind(flow_id, FlowCompleted(flow_fingerprint), expected_version=3)

        events = await store.list(flow_id)
        print("the log: version, variant (its letter) and type of each event")
        for event in events:
            print(event.version, event.variant, event.event_type)

        repository = PgFlowRepository(provider)
        replayed = await repository.load(flow_id, events, definition)  # the given events
        read = await repository.load(flow_id, None, definition)  # it reads them itself
        print("the replay computes the state from the events alone")
        print("replay lowlevel completed?", str(replayed.completed).lower())
        print(f"steps={len(replayed.steps)}")
        print("the same, read by the repository?", str(read == replayed).lower())
        stored = await store.get_artifact(replayed.steps[0].outputs[0])
        print("what the step produced, read by its hash")
        print("artifact:", stored.kind, stored.payload)


if __name__ == "__main__":
    asyncio.run(main())

# ruff: noqa: ERA001 - what follows is not code but what the program prints
# Output:
# a second writer that has seen two events is
# refused: expected version 2, actual version 3
# the log: version, variant (its letter) and type of each event
# 0 I flowinitialized
# 1 S stepstarted
# 2 F stepfinished
# 3 C flowcompleted
# the replay computes the state from the events alone
# replay lowlevel completed? true
# steps=1
# the same, read by the repository? true
# what the step produced, read by its hash
# artifact: Molecule {'smiles': 'CCO'}
