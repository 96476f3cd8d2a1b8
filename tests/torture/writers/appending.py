"""One task that appends repeatedly, and repeats unanswered appends with the same event ids."""

import asyncio
import os
from collections.abc import Coroutine, Sequence
from pathlib import Path
from random import Random
from typing import Any, TypeVar
from uuid import UUID

import anyio
import msgspec
from uuid_utils.compat import uuid7

from chem_persistence import (
    ConcurrencyConflict,
    FlowAlreadyCompleted,
    FlowAnswer,
    FlowEvent,
    FlowNotCompleted,
    FlowNotFound,
    PgFlowRepository,
    PoolProvider,
    RetryScheduled,
    StepStatus,
    StoreError,
)
from tests.support.faults.worker import Work, three_steps
from tests.support.flows.flows import DEFINITION
from tests.torture.writers.load import Load, Plan
from tests.torture.writers.recording import TOKEN, RecordingStore
from tests.torture.writers.records import EngineFlow, RecordFile, Sent, Unexpected, now

__all__ = ["TASKS", "Appending"]

T = TypeVar("T")

TASKS = 4
"""Tasks of one writer: more than it has connections."""

IN_TRANSACTIONS = 0.1
"""How many appends are made in a transaction of the caller's own, with savepoints."""

BY_ONE_CALL, TOGETHER = 0.1, 5
"""How many appends are made by `append_many`, and with how many others at most."""

AGAIN = 0.15
"""How many appends with event ids are repeated although they were answered, beside new ones."""

GIVEN_UP = 0.1
"""How many unanswered appends are not repeated: such a one is in the log once, or not at all."""

THINK_SECONDS = 0.05
REPEATS = 12
LONGEST_IMPATIENCE = 0.02


class Appending:
    """Appends what its load draws, runs flows through the engine, and schedules step retries."""

    def __init__(
        self,
        store: RecordingStore,
        provider: PoolProvider,
        records: RecordFile,
        load: Load,
        dice: Random,
    ) -> None:
        self._store, self._records, self._load, self._dice = store, records, load, dice
        self._repository = PgFlowRepository(provider)
        self._engine = three_steps(store, self._repository, Work(Path(os.devnull)))
        self._seen: dict[UUID, int] = {}
        self._stopping = False
        self._impatient_until = 0.0

    def stop(self) -> None:
        self._stopping = True

    def be_impatient(self, seconds: float) -> None:
        """Cancel appends at random moments for this many seconds."""
        self._impatient_until = now() + seconds

    async def run(self) -> None:
        while not self._stopping:
            await asyncio.sleep(self._dice.uniform(0, THINK_SECONDS))
            turn = self._dice.random()
            try:
                if turn < 0.04:
                    await self.run_engine(uuid7())
                elif turn < 0.08:
                    await self._schedule_retry(self._load.flow_id())
                elif turn < 0.08 + BY_ONE_CALL / TOGETHER:
                    await self._append_many()
                else:
                    await self._append(self._load.draw())
            except Exception as error:  # noqa: BLE001  # recorded for the checker, whatever it is
                self._records.write(Unexpected(repr(error), now()))

    async def run_engine(self, flow_id: UUID) -> None:
        """Run a flow to its end from its present state."""
        self._records.write(EngineFlow(flow_id, None, now()))
        for _ in range(REPEATS):
            try:
                await self._engine.run_to_end(flow_id)
            except FlowAlreadyCompleted:
                break
            except (
                StoreError,
                ConcurrencyConflict,
            ):  # its own append may be stored although it failed
                await self._pause()
            else:
                break
        else:
            return  # it is left incomplete; the checker checks what there is of it
        try:
            fingerprint = await self._engine.flow_fingerprint(flow_id)
        except (StoreError, FlowNotCompleted, FlowNotFound):  # a standby may lag behind
            return
        self._records.write(EngineFlow(flow_id, fingerprint, now()))

    async def repeat(self, sent: Sent) -> list[FlowEvent]:
        """Append what another process sent, with its event ids, and check the ids in the answer."""
        return await self._send(msgspec.structs.replace(sent, at=now()))

    def _sent(self, plan: Plan) -> Sent:
        token = self._store.new_token()
        return Sent(
            token=token,
            flow_id=plan.flow_id,
            kinds=plan.kinds,
            artifacts=plan.artifacts,
            event_ids=[uuid7() for _ in plan.kinds] if plan.with_ids else None,
            expected_version=None if plan.at_end else self._seen.get(plan.flow_id, 0),
            by_engine=False,
            metadata={TOKEN: token},
            at=now(),
        )

    async def _append(self, plan: Plan) -> None:
        sent = self._sent(plan)
        for _ in range(REPEATS):
            try:
                await self._patiently_or_not(self.repeat(sent))
            except ConcurrencyConflict as conflict:
                self._seen[plan.flow_id] = conflict.actual
                return
            except (StoreError, TimeoutError, asyncio.CancelledError):
                await self._pause()
                if self._dice.random() < GIVEN_UP:
                    return
            else:
                if self._dice.random() >= AGAIN:
                    return
            if sent.event_ids is None:
                return

    async def _append_many(self) -> None:
        """Append to several flows by one call, and repeat it until each append is settled."""
        plans = {plan.flow_id: plan for plan in (self._load.draw() for _ in range(TOGETHER))}
        left = [self._sent(plan) for plan in plans.values()]
        for _ in range(REPEATS):
            sent = [msgspec.structs.replace(each, at=now()) for each in left]
            try:
                answers = await self._patiently_or_not(self._store.send_many(sent))
            except (StoreError, TimeoutError, asyncio.CancelledError):
                await self._pause()
                if self._dice.random() < GIVEN_UP:
                    return
            else:
                for each, answer in zip(sent, answers, strict=True):
                    self._look_at(each, answer)
                if self._dice.random() >= AGAIN:
                    return
                left = [
                    each
                    for each, answer in zip(left, answers, strict=True)
                    if isinstance(answer, list)
                ]
            left = [each for each in left if each.event_ids is not None]
            if not left:
                return

    def _look_at(self, sent: Sent, answer: FlowAnswer) -> None:
        if isinstance(answer, ConcurrencyConflict):
            self._seen[sent.flow_id] = answer.actual
        elif isinstance(answer, list):
            self._check(sent, answer)

    async def _send(self, sent: Sent) -> list[FlowEvent]:
        in_transaction = self._dice.random() < IN_TRANSACTIONS
        events = await self._store.send(sent, in_transaction=in_transaction)
        self._check(sent, events)
        return events

    def _check(self, sent: Sent, events: Sequence[FlowEvent]) -> None:
        """Check the ids in an answer, and note how far the flow is."""
        ids = [event.event_id for event in events]
        if sent.event_ids is not None and ids != sent.event_ids:
            self._records.write(
                Unexpected(f"{sent.token}: asked for {sent.event_ids}, got {ids}", now())
            )
        self._seen[sent.flow_id] = max(self._seen.get(sent.flow_id, 0), events[-1].version + 1)

    async def _patiently_or_not(self, sending: Coroutine[Any, Any, T]) -> T:
        """Await an append; when impatient, cancel it after a moment, in one of three ways."""
        if now() >= self._impatient_until:
            return await sending
        moment = self._dice.uniform(0, LONGEST_IMPATIENCE)
        match self._dice.randrange(3):
            case 0:
                async with asyncio.timeout(moment):
                    return await sending
            case 1:
                with anyio.fail_after(moment):
                    return await sending
            case _:
                task = asyncio.create_task(sending)
                await asyncio.wait([task], timeout=moment)
                task.cancel()
                return await task

    async def _schedule_retry(self, flow_id: UUID) -> None:
        """Schedule a retry of a failed step of the flow, unless another writer is faster."""
        try:
            instance = await self._repository.load(flow_id, None, DEFINITION)
            for slot in instance.steps:
                if slot.status is StepStatus.FAILED:
                    retry = RetryScheduled(slot.step_id, slot.retry_count + 1, "try again")
                    await self._store.append_kind(flow_id, retry, expected_version=instance.version)
                    return
        except (StoreError, ConcurrencyConflict):
            await self._pause()

    async def _pause(self) -> None:
        await asyncio.sleep(self._dice.uniform(0.02, 0.1))
