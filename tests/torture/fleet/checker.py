"""The checker of the fleet: plain SQL over the log, and the lines that the steps have written.

It uses nothing of the library's replay, views or leases; only `verify_log`, which recomputes the
chain. What a flow should have come to is given by a run of it in memory.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from enum import StrEnum
from uuid import UUID

import msgspec

from chem_persistence import ConnectionProvider
from chem_persistence.postgres.audit.verification import verify_log
from chem_persistence.postgres.connection.session import Session
from tests.torture.fleet.served import Run
from tests.torture.fleet.workers import AT_ONCE, Struck

__all__ = ["Expected", "Finding", "Flaw", "Verdict", "check"]

READ_FLOWS = """
    SELECT flow_id, count(*) AS events, count(DISTINCT version) AS versions,
        min(version) AS first, max(version) AS last,
        count(*) FILTER (WHERE event_type = 'flowinitialized') AS begins,
        count(*) FILTER (WHERE event_type = 'flowcompleted') AS ends,
        count(*) FILTER (WHERE event_type = 'flowcancelled') AS cancelled,
        max(version) FILTER (WHERE event_type = 'flowcompleted') AS end_version,
        max(payload ->> 'flow_fingerprint') AS fingerprint
    FROM event_log GROUP BY flow_id
"""
READ_OUTCOMES = """
    SELECT flow_id, payload ->> 'step_id' AS step_id,
        count(*) FILTER (WHERE event_type = 'stepfinished') AS finished,
        count(*) FILTER (WHERE event_type = 'stepfailed') AS failed,
        min(version) FILTER (WHERE event_type = 'stepstarted') AS started_at,
        max(version) FILTER (WHERE event_type = 'stepstarted') AS last_started_at,
        min(version) FILTER (WHERE event_type = 'stepfinished') AS finished_at
    FROM event_log WHERE event_type IN ('stepstarted', 'stepfinished', 'stepfailed')
    GROUP BY flow_id, payload ->> 'step_id'
"""
READ_RUNS = "SELECT flow_id, due_at::text AS due_at, lease, holder FROM flow_runs"


class Flaw(StrEnum):
    """What can be wrong with what a fleet has done."""

    LOST = "a flow that was submitted is not in the log"
    UNSENT = "a flow that nobody submitted is in the log"
    UNFINISHED = "a flow has not exactly one end, as its last event"
    OUTCOMES = "a step has not exactly one outcome"
    ORDER = "a step was started again after its outcome, or never before it"
    VERSIONS = "the versions of a flow have a gap"
    CHAIN = "verify objects"
    RESULT = "another fingerprint or result than without faults"
    ROW = "a flow that is over still wants a worker"
    RUNS = "steps ran more often than the faults explain"
    UNRECORDED = "a step has an outcome and never ran"
    UNEXPECTED = "a worker did what it should not"


class Finding(msgspec.Struct, frozen=True):
    flaw: Flaw
    detail: str
    flow_id: UUID | None = None

    def __str__(self) -> str:
        flow = "" if self.flow_id is None else f" flow {self.flow_id}"
        return f"{self.flaw.name}: {self.flaw}:{flow}: {self.detail}"


class Expected(msgspec.Struct, frozen=True):
    """What a flow comes to without faults."""

    fingerprint: str
    steps: frozenset[str]
    result: int


class Verdict(msgspec.Struct):
    findings: list[Finding] = []
    events: int = 0
    completed: int = 0
    runs: int = 0
    repeated: int = 0
    unexplained: int = 0
    """Runs of a step that ran before, where no fault struck that process between the two."""
    most_runs: int = 0

    def flaws(self) -> set[Flaw]:
        return {finding.flaw for finding in self.findings}

    def find(self, flaw: Flaw, detail: str, flow_id: UUID | None = None) -> None:
        self.findings.append(Finding(flaw, detail, flow_id))


async def check(
    provider: ConnectionProvider,
    expected: Mapping[UUID, Expected],
    runs: Sequence[Run],
    struck: Sequence[Struck],
    *,
    workers: int,
) -> Verdict:
    """Compare the log with what was submitted; nothing may write meanwhile.

    `runs` are those of the steps, `struck` the faults of a fleet of `workers` processes.
    """
    verdict, session = Verdict(), Session(provider)
    flows = {row["flow_id"]: row for row in await session.fetch(READ_FLOWS)}
    for flow_id in flows.keys() - expected.keys():
        verdict.find(Flaw.UNSENT, f"{flows[flow_id]['events']} events", flow_id)
    for flow_id, wanted in expected.items():
        if flow_id in flows:
            _check_flow(verdict, flows[flow_id], wanted)
        else:
            verdict.find(Flaw.LOST, "no event", flow_id)
    _check_outcomes(verdict, await session.fetch(READ_OUTCOMES), expected, runs)
    for row in await session.fetch(READ_RUNS):
        detail = f"due at {row['due_at']}, lease {row['lease']}, holder {row['holder']}"
        verdict.find(Flaw.ROW, detail, row["flow_id"])
    for finding in (await verify_log(provider)).findings:
        detail = f"version {finding.version}: {finding.tampering}: {finding.detail}"
        verdict.find(Flaw.CHAIN, detail, finding.flow_id)
    _check_runs(verdict, expected, runs, struck, workers)
    return verdict


def _check_flow(verdict: Verdict, row: Mapping[str, object], wanted: Expected) -> None:
    flow_id, events = row["flow_id"], row["events"]
    assert isinstance(flow_id, UUID) and isinstance(events, int)  # noqa: PT018
    verdict.events += events
    versions = (row["first"], row["last"], row["versions"])
    if versions != (0, events - 1, events):
        verdict.find(Flaw.VERSIONS, f"{events} events, first, last, different {versions}", flow_id)
    counts = (row["begins"], row["ends"], row["cancelled"])
    if counts != (1, 1, 0) or row["end_version"] != row["last"]:
        verdict.find(Flaw.UNFINISHED, f"I, C and K are there {counts} times", flow_id)
        return
    verdict.completed += 1
    if row["fingerprint"] != wanted.fingerprint:
        verdict.find(Flaw.RESULT, f"{row['fingerprint']}, not {wanted.fingerprint}", flow_id)


def _check_outcomes(
    verdict: Verdict,
    rows: Sequence[Mapping[str, object]],
    expected: Mapping[UUID, Expected],
    runs: Sequence[Run],
) -> None:
    ran = {(run.flow_id, run.step_id) for run in runs}
    steps = {(row["flow_id"], row["step_id"]): row for row in rows}
    for flow_id, wanted in expected.items():
        for step_id in wanted.steps:
            row = steps.get((flow_id, step_id))
            outcomes = (0, 0) if row is None else (row["finished"], row["failed"])
            if row is None or outcomes != (1, 0):
                detail = f"{step_id}: F and X are there {outcomes} times"
                verdict.find(Flaw.OUTCOMES, detail, flow_id)
                continue
            began, again, ended = row["started_at"], row["last_started_at"], row["finished_at"]
            if not _is_between(began, ended) or not _is_between(again, ended):
                detail = f"{step_id}: S at {began} to {again}, F at {ended}"
                verdict.find(Flaw.ORDER, detail, flow_id)
            if (flow_id, step_id) not in ran:
                verdict.find(Flaw.UNRECORDED, step_id, flow_id)


def _is_between(began: object, ended: object) -> bool:
    return isinstance(began, int) and isinstance(ended, int) and began < ended


def _check_runs(
    verdict: Verdict,
    expected: Mapping[UUID, Expected],
    runs: Sequence[Run],
    struck: Sequence[Struck],
    workers: int,
) -> None:
    """Count the runs: at most `AT_ONCE` are in flight in a process, and end without an outcome."""
    own = [run for run in runs if run.flow_id in expected]
    steps = sum(len(wanted.steps) for wanted in expected.values())
    in_flight = sum(AT_ONCE * (workers if fault.pid is None else 1) for fault in struck)
    verdict.runs, verdict.most_runs = len(own), steps + in_flight
    if verdict.runs > verdict.most_runs:
        detail = f"{verdict.runs} runs of {steps} steps, of which {in_flight} were in flight"
        verdict.find(Flaw.RUNS, detail)
    counts = Counter((run.flow_id, run.step_id) for run in own)
    verdict.repeated = sum(counts.values()) - len(counts)
    before: dict[tuple[UUID, str], Run] = {}
    for run in sorted(own, key=lambda run: run.began):
        earlier = before.get((run.flow_id, run.step_id))
        if earlier is not None and not any(_explains(fault, earlier, run) for fault in struck):
            verdict.unexplained += 1
        before[run.flow_id, run.step_id] = run


def _explains(fault: Struck, earlier: Run, later: Run) -> bool:
    return earlier.began <= fault.at <= later.began and fault.pid in (None, earlier.pid)
