"""A process of the torture: four writers, or a consumer that strikes itself.

    python -m tests.torture.consumers.process write|consume URL MENDED

An event whose signal is `poison` fails, and one whose signal is `deadly` kills its process, until
the file MENDED exists.
"""

import asyncio
import logging
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

from chem_persistence import (
    Consumer,
    FlowEvent,
    PgEventStore,
    PgTransaction,
    PoolProvider,
    StepSignal,
    StoreError,
    StoreUnavailable,
    build_pool,
)
from chem_persistence.postgres.consumers.admin import PgConsumerAdmin
from chem_persistence.postgres.consumers.parts import PgConsumerParts

__all__ = ["EFFECTS", "LEASE", "NAME", "PARTS", "UNREACHABLE"]

NAME = "torture"
PARTS = 8
LEASE = timedelta(seconds=1)
TRIES = 4
UNREACHABLE = 3

EFFECTS = """
    CREATE TABLE effects
        (id bigserial, seq bigint, flow_id uuid, version integer, pid integer)
"""
"""The table has no key, so that an effect that is stored twice shows."""

INSERT = "INSERT INTO effects (seq, flow_id, version, pid) VALUES ($1, $2, $3, $4)"

WRITERS = 4
EVENTS_PER_FLOW = 12
PAUSE_SECONDS = 0.02
OPEN_SECONDS = 0.3
"""How long a transaction stays open before its COMMIT, at most."""

IN_TRANSACTION, ROLLED_BACK = 0.1, 0.3
POISON, DEADLY = 0.003, 0.001
SLOW, STOPPED, DIES_AT_COMMIT = 0.02, 0.01, 0.01
"""The chances of each page: slower than the lease, SIGSTOP inside the transaction, an exit between
the fence and the COMMIT."""


async def write(store: PgEventStore) -> None:
    """Append to one new flow after another, in some transactions that pause before their COMMIT."""
    while True:
        flow_id = uuid4()
        for number in range(random.randint(1, 2 * EVENTS_PER_FLOW)):
            with suppress(StoreError, _ChangedItsMind):
                await append(store, flow_id, number)
            await asyncio.sleep(random.random() * 2 * PAUSE_SECONDS)


async def append(store: PgEventStore, flow_id: object, number: int) -> None:
    draw = random.random()
    said = "deadly" if draw < DEADLY else "poison" if draw < DEADLY + POISON else "progress"
    fact = StepSignal(0, "scan", said, number)
    if random.random() >= IN_TRANSACTION:
        await store.append_kind(flow_id, fact)  # type: ignore[arg-type]
        return
    async with store.transaction() as transaction:
        await transaction.append_kind(flow_id, fact)  # type: ignore[arg-type]
        await asyncio.sleep(random.random() * OPEN_SECONDS)
        if random.random() < ROLLED_BACK:
            raise _ChangedItsMind


class _ChangedItsMind(Exception):
    """A transaction that is rolled back."""


class Striker:
    """A consumer's handler and its transaction, which strike their own process."""

    def __init__(self, store: PgEventStore, mended: Path) -> None:
        self._store = store
        self._mended = mended

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[PgTransaction]:
        """Open a transaction, and maybe die at its end, when the fence has passed."""
        async with self._store.transaction() as transaction:
            yield transaction
            if random.random() < DIES_AT_COMMIT:
                os._exit(1)

    async def consume(self, events: Sequence[FlowEvent], transaction: PgTransaction) -> None:
        """Store an effect for each event."""
        for event in events:
            await transaction.connection.execute(
                INSERT, event.seq, event.flow_id, event.version, os.getpid()
            )
            said = event.kind.signal if isinstance(event.kind, StepSignal) else ""
            if said != "progress" and not self._mended.exists():
                if said == "deadly":
                    os._exit(1)
                raise ValueError(said)
        if random.random() < STOPPED:
            os.kill(os.getpid(), signal.SIGSTOP)
        if random.random() < SLOW:
            await asyncio.sleep(random.random() * 1.5 * LEASE.total_seconds())


async def run(role: str, url: str, mended: Path) -> None:
    this = asyncio.current_task()
    assert this is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
    async with await build_pool(url, max_size=6) as pool:
        provider = PoolProvider(pool)
        store = PgEventStore(provider)
        if role == "write":
            await asyncio.gather(*(write(store) for _ in range(WRITERS)))
        striker = Striker(store, mended)
        consumer = Consumer(
            NAME,
            PgConsumerParts(provider, striker.transaction, NAME, None),
            PgConsumerAdmin(provider, NAME),
            store.position,
            count=PARTS,
            after_seq=0,
        )
        await consumer.run(striker.consume, lease=LEASE, page=100, tries=TRIES, poll_interval=0.05)


def main() -> int:
    role, url, mended = sys.argv[1:]
    logging.basicConfig(format="%(asctime)s %(process)d %(message)s")
    try:
        asyncio.run(run(role, url, Path(mended)))
    except StoreUnavailable:
        return UNREACHABLE
    except asyncio.CancelledError:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
