"""Which fault comes when: round after round, each fault once a round, in an order that only the seed decides."""

from collections.abc import Iterator
from random import Random

from tests.torture.arena import Fault
from tests.torture.faults.connection import CONNECTION_FAULTS
from tests.torture.faults.process import PROCESS_FAULTS
from tests.torture.faults.refusal import REFUSAL_FAULTS
from tests.torture.faults.writer import WRITER_FAULTS

__all__ = ["FAULTS", "schedule"]

FAULTS = [*CONNECTION_FAULTS, *PROCESS_FAULTS, *REFUSAL_FAULTS, *WRITER_FAULTS]


def schedule(seed: int, only: str | None = None) -> Iterator[tuple[Fault, Random]]:
    """Give faults without end, each with dice of its own, so that one fault's luck does not change the next one's."""
    order = Random(f"{seed}/order")  # repeatable, not secret
    number = 0
    while True:
        round_ = list(FAULTS)
        order.shuffle(round_)
        for fault in round_:
            number += 1
            if only is None or only in fault.name:
                yield fault, Random(f"{seed}/{number}")
