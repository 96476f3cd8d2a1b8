"""Lists of flows: the newest that fit, however many or few of the log's flows fit."""

from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from chem_persistence.domain.flow_state import FlowState
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.schema.statements import statement

__all__ = ["FlowFilter", "list_flow_rows"]

COUNT_CANDIDATES = statement("flows/count_candidates")
FIND_DEFINITIONS_WITHOUT_STEP = statement("flows/find_definitions_without_step")
LIST_DEFINITIONS_OF_RUNS = statement("flows/list_definitions_of_runs")
LIST_FAILED_FLOWS = statement("flows/list_failed_flows")
LIST_FLOWS = statement("flows/list_flows")
LIST_FLOWS_BY_STATE = statement("flows/list_flows_by_state")
LIST_FLOWS_OF_DEFINITION = statement("flows/list_flows_of_definition")
LIST_LABELLED_FLOWS = statement("flows/list_labelled_flows")
LIST_ROOT_FLOWS = statement("flows/list_root_flows")
LIST_ROOT_FLOWS_OF_DEFINITION = statement("flows/list_root_flows_of_definition")

LOOKED_AT = 1_000
"""How many of the newest flows are looked at first: where one in twenty fits, a page is there."""

LOOKED_AT_NEXT = 20_000
"""How many at most are looked at then, unless fewer candidates are known: one of 400 may fit."""

MOST_CANDIDATES = 100_000
"""From so many candidates at most a list is made; from more, the newest soon fill a page."""

MOST_COUNTED = 20_000
"""Flows with a label or error are counted so far: each costs as much as to list it."""

MOST_DEFINITIONS = 1_000
"""Of so many definitions at most it is looked up which of them have a step."""

CANDIDATE = 3
"""As many of the newest flows, if some fit, are looked at as one candidate is looked up."""

MORE_THAN_EXPECTED = 2
"""How many times as many flows are looked at as fill a page if as many fit as among the first."""

ALL = 2**62


class FlowFilter(NamedTuple):
    """Which flows are listed, in the order of the statements' parameters; None is any.

    `label` is how the label begins, `step` a step that has begun and is not finished, `error` the
    class of the error of a failed step, or what follows a dot in it.
    """

    started_at: datetime | None
    flow_id: UUID | None
    definition_hash: str | None
    limit: int
    roots: bool
    label: str | None
    state: FlowState | None
    step: str | None
    error: str | None
    since: datetime | None

    @property
    def is_by_state(self) -> bool:
        """Whether a flow's state or its steps decide whether it fits."""
        return any(each is not None for each in (self.state, self.step, self.error))

    @property
    def is_by_failure(self) -> bool:
        """Whether only flows with a failed step fit, or with a step that has failed so."""
        return self.error is not None or self.state is FlowState.FAILED


async def list_flow_rows(session: Session, wanted: FlowFilter) -> list[Any]:
    """Return one page of the rows of flows that fit, the newest first.

    The newest flows are looked at first, and then more of them. If still too few of them fit, the
    page is made from what the flows that fit have in common: those with the label, those that are
    not over (of the definitions that have the step), that have ended so, or that have failed so,
    whichever are the fewest; or by looking at still more of the newest, if that is less to do.
    """
    newest = _newest(wanted)
    if wanted.label is None and not wanted.is_by_state:
        return await session.fetch(newest, *wanted, wanted.limit)
    looked_at = max(LOOKED_AT, wanted.limit)
    rows = await session.fetch(newest, *wanted, looked_at)
    if len(rows) == wanted.limit:
        return rows
    definitions = await _definitions_with_step(session, wanted)
    labelled, fewest = await _candidates(session, wanted, definitions)
    for most in (LOOKED_AT_NEXT, ALL):
        expected = MORE_THAN_EXPECTED * looked_at * wanted.limit // max(len(rows), 1)
        if looked_at < min(expected, most) < (CANDIDATE if rows else 1) * fewest:
            looked_at = min(expected, most)
            rows = await session.fetch(newest, *wanted, looked_at)
            if len(rows) == wanted.limit:
                return rows
    if fewest >= MOST_CANDIDATES:
        return await session.fetch(newest, *wanted, ALL)
    if labelled == fewest:
        return await session.fetch(LIST_LABELLED_FLOWS, *wanted, MOST_CANDIDATES)
    if wanted.is_by_failure:
        listed = session.fetch(LIST_FAILED_FLOWS, *wanted)
    else:
        listed = session.fetch(LIST_FLOWS_BY_STATE, *wanted, definitions)
    return await listed


async def _definitions_with_step(session: Session, wanted: FlowFilter) -> list[str] | None:
    """Return the definitions of the flows that are not over which have the step; None for any.

    One whose steps are not known is among them. A flow whose events name a step that its definition
    does not have cannot be replayed.
    """
    if wanted.step is None or wanted.is_by_failure:
        return None
    if wanted.definition_hash is not None:
        hashes = [wanted.definition_hash]
    else:
        rows = await session.fetch(LIST_DEFINITIONS_OF_RUNS, MOST_DEFINITIONS + 1)
        hashes = [row["definition_hash"] for row in rows]
    if len(hashes) > MOST_DEFINITIONS:
        return None
    rows = await session.fetch(FIND_DEFINITIONS_WITHOUT_STEP, hashes, wanted.step)
    without = {row["definition_hash"] for row in rows}
    return [name for name in hashes if name not in without]


async def _candidates(
    session: Session, wanted: FlowFilter, definitions: list[str] | None
) -> tuple[int, int]:
    """Return how many flows have the label, and from how many at least a page can be made."""
    counted = await session.fetch(
        COUNT_CANDIDATES,
        MOST_CANDIDATES,
        *(wanted.label, wanted.state, wanted.definition_hash),
        *(MOST_COUNTED, wanted.error, definitions),
    )
    sides = {row["side"]: row["flows"] for row in counted}
    labelled = sides.pop("label")
    by_state = sum(sides.values()) if wanted.is_by_state else ALL
    if wanted.label is None or (labelled == MOST_COUNTED and by_state < MOST_CANDIDATES):
        labelled = ALL
    return labelled, min(labelled, by_state)


def _newest(wanted: FlowFilter) -> str:
    if wanted.definition_hash is None:
        return LIST_ROOT_FLOWS if wanted.roots else LIST_FLOWS
    return LIST_ROOT_FLOWS_OF_DEFINITION if wanted.roots else LIST_FLOWS_OF_DEFINITION
