"""Stores that each break one guarantee in some appends; the checker must find every one.

Each mutation is a function that answers an append instead of the sound store. It returns None to
leave an append to the sound store.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from random import Random
from typing import Any, TypeAlias
from uuid import UUID

import asyncpg
import msgspec
from uuid_utils.compat import uuid7

from chem_persistence import (
    Artifact,
    ConcurrencyConflict,
    FeedPosition,
    FlowEvent,
    FlowEventKind,
    PgEventStore,
    StepSignal,
    StoreError,
    StoreUnavailable,
)
from tests.torture.checker.findings import Flaw

__all__ = ["APPENDS", "MUTATIONS", "Mutant", "Mutate", "Mutation", "SkippingStore"]

SHARE = 0.2
"""The share of the appends that are passed to the mutation."""

APPENDS = 300
MOST_APPENDS = 3_000


class Request(msgspec.Struct, frozen=True):
    """The arguments of `append_kinds`."""

    flow_id: UUID
    kinds: Sequence[FlowEventKind]
    artifacts: Sequence[Artifact]
    expected_version: int | None
    event_ids: Sequence[UUID] | None
    metadata: Mapping[str, Any] | None


class Mutant:
    """A store around a sound one; `intruder` is a superuser's session without triggers.

    `enough` is set after this many `strikes` and APPENDS, and in any case after MOST_APPENDS.
    """

    def __init__(
        self,
        store: PgEventStore,
        intruder: "asyncpg.Connection[asyncpg.Record]",
        mutate: "Mutate",
        strikes: int,
        dice: Random,
    ) -> None:
        self.intruder = intruder
        self.struck = 0
        self.enough = asyncio.Event()
        self._appends, self._strikes = 0, strikes
        self._store, self._mutate, self._dice = store, mutate, dice

    async def append_kind(
        self, flow_id: UUID, kind: FlowEventKind, *, event_id: UUID | None = None, **options: Any
    ) -> FlowEvent:
        ids = None if event_id is None else [event_id]
        return (await self.append_kinds(flow_id, [kind], event_ids=ids, **options))[0]

    async def append_kinds(
        self,
        flow_id: UUID,
        kinds: Sequence[FlowEventKind],
        *,
        artifacts: Sequence[Artifact] = (),
        expected_version: int | None = None,
        event_ids: Sequence[UUID] | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> list[FlowEvent]:
        request = Request(flow_id, kinds, artifacts, expected_version, event_ids, metadata)
        self._appends += 1
        struck = self.struck >= self._strikes
        if (struck and self._appends >= APPENDS) or self._appends >= MOST_APPENDS:
            self.enough.set()
        answer = None
        if self._dice.random() < SHARE:
            answer = await self._mutate(self, request)
        return await self.sound(request) if answer is None else answer

    async def get_artifact(self, artifact_hash: str) -> Artifact:
        return await self._store.get_artifact(artifact_hash)

    async def sound(self, request: Request, **changes: Any) -> list[FlowEvent]:
        """Append as the sound store does, with some arguments changed."""
        request = msgspec.structs.replace(request, **changes)
        return await self._store.append_kinds(
            request.flow_id,
            request.kinds,
            artifacts=request.artifacts,
            expected_version=request.expected_version,
            event_ids=request.event_ids,
            metadata=request.metadata,
        )

    async def is_stale(self, request: Request) -> bool:
        """Check whether the flow has more events than the caller expects."""
        assert request.expected_version is not None
        return bool(await self.list(request.flow_id, after_version=request.expected_version - 1))

    async def list(
        self, flow_id: UUID, *, after_version: int = -1, limit: int | None = None
    ) -> list[FlowEvent]:
        return await self._store.list(flow_id, after_version=after_version, limit=limit)


Answer: TypeAlias = list[FlowEvent] | None
Mutate: TypeAlias = Callable[[Mutant, Request], Awaitable[Answer]]


class Mutation(msgspec.Struct, frozen=True):
    """How a mutant answers, and the flaws that the checker must find at least."""

    mutate: Mutate
    flaws: set[Flaw]


# ---- guarantee 1: atomic


async def _stores_a_part(mutant: Mutant, request: Request) -> Answer:
    if len(request.kinds) == 1:
        return None
    mutant.struck += 1
    ids = request.event_ids
    return await mutant.sound(request, kinds=request.kinds[:-1], event_ids=ids and ids[:-1])


async def _loses_artifacts(mutant: Mutant, request: Request) -> Answer:
    if not request.artifacts:
        return None
    events = await mutant.sound(request)
    hashes = [artifact.hash for artifact in request.artifacts]
    statement = "DELETE FROM workflow_step_artifacts WHERE artifact_hash = ANY ($1)"
    await mutant.intruder.execute(statement, hashes)
    mutant.struck += 1
    return events


async def _keeps_artifacts_of_a_conflict(mutant: Mutant, request: Request) -> Answer:
    try:
        return await mutant.sound(request)
    except ConcurrencyConflict:
        for artifact in request.artifacts:
            statement = (
                "INSERT INTO workflow_step_artifacts (artifact_hash, kind, content, media_type,"
                " metadata, flow_id, produced_in_seq)"
                " VALUES ($1, 'Stray', 'x', 'text/plain', '{}', $2, 1) ON CONFLICT DO NOTHING"
            )
            await mutant.intruder.execute(statement, artifact.hash, request.flow_id)
            mutant.struck += 1
        raise


# ---- guarantee 2: exactly once


async def _acknowledges_what_it_never_stores(mutant: Mutant, request: Request) -> Answer:
    if request.expected_version is not None and await mutant.is_stale(request):
        return None
    events = await mutant.list(request.flow_id)
    if not events:
        return None
    mutant.struck += 1
    ids = request.event_ids or [uuid7() for _ in request.kinds]
    return [
        msgspec.structs.replace(
            events[-1], version=len(events) + index, event_id=event_id, kind=kind
        )
        for index, (kind, event_id) in enumerate(zip(request.kinds, ids, strict=True))
    ]


async def _stores_twice(mutant: Mutant, request: Request) -> Answer:
    events = await mutant.sound(request)
    ids = [uuid7() for _ in request.kinds]
    await mutant.sound(request, expected_version=None, event_ids=ids)
    mutant.struck += 1
    return events


async def _forgets_ids_when_the_reply_is_lost(mutant: Mutant, request: Request) -> Answer:
    if request.event_ids is None:
        return None
    await mutant.sound(request, event_ids=[uuid7() for _ in request.kinds])
    mutant.struck += 1
    raise StoreUnavailable("the reply is lost")


async def _stores_and_refuses(mutant: Mutant, request: Request) -> Answer:
    await mutant.sound(request)
    mutant.struck += 1
    raise StoreError("refused")


async def _invents_a_conflict(mutant: Mutant, request: Request) -> Answer:
    if request.expected_version is None or await mutant.is_stale(request):
        return None
    mutant.struck += 1
    expected = request.expected_version
    raise ConcurrencyConflict(request.flow_id, expected, expected + 1)


async def _acknowledges_another_version(mutant: Mutant, request: Request) -> Answer:
    events = await mutant.sound(request)
    mutant.struck += 1
    return [msgspec.structs.replace(event, version=event.version + 1) for event in events]


# ---- guarantee 3: one history


async def _ignores_the_expected_version(mutant: Mutant, request: Request) -> Answer:
    if request.expected_version is None or not await mutant.is_stale(request):
        return None
    events = await mutant.sound(request, expected_version=None)
    mutant.struck += 1
    return events


async def _forks(mutant: Mutant, request: Request) -> Answer:
    last = (await mutant.sound(request))[-1]
    statement = """
        INSERT INTO event_log
            (flow_id, version, event_id, ts, event_type, payload, metadata, chain_hash)
        SELECT flow_id, version, gen_random_uuid(), ts, event_type, payload, metadata, chain_hash
        FROM event_log WHERE flow_id = $1 AND version = $2
    """
    await mutant.intruder.execute(statement, last.flow_id, last.version)
    mutant.struck += 1
    raise StoreUnavailable("the reply is lost")


# ---- guarantee 4: append-only


async def _changes_an_event(mutant: Mutant, request: Request) -> Answer:
    return await _then(
        mutant,
        request,
        "UPDATE event_log SET ts = ts - interval '1 s' WHERE flow_id = $1 AND version = 0",
    )


async def _deletes_the_last_event(mutant: Mutant, request: Request) -> Answer:
    return await _then(
        mutant,
        request,
        "DELETE FROM event_log WHERE flow_id = $1 AND version ="
        " (SELECT max(version) FROM event_log WHERE flow_id = $1)",
    )


# ---- guarantee 5: parity


async def _rounds_a_number(mutant: Mutant, request: Request) -> Answer:
    if not any(isinstance(kind, StepSignal) for kind in request.kinds):
        return None
    kinds = [
        msgspec.structs.replace(kind, data={"x": 0.5}) if isinstance(kind, StepSignal) else kind
        for kind in request.kinds
    ]
    events = await mutant.sound(request, kinds=kinds)
    mutant.struck += 1
    return events


async def _counts_an_attempt_twice(mutant: Mutant, request: Request) -> Answer:
    return await _then(
        mutant,
        request,
        "UPDATE workflow_step_executions SET attempts = attempts + 1 WHERE flow_id = $1",
    )


# ---- guarantee 6: loud


async def _refuses_without_a_cause(mutant: Mutant, _request: Request) -> Answer:
    mutant.struck += 1
    raise StoreError("refused", "57014")


async def _then(mutant: Mutant, request: Request, statement: str) -> Answer:
    """Append, then damage the flow."""
    events = await mutant.sound(request)
    mutant.struck += int((await mutant.intruder.execute(statement, request.flow_id))[-1] != "0")
    return events


MUTATIONS = {
    "stores a part of a batch": Mutation(_stores_a_part, {Flaw.TORN}),
    "loses artifacts": Mutation(_loses_artifacts, {Flaw.ARTIFACT_MISSING}),
    "keeps the artifacts of a conflict": Mutation(
        _keeps_artifacts_of_a_conflict, {Flaw.ARTIFACT_STRAY}
    ),
    "acknowledges what it never stores": Mutation(_acknowledges_what_it_never_stores, {Flaw.LOST}),
    "stores an append twice": Mutation(_stores_twice, {Flaw.DOUBLED}),
    "forgets the ids when the reply is lost": Mutation(
        _forgets_ids_when_the_reply_is_lost, {Flaw.DOUBLED}
    ),
    "stores and refuses": Mutation(_stores_and_refuses, {Flaw.REFUSED}),
    "invents a conflict": Mutation(_invents_a_conflict, {Flaw.CONFLICT}),
    "acknowledges another version": Mutation(_acknowledges_another_version, {Flaw.ALTERED}),
    "ignores the expected version": Mutation(_ignores_the_expected_version, {Flaw.MISPLACED}),
    "forks a flow": Mutation(_forks, {Flaw.FORKED}),
    "changes an event": Mutation(_changes_an_event, {Flaw.ALTERED, Flaw.CHAIN}),
    "deletes the last event": Mutation(_deletes_the_last_event, {Flaw.LOST}),
    "rounds a number": Mutation(_rounds_a_number, {Flaw.ALTERED}),
    "counts an attempt twice": Mutation(_counts_an_attempt_twice, {Flaw.PROJECTION}),
    "refuses without a cause": Mutation(_refuses_without_a_cause, {Flaw.UNCAUSED}),
}


class SkippingStore(PgEventStore):
    """Breaks guarantee 7, the commit-safe feed: a page of the feed lacks its first event."""

    async def read_feed(
        self, *, after_seq: int | FeedPosition = 0, limit: int = 1_000
    ) -> list[FlowEvent]:
        return (await super().read_feed(after_seq=after_seq, limit=limit))[1:]
