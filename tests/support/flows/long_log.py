"""Write a long log, and measure the cost of its verification.

    python -m tests.support.flows.long_log DIRECTORY EVENTS

DIRECTORY holds an embedded server that is filled up to EVENTS events and kept. The command `verify`
then reads them in its own process, whose time and peak memory are printed.
"""

import asyncio
import os
import subprocess
import sys
import time
from pathlib import Path

from chem_persistence import (
    Artifact,
    EventStore,
    FlowEventKind,
    PgEventStore,
    PoolProvider,
    StepFinished,
    StepSignal,
    StepStarted,
    build_pool,
    embedded_postgres,
)
from tests.support.flows.flows import initialized, new_flow_id

__all__ = ["write_long_log"]

EVENTS_A_FLOW = 1_000
ROUND = 75
"""Every so many events, one has an artifact."""


async def write_long_log(store: EventStore, events: int) -> None:
    """Append this many events: flows of a thousand each, 1.3 % of the events with an artifact."""
    for written in range(0, events, EVENTS_A_FLOW):
        kinds: list[FlowEventKind] = [initialized()]
        artifacts: list[Artifact] = []
        flow_id = new_flow_id()
        for number in range(min(EVENTS_A_FLOW, events - written) - 1):
            match number % ROUND:
                case 0:
                    payload = {
                        "flow": str(flow_id),
                        "number": number,
                        "energy": 6.02214076e23 + number,
                    }
                    artifacts.append(Artifact.from_payload(kind="Value", payload=payload))
                    kinds.append(StepFinished(0, "acquire", (artifacts[-1].hash,), "f" * 64))
                case 1 | 2:
                    kinds.append(StepStarted(number % 3, "acquire"))
                case _:
                    kinds.append(StepSignal(0, "acquire", "said", {"n": number, "x": number / 7}))
        await store.append_kinds(flow_id, kinds, artifacts=artifacts, expected_version=0)


async def main(directory: Path, events: int) -> None:
    async with embedded_postgres(directory) as url:
        async with await build_pool(url) as pool:
            there: int = await pool.fetchval("SELECT count(*) FROM event_log")
            await write_long_log(PgEventStore(PoolProvider(pool)), max(0, events - there))
        command = [sys.executable, "-m", "chem_persistence", "verify", "--database-url", url]
        began = time.monotonic()
        _, status, used = os.wait4(subprocess.Popen(command).pid, 0)
    code, megabytes = os.waitstatus_to_exitcode(status), used.ru_maxrss / 1024
    say(
        f"exit code {code} after {time.monotonic() - began:.1f} s; "
        f"largest memory {megabytes:.0f} MB"
    )


def say(line: str) -> None:
    print(line)  # noqa: T201


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2])))
