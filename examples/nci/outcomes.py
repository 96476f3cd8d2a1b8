"""What the log says of the molecules' flows: events, results, failures and repeated step runs."""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import TypeAlias
from uuid import UUID

from chem_persistence import (
    Artifact,
    FlowCompleted,
    FlowDefinition,
    FlowEvent,
    FlowInstance,
    FlowRepository,
    PgEventStore,
    StepFailed,
    StepFinished,
    StepStarted,
    StepStatus,
)
from nci.molecules import Molecule, Verdict
from nci.report import Failure, Outcome

__all__ = ["read_logs", "read_outcomes", "repeated_runs"]

Log: TypeAlias = list[FlowEvent]

TOGETHER = 200
"""The number of flows whose logs are read at the same time."""


async def read_logs(
    store: PgEventStore, flow_ids: Sequence[UUID]
) -> AsyncIterator[tuple[UUID, list[FlowEvent]]]:
    """Yield the events of each flow."""
    for first in range(0, len(flow_ids), TOGETHER):
        part = flow_ids[first : first + TOGETHER]
        logs = await store.list_many(part)
        for flow_id in part:
            yield flow_id, logs[flow_id]


async def read_outcomes(
    store: PgEventStore,
    repository: FlowRepository,
    definition: FlowDefinition,
    children: Mapping[UUID, Molecule],
    seen: Mapping[UUID, Log],
) -> list[Outcome]:
    """Return the outcome of each molecule, in order; `seen` has the events before this run.

    A flow that was completed before is not read again.
    """
    logs = {
        flow_id: log for flow_id, log in seen.items() if isinstance(log[-1].kind, FlowCompleted)
    }
    left = [flow_id for flow_id in children if flow_id not in logs]
    logs |= {flow_id: log async for flow_id, log in read_logs(store, left)}
    instances = {
        flow_id: await repository.load(flow_id, logs[flow_id], definition) for flow_id in children
    }
    results = [each.steps[-1].outputs[0] for each in instances.values() if each.completed]
    verdicts = {
        read.hash: read.decode(Verdict)
        async for read in store.get_artifacts(list(dict.fromkeys(results)))
        if isinstance(read, Artifact)
    }
    return [
        _outcome(molecule, logs[flow_id], instances[flow_id], verdicts, len(seen.get(flow_id, ())))
        for flow_id, molecule in children.items()
    ]


def _outcome(
    molecule: Molecule,
    log: Log,
    instance: FlowInstance,
    verdicts: Mapping[str, Verdict],
    seen: int,
) -> Outcome:
    last = log[-1].kind
    is_completed = isinstance(last, FlowCompleted)
    hashes = {output for slot in instance.steps for output in slot.outputs}
    return Outcome(
        key=f"{molecule.name}\t{molecule.smiles}",
        name=molecule.name,
        events=len(log),
        new_events=len(log) - seen,
        repeated=repeated_runs(log),
        **_outcomes_of_steps(log[seen:]),
        artifacts=frozenset(hashes | {instance.input} if instance.input else hashes),
        fingerprint=last.flow_fingerprint if isinstance(last, FlowCompleted) else None,
        verdict=verdicts[instance.steps[-1].outputs[0]] if is_completed else None,
        failure=_failure(instance),
    )


def _failure(instance: FlowInstance) -> Failure | None:
    for slot in instance.steps:
        if slot.status is StepStatus.FAILED and slot.error is not None:
            return Failure(
                slot.step_id, slot.error.error_class.rpartition(".")[2], slot.error.message
            )
    return None


def _outcomes_of_steps(log: Iterable[FlowEvent]) -> dict[str, int]:
    """Return how many steps ended by a run, and how many took a result over."""
    facts = [event.kind for event in log if isinstance(event.kind, StepFinished | StepFailed)]
    taken = sum(isinstance(fact, StepFinished) and bool(fact.reused_from) for fact in facts)
    return {"computed": len(facts) - taken, "taken": taken}


def repeated_runs(log: Iterable[FlowEvent]) -> int:
    """Return how many runs of a flow's steps have no outcome: the steps were run again."""
    runs = 0
    for event in log:
        if isinstance(event.kind, StepStarted):
            runs += 1
        elif isinstance(event.kind, StepFailed) or (
            isinstance(event.kind, StepFinished) and not event.kind.reused_from
        ):
            runs -= 1
    return runs
