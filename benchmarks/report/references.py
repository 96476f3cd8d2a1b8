"""What each figure is divided by: the floor that was measured in the same rounds."""

from benchmarks.report.report import Report

__all__ = ["reference_of"]

_FLOORS = {
    "ours, batches": "COPY/1",
    "COPY": "COPY/1",
    "ours, replay": "row floor/1",
    "ours, opening": "row floor/1",
    "eventsourcing replay": "row floor/1",
    "row floor": "row floor/1",
    "ours, list of ten": "row floor of ten/32",
    "row floor of ten": "row floor of ten/32",
}

_WITHOUT_FLOOR = ("worker", "append, ", "first step", "idle", "answer", "map")
"""How the names of those begin that run flows: no plain statement does what they do."""


def reference_of(report: Report, key: str) -> str | None:
    """Return the key of a task's floor: pgbench's best if concurrent, else the plain INSERT.

    What runs flows has none.
    """
    name, _, flows = key.rpartition("/")
    if name.startswith(_WITHOUT_FLOOR):
        return None
    if name in _FLOORS:
        return _FLOORS[name]
    if name.startswith("growth"):
        return f"{name.partition(',')[0]}, 10 thousand/1"
    if name.endswith(", artifact"):
        return report.best_of("pgbench, artifact")
    return "plain INSERT/1" if flows == "1" else report.best_of("pgbench")
