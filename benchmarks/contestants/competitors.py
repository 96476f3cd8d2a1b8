"""The competitors by name; a module is imported only in the process that runs it."""

import importlib

import msgspec

from benchmarks.contestants.competitor import Competitor
from benchmarks.data.growth_database import growth_database

__all__ = ["COMPETITORS", "GROWTH_SIZES", "PEERS", "load_competitor"]


class Entry(msgspec.Struct, frozen=True):
    """A competitor: its class, its database, its event, and if it runs on asyncio's own loop."""

    place: str
    database: str
    event: str
    own_loop: bool = False


GROWTH_SIZES = {
    "10 thousand": 10_000,
    "100 thousand": 100_000,
    "1 million": 1_000_000,
    "10 million": 10_000_000,
}

COMPETITORS = {
    "ours": Entry(
        "benchmarks.contestants.ours:Events", "ours", "one event of a flow of ten, version known"
    ),
    "ours, without uvloop": Entry(
        "benchmarks.contestants.ours:Events",
        "ours",
        "the same, on asyncio's own loop",
        own_loop=True,
    ),
    "ours, version unknown": Entry(
        "benchmarks.contestants.ours:UnknownVersion", "ours", "the same, appended at the end"
    ),
    "ours, append_many": Entry(
        "benchmarks.contestants.many:Many", "ours", "the same as ours, all flows by one append_many"
    ),
    "ours, signals": Entry(
        "benchmarks.contestants.ours:Signals", "ours", "one StepSignal, which touches no step row"
    ),
    "ours, batches": Entry(
        "benchmarks.contestants.ours:Batches", "ours", "one of 500 StepSignals of one append_kinds"
    ),
    "ours, artifact": Entry(
        "benchmarks.contestants.ours:Artifacts", "ours_artifacts", "a StepFinished and 4 KB of JSON"
    ),
    "plain INSERT": Entry(
        "benchmarks.contestants.reference:PlainInsert", "plain", "one row, held connection"
    ),
    "INSERT, our table": Entry(
        "benchmarks.contestants.reference:OwnInsert",
        "plain",
        "the same into a table with our keys, checks and indexes",
    ),
    "COPY": Entry("benchmarks.contestants.reference:Copy", "plain", "one of 500 rows of one COPY"),
    "ours, replay": Entry(
        "benchmarks.contestants.reads:Replay",
        "reads",
        "one of 100,000 that `load` replays to an instance",
    ),
    "ours, opening": Entry(
        "benchmarks.contestants.reads:Opening",
        "reads",
        "one of 100,000 that `load` takes from a snapshot",
    ),
    "row floor": Entry(
        "benchmarks.contestants.reads:RowFloor", "reads", "one of the same rows, undecoded"
    ),
    "ours, list of ten": Entry(
        "benchmarks.contestants.reads:FlowsOfTen", "reads", "one of a flow of ten that `list` gives"
    ),
    "row floor of ten": Entry(
        "benchmarks.contestants.reads:RowFloorOfTen", "reads", "one of the same rows, undecoded"
    ),
    "eventsourcing replay": Entry(
        "benchmarks.peers.eventsourcing_application:Replay",
        "es_replay",
        "one of 100,000 that `get` replays",
    ),
    "eventsourcing recorder": Entry(
        "benchmarks.peers.eventsourcing_recorder:Single",
        "es_recorder",
        "one stored event, a thread a flow",
    ),
    "eventsourcing recorder, batched": Entry(
        "benchmarks.peers.eventsourcing_recorder:Batched",
        "es_recorder",
        "the same, one insert for all flows",
    ),
    "eventsourcing application": Entry(
        "benchmarks.peers.eventsourcing_application:Single",
        "es_application",
        "one event, a thread a flow",
    ),
    "eventsourcing application, functions": Entry(
        "benchmarks.peers.eventsourcing_application:Functions",
        "es_functions",
        "the same, by a function in the database",
    ),
    "eventsourcing application, batched": Entry(
        "benchmarks.peers.eventsourcing_application:Batched",
        "es_functions",
        "the same, one save for all flows",
    ),
    "LangGraph saver": Entry(
        "benchmarks.peers.langgraph_saver:SharedSaver", "langgraph", "one aput with its aput_writes"
    ),
    "LangGraph saver, one a flow": Entry(
        "benchmarks.peers.langgraph_saver:SaverAFlow",
        "langgraph",
        "the same, a saver for each flow",
    ),
    "DBOS": Entry(
        "benchmarks.peers.dbos_steps:AsyncSteps",
        "dbos",
        "one async step; start and end of its workflow count too",
    ),
    "DBOS, threads": Entry(
        "benchmarks.peers.dbos_steps:ThreadSteps", "dbos_threads", "the same, a thread a flow"
    ),
    "pgqueuer": Entry("benchmarks.peers.pgqueuer_jobs:Single", "pgqueuer", "one job enqueued"),
    "pgqueuer, batched": Entry(
        "benchmarks.peers.pgqueuer_jobs:Batched",
        "pgqueuer_batched",
        "the same, one enqueue for all flows",
    ),
    "procrastinate": Entry(
        "benchmarks.peers.procrastinate_jobs:Single", "procrastinate", "one job deferred"
    ),
    "procrastinate, batched": Entry(
        "benchmarks.peers.procrastinate_jobs:Batched",
        "procrastinate_batched",
        "the same, one batch_defer for all flows",
    ),
}

COMPETITORS |= {
    f"growth {operation}, {size}": Entry(
        f"benchmarks.contestants.{place}", growth_database(events), event
    )
    for size, events in GROWTH_SIZES.items()
    for operation, place, event in (
        ("append", "ours:Events", "one event of a new flow of ten, version known"),
        ("append with id", "growth:AppendWithId", "one event with an event id of a long flow"),
        ("list", "growth:List", "one of a flow of ten that `list` gives"),
        ("last event", "growth:LastEvent", "one last event"),
        ("feed page", "growth:FeedPage", "one of a page of a hundred of the feed"),
    )
}

COMPETITORS |= {
    "worker, ours": Entry(
        "benchmarks.contestants.flows.runners:Workers",
        "worker",
        "one trivial step of a submitted flow of eight",
    ),
    "worker, bare engine": Entry(
        "benchmarks.contestants.flows.runners:BareEngine",
        "worker_engine",
        "the same without lease, claim and submission",
    ),
    "worker, DBOS called": Entry(
        "benchmarks.peers.dbos_workflows:Called",
        "worker_dbos",
        "one trivial step of a workflow of eight that is called",
    ),
    "worker, DBOS queue": Entry(
        "benchmarks.peers.dbos_workflows:Queued",
        "worker_dbos_queue",
        "the same of one that is enqueued",
    ),
    "worker, absurd": Entry(
        "benchmarks.peers.absurd_tasks:Tasks",
        "worker_absurd",
        "one trivial step of a spawned task of eight",
    ),
    "worker, procrastinate": Entry(
        "benchmarks.peers.procrastinate_worker:Jobs",
        "worker_procrastinate",
        "one job that defers the next of eight",
    ),
    "idle worker": Entry(
        "benchmarks.contestants.flows.lines:Idle", "idle", "a second of an idle worker"
    ),
    "idle worker, nothing waits": Entry(
        "benchmarks.contestants.flows.lines:Idle", "idle_empty", "the same without waiting flows"
    ),
    "idle gate": Entry(
        "benchmarks.contestants.flows.gate:IdleGate",
        "idle_gate",
        "a second of an idle worker whose flows wait for answers",
    ),
    "answer": Entry(
        "benchmarks.contestants.flows.gate:AnsweredGate",
        "answered_gate",
        "one answer until the next step begins, without hints",
    ),
    "first step": Entry(
        "benchmarks.contestants.flows.lines:FirstStep", "first_step", "one flow's first step begun"
    ),
    "map": Entry("benchmarks.contestants.flows.lines:Mapped", "map", "one child of a map"),
    "append, leased": Entry(
        "benchmarks.contestants.flows.fence:Leased", "fence", "one event by the holder of a lease"
    ),
    "append, plain": Entry(
        "benchmarks.contestants.flows.fence:Plain", "fence_plain", "one event without a lease"
    ),
    "append, unfenced": Entry(
        "benchmarks.contestants.flows.fence:Unfenced",
        "fence_none",
        "the same, by a function without the fence",
    ),
}

PEERS = (
    "eventsourcing recorder",
    "eventsourcing application",
    "LangGraph saver",
    "DBOS",
    "pgqueuer",
    "procrastinate",
)
"""The peers; the modes of a peer are the competitors whose names begin with its name."""


def load_competitor(name: str) -> Competitor:
    """Import and make a competitor."""
    module, _, factory = COMPETITORS[name].place.partition(":")
    competitor: Competitor = getattr(importlib.import_module(module), factory)()
    return competitor
