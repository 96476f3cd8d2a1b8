"""The flow that the workers of the fleet serve: eight steps that record each of their runs.

Of a worker, FLEET_RUNS is the file to which each run of a step appends a line, and FLEET_SECONDS
the mean time that a step takes. Without them a step takes no time, and records nothing.
"""

import asyncio
import os
from pathlib import Path
from uuid import UUID

import msgspec

from chem_persistence import Flow, RetryPolicy, Step, StepContext, flow
from chem_persistence.engine.leases.renewal import seconds_since_boot

__all__ = ["FLOW", "STEPS", "Number", "Run", "flows", "note_run", "read_runs"]

STEPS = 8
MODULUS = 1_000_003
FACTOR = 31
SHARES = 100
"""Steps take one of this many lengths of time, from half of the mean to one and a half."""


class Number(msgspec.Struct, frozen=True):
    n: int


class Run(msgspec.Struct, frozen=True):
    """One run of a step; `began` is in seconds since boot."""

    flow_id: UUID
    step_id: str
    pid: int
    began: float


class Compute(Step[Number, Number]):
    """Record the run, take some time, and compute the next number."""

    retry = RetryPolicy(crashes=1_000)  # the faults kill the workers, not the step

    def __init__(self, index: int) -> None:
        self.id = f"step{index}"
        self._index = index

    async def run(self, number: Number, context: StepContext) -> Number:
        if "FLEET_RUNS" in os.environ:
            note_run(Path(os.environ["FLEET_RUNS"]), context.flow_id, self.id)
        share = (FACTOR * number.n + self._index) % SHARES / SHARES
        await asyncio.sleep(float(os.environ.get("FLEET_SECONDS", "0")) * (0.5 + share))
        return Number((FACTOR * number.n + self._index) % MODULUS)


def note_run(path: Path, flow_id: UUID, step_id: str) -> None:
    """Append a line about a run; lines of several processes do not mix (write(2), O_APPEND)."""
    line = f"{flow_id} {step_id} {os.getpid()} {seconds_since_boot()}\n"
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


def read_runs(path: Path) -> list[Run]:
    """Read the runs of all steps."""
    lines = [line.split() for line in path.read_text().splitlines()] if path.exists() else []
    return [Run(UUID(flow), step, int(pid), float(began)) for flow, step, pid, began in lines]


def _chain() -> Flow[Number, Number]:
    made = flow("fleet", Compute(0))
    for index in range(1, STEPS):
        made = made.then(Compute(index))
    return made


FLOW = _chain()
flows = [FLOW]
"""What `chem-persistence worker` is given."""
