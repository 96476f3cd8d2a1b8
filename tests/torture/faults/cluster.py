"""Faults of a Citus cluster: its nodes are killed, alone and together."""

from collections.abc import AsyncIterator, Callable
from random import Random

from tests.torture.arena import Arena, Fault, NotStruck
from tests.torture.faults.process import ENDED, PROCESS_FAULTS
from tests.torture.servers.cluster import COORDINATOR, WORKERS, Cluster

__all__ = ["CLUSTER_FAULTS"]

LOST_AT_COMMIT = "XX000"
UNREACHABLE = "08006"
"""What the coordinator says of a worker that it cannot connect to."""

ABORTED = "25P02"
"""What a node says in a transaction of which it lost a statement, or a savepoint, in a failure."""


def _kill(
    nodes: Callable[[Random], tuple[str, ...]],
) -> Callable[[Arena, Random], AsyncIterator[None]]:
    async def kill(arena: Arena, dice: Random) -> AsyncIterator[None]:
        if not isinstance(arena.server, Cluster):
            raise NotStruck
        for node in nodes(dice):
            await arena.server.kill(node)
        try:
            yield
        finally:
            await arena.server.revive()

    return kill


def _one_worker(dice: Random) -> tuple[str, ...]:
    return (dice.choice(WORKERS),)


def _both_workers(_dice: Random) -> tuple[str, ...]:
    return WORKERS


def _the_coordinator(_dice: Random) -> tuple[str, ...]:
    return (COORDINATOR,)


def _all_nodes(dice: Random) -> tuple[str, ...]:
    nodes = [COORDINATOR, *WORKERS]
    dice.shuffle(nodes)
    return tuple(nodes)


_OF_THE_LIBRARY = [
    fault
    for fault in PROCESS_FAULTS
    if fault.name in {"pg_terminate_backend", "SIGKILL of a writer"}
]
_CAUSES = ENDED | {LOST_AT_COMMIT, UNREACHABLE, ABORTED}

CLUSTER_FAULTS = [
    Fault("SIGKILL of a worker node", _kill(_one_worker), lasts=True, causes=_CAUSES),
    Fault("SIGKILL of both worker nodes", _kill(_both_workers), lasts=True, causes=_CAUSES),
    Fault("SIGKILL of the coordinator", _kill(_the_coordinator), lasts=True, causes=_CAUSES),
    Fault("SIGKILL of all nodes", _kill(_all_nodes), lasts=True, causes=_CAUSES),
    *_OF_THE_LIBRARY,
]
