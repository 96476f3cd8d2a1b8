"""What a run does: which competitors, under which loads, for how long."""

from collections.abc import Iterator, Sequence

import msgspec

from benchmarks.contestants.competitors import COMPETITORS, PEERS
from benchmarks.contestants.load import Load
from benchmarks.rounds import Task

__all__ = [
    "FULL",
    "PARTS",
    "QUICK",
    "Plan",
    "appending",
    "growing",
    "lines_of_workers",
    "reading",
    "working",
]

PARTS = (
    "append",
    "peers",
    "workers",
    "reads",
    "growth",
    "imports",
    "canonical",
    "instructions",
)


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Rounds and seconds of each part; pgbench takes whole seconds only."""

    parts: Sequence[str] = PARTS
    rounds: int = 7
    seconds: float = 1.5
    warmup: float = 0.5
    pgbench_seconds: int = 2
    pgbench_clients: Sequence[int] = (8, 16, 32, 64, 128)
    growth_sizes: Sequence[str] = ("10 thousand", "1 million", "10 million")
    growth_rounds: int = 9
    growth_seconds: float = 1.0
    read_rounds: int = 5
    small_flows: int = 10_000
    line_rounds: int = 3
    idle_seconds: float = 10.0
    waiting_flows: int = 10_000
    answers: int = 400
    answer_seconds: float = 10.0
    map_items: int = 5_000
    import_rounds: int = 15
    encoding_rounds: int = 15


FULL = Plan()

QUICK = Plan(
    rounds=3,
    seconds=0.4,
    warmup=0.15,
    pgbench_seconds=1,
    pgbench_clients=(16, 32, 128),
    growth_sizes=("10 thousand", "100 thousand"),
    growth_rounds=3,
    growth_seconds=0.3,
    read_rounds=2,
    small_flows=1_000,
    line_rounds=1,
    idle_seconds=3.0,
    waiting_flows=300,
    answers=120,
    answer_seconds=2.0,
    map_items=300,
    import_rounds=5,
    encoding_rounds=5,
)


def appending(plan: Plan, server: int) -> Iterator[Task]:
    """Yield the tasks that append; those of the peers are among them, so that all take turns."""
    load = Load(server=server, seconds=plan.seconds, warmup=plan.warmup)
    if "append" in plan.parts:
        yield from _by_pgbench(
            plan, msgspec.structs.replace(load, seconds=float(plan.pgbench_seconds))
        )
        for flows in (1, 8, 32, 128, 1000):
            yield _task("ours", load, flows)
        yield _task("ours, append_many", load, 32)
        for flows in (1, 32, 128):
            yield _task("ours, without uvloop", load, flows)
        for name in ("ours, version unknown", "ours, signals", "ours, artifact", "plain INSERT"):
            yield _task(name, load, 32)
        for name in ("ours, batches", "COPY", "plain INSERT", "INSERT, our table"):
            yield _task(name, load, 1)
    elif "peers" in plan.parts:
        yield from (_task("ours", load, flows) for flows in (1, 32))
        yield _task("ours, append_many", load, 32)
    if "peers" in plan.parts:
        yield from _by_peers(load)


def _by_pgbench(plan: Plan, load: Load) -> Iterator[Task]:
    for clients in plan.pgbench_clients:
        yield _task("pgbench", load, clients)
    for clients in plan.pgbench_clients[::2]:
        yield _task("pgbench, artifact", load, clients)


def _by_peers(load: Load) -> Iterator[Task]:
    for name in [name for name in COMPETITORS if name.startswith(PEERS)]:
        yield _task(name, load, 32)
        if not name.endswith("batched"):
            yield _task(name, load, 1)


def reading(plan: Plan, server: int) -> Iterator[Task]:
    """Yield the tasks that read: whole flows of 100,000 by calls, flows of ten by time."""
    whole = Load(server=server, calls=1)
    yield _task("ours, replay", whole, 1)
    yield _task("row floor", whole, 1)
    if "peers" in plan.parts:
        yield _task("eventsourcing replay", whole, 1)
    small = Load(server=server, seconds=plan.seconds, warmup=plan.warmup)
    yield _task("ours, opening", small, 1)
    yield _task("ours, list of ten", small, 32)
    yield _task("row floor of ten", small, 32)


def working(plan: Plan, server: int) -> Iterator[Task]:
    """Yield the tasks that run flows: our worker, our engine alone, and the peers' workers."""
    load = Load(server=server, seconds=plan.seconds, warmup=plan.warmup)
    for name in [name for name in COMPETITORS if name.startswith("worker, ")]:
        yield _task(name, load, 32)
    for name in ("append, leased", "append, plain", "append, unfenced"):
        yield _task(name, load, 32)
    yield _task("first step", load, 1)


def lines_of_workers(plan: Plan, server: int) -> Iterator[Task]:
    """Yield the tasks of workers that take longer, and are run in fewer rounds."""
    idle = Load(server=server, seconds=plan.idle_seconds, warmup=1.0)
    yield _task("idle worker, nothing waits", idle, 0)
    yield _task("idle worker", idle, plan.waiting_flows)
    yield _task("idle gate", idle, plan.waiting_flows)
    answers = Load(server=server, seconds=plan.answer_seconds, warmup=1.0)
    yield _task("answer", answers, plan.answers)
    yield _task("map", Load(server=server, calls=1), plan.map_items)


def growing(plan: Plan, server: int) -> Iterator[Task]:
    """Yield the tasks on databases that have grown; the sizes take turns."""
    load = Load(server=server, seconds=plan.growth_seconds, warmup=plan.warmup)
    for operation in ("append", "append with id", "list", "last event", "feed page"):
        for size in plan.growth_sizes:
            yield _task(f"growth {operation}, {size}", load, 1)


def _task(competitor: str, load: Load, flows: int) -> Task:
    return Task(competitor, msgspec.structs.replace(load, flows=flows))
