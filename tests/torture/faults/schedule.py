"""The order of the faults: in rounds, each fault once per round; the seed decides the order."""

from collections.abc import Iterator, Sequence
from random import Random

from tests.torture.arena import Fault
from tests.torture.faults.connection import CONNECTION_FAULTS
from tests.torture.faults.process import PROCESS_FAULTS
from tests.torture.faults.refusal import REFUSAL_FAULTS
from tests.torture.faults.writer import WRITER_FAULTS

__all__ = ["FAULTS", "schedule"]

FAULTS = [*CONNECTION_FAULTS, *PROCESS_FAULTS, *REFUSAL_FAULTS, *WRITER_FAULTS]


def schedule(
    seed: int, only: str | None = None, faults: Sequence[Fault] = FAULTS
) -> Iterator[tuple[Fault, Random]]:
    """Yield faults endlessly, each with its own random generator.

    What one fault draws does not change the draws of the next one.
    """
    order = Random(f"{seed}/order")  # repeatable, not secret
    number = 0
    while True:
        round_ = list(faults)
        order.shuffle(round_)
        for fault in round_:
            number += 1
            if only is None or only in fault.name:
                yield fault, Random(f"{seed}/{number}")
