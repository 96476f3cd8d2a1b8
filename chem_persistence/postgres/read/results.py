"""The results of steps by fingerprint, and the steps that took them over."""

from collections import Counter, defaultdict
from collections.abc import Sequence
from uuid import UUID

import msgspec

from chem_persistence.domain.answers import ReuseStatistics
from chem_persistence.domain.events import ResultOrigin
from chem_persistence.postgres.connection.session import Session
from chem_persistence.postgres.schema.statements import statement
from chem_persistence.store.reuse.results import Result, TakenOver

__all__ = ["count_reuse", "find_results", "list_taken_over"]

COUNT_TAKEN_OVER = statement("results/count_taken_over")
READ_RUN_TIMES = statement("results/read_run_times")
FIND_RESULTS = statement("results/find_results")
LIST_TAKEN_OVER = statement("results/list_taken_over")

FLOWS_A_QUERY = 5_000
"""The flows whose run times are read at a time."""


async def find_results(
    session: Session, fingerprints: Sequence[str], most: int
) -> dict[str, list[Result]]:
    """Return results by fingerprint; see `ResultReader.find_results`."""
    found: dict[str, list[Result]] = {}
    if fingerprints:
        for row in await session.fetch(FIND_RESULTS, list(fingerprints), most):
            outputs = msgspec.json.decode(row["outputs"], type=tuple[str, ...])
            origin = ResultOrigin(row["flow_id"], row["version"])
            found.setdefault(row["fingerprint"], []).append(Result(origin, outputs))
    return found


async def list_taken_over(session: Session, flow_id: UUID, limit: int) -> list[TakenOver]:
    """Return what was taken over of a flow; see `ResultReader.taken_over`."""
    return [
        TakenOver(
            flow_id=row["flow_id"],
            version=row["version"],
            step_id=row["step_id"],
            origin=ResultOrigin(flow_id, row["origin_version"]),
        )
        for row in await session.fetch(LIST_TAKEN_OVER, str(flow_id), limit)
    ]


async def count_reuse(session: Session) -> list[ReuseStatistics]:
    """Return how often the results of each step were taken over, by the steps' ids."""
    rows = await session.fetch(COUNT_TAKEN_OVER)
    flow_ids = list({row["flow_id"] for row in rows})
    seconds: dict[tuple[UUID, str], float] = {}
    for first in range(0, len(flow_ids), FLOWS_A_QUERY):
        part = flow_ids[first : first + FLOWS_A_QUERY]
        for row in await session.fetch(READ_RUN_TIMES, part):
            seconds[row["flow_id"], row["step_id"]] = row["seconds"]
    results, times = Counter[str](), Counter[str]()
    saved: defaultdict[str, float] = defaultdict(float)
    for row in rows:
        step_id = row["step_id"]
        results[step_id] += 1
        times[step_id] += row["times"]
        saved[step_id] += row["times"] * seconds.get((row["flow_id"], step_id), 0.0)
    return [
        ReuseStatistics(
            step_id=step_id,
            results=results[step_id],
            times=times[step_id],
            seconds_saved=saved[step_id],
        )
        for step_id in sorted(results)
    ]
