"""A step whose work is a job of the queue."""

import asyncio
from datetime import timedelta
from typing import Any

import msgspec

from chem_persistence import BatchJob, Flow, JobState, RetryPolicy, flow
from tests.support.jobs.queue import Queue
from tests.support.leases.staff import Number

__all__ = ["EVERY", "SETTLE", "Cube", "QueueJob", "cube"]

EVERY, SETTLE = timedelta(milliseconds=5), timedelta(milliseconds=20)


class QueueJob(msgspec.Struct):
    id: str


class Cube(BatchJob[Number, QueueJob, Number]):
    """The third power of a number; `pause` is a time before and after a submission, in seconds."""

    id = "cube"
    pause = 0.0
    every = EVERY
    settle = SETTLE

    def __init__(self, queue: Queue, **attributes: Any) -> None:
        self.queue = queue
        self.held: asyncio.Event | None = None
        for name, value in attributes.items():
            setattr(self, name, value)

    async def find(self, token: str) -> QueueJob | None:
        self.queue.pass_by("before find")
        job = self.queue.find(token)
        self.queue.pass_by("after find")
        return None if job is None else QueueJob(job)

    async def submit(self, _input: Number, token: str) -> QueueJob:
        self.queue.pass_by("before submit")
        await asyncio.sleep(self.pause)
        job = QueueJob(self.queue.submit(token))
        self.queue.pass_by("after submit")
        await asyncio.sleep(self.pause)
        if self.held is not None:
            await self.held.wait()
        return job

    async def poll(self, job: QueueJob) -> JobState:
        self.queue.pass_by("before poll")
        fault = self.queue.fault("poll")
        if self.queue.runs:
            self.queue.run(job.id)
        self.queue.pass_by("after poll")
        if self.queue.is_cancelled(job.id):
            return JobState(failed="cancelled")
        return JobState(self.queue.has_ended(job.id), failed=fault)

    async def collect(self, number: Number, _job: QueueJob) -> Number:
        self.queue.pass_by("before collect")
        self.queue.fault("collect")
        self.queue.pass_by("after collect")
        return Number(number.n**3)

    async def cancel(self, job: QueueJob) -> None:
        self.queue.pass_by("before cancel")
        self.queue.cancel(job.id)
        self.queue.pass_by("after cancel")


def cube(
    queue: Queue, attempts: int = 1, crashes: int = 3, **attributes: Any
) -> Flow[Number, Number]:
    """Return the flow of this step; its failures are tried again at once."""
    retry = RetryPolicy(attempts=attempts, first=timedelta(0), crashes=crashes)
    return flow("cube", Cube(queue, retry=retry, **attributes))
