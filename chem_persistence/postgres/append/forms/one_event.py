"""One event by its columns: the parameters of the statement `append_one`.

It stores what `rows` would store, for an append that is alone, has one event and no artifacts, and
continues a flow, if the fact is of those that change little else. Migration 0029 describes the
parameters.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from msgspec import UNSET

from chem_persistence.domain.events import (
    BranchCreated,
    FlowCancelled,
    FlowCompleted,
    PropertyPreferenceAssigned,
    StepFinished,
    StepSignal,
    StepStarted,
    is_seal,
)
from chem_persistence.postgres.append.forms.rows import Form, Produced, Write
from chem_persistence.postgres.schema.statements import statement

__all__ = ["ONE_EVENT", "is_one_event"]

APPEND_ONE = statement("events/append_one")

_EFFECTS: Mapping[type, str | None] = {
    BranchCreated: None,
    FlowCancelled: "end",
    FlowCompleted: "end",
    PropertyPreferenceAssigned: None,
    StepFinished: None,
    StepSignal: "call",
    StepStarted: None,
}
"""What a fact does to the row of its flow, if it is of this form."""


def is_one_event(write: Write) -> bool:
    """Return whether to send a write without artifacts, which is alone, in this form."""
    kinds = write.request.kinds
    fact = kinds[0]
    return (
        len(kinds) == 1
        and type(fact) in _EFFECTS
        and write.head.version > 0
        and not is_seal(fact)
        and not (isinstance(fact, StepFinished) and fact.reused_from is not UNSET)
    )


def _columns(writes: Sequence[Write], _: float) -> tuple[tuple[object, ...], Sequence[Produced]]:
    (write,) = writes
    request, head = write.request, write.head
    (fact,) = request.kinds
    index = name = fingerprint = None
    if isinstance(fact, StepStarted):
        index, name = fact.step_index, fact.step_id
    elif isinstance(fact, StepFinished):
        index, name, fingerprint = fact.step_index, fact.step_id, fact.fingerprint
    return (
        request.flow_id,
        head.version,
        head.link,
        request.lease,
        None if request.hold is None else request.keeps,
        request.event_ids[0],
        request.ts,
        write.links[0].hash,
        request.payloads[0],
        request.first_metadata,
        index,
        name,
        fingerprint,
        _EFFECTS[type(fact)],
    ), ()


def _seqs(_: Sequence[Write], rows: Sequence[Any]) -> Sequence[int | None]:
    ((seq,),) = rows
    return (seq,)


ONE_EVENT = Form(APPEND_ONE, _columns, _seqs)
