"""CPU and memory of processes, from Linux's /proc (proc(5))."""

import os
from pathlib import Path

__all__ = ["read_memory", "reset_peak_memory", "server_cpu_seconds"]

_TICKS = os.sysconf("SC_CLK_TCK")


def server_cpu_seconds(postmaster: int) -> float:
    """Return the CPU seconds of the server and all its processes, ended ones included.

    A process that ends during the count could be missed or counted twice, so the count is repeated
    until no process has ended meanwhile.
    """
    while True:
        before = _ended_and_living(postmaster)
        try:
            ticks = sum(sum(_times(pid)[:2]) for pid in (postmaster, *before[1]))
        except (
            FileNotFoundError,
            ProcessLookupError,
        ):  # it ended before the open, or before the read
            continue
        if _ended_and_living(postmaster) == before:
            return (ticks + before[0]) / _TICKS


def _ended_and_living(postmaster: int) -> tuple[int, list[int]]:
    """Return the ticks of the ended children, and the process ids of the living ones."""
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text(encoding="ascii")
    return sum(_times(postmaster)[2:]), [int(pid) for pid in children.split()]


def _times(pid: int) -> tuple[int, int, int, int]:
    """Return utime, stime, cutime and cstime.

    The name before them may contain any character.
    """
    fields = (
        Path(f"/proc/{pid}/stat")
        .read_text(encoding="utf-8", errors="replace")
        .rpartition(")")[2]
        .split()
    )
    return int(fields[11]), int(fields[12]), int(fields[13]), int(fields[14])


def read_memory(field: str) -> int:
    """Read a size of this process in bytes: `VmRSS` now, `VmHWM` its peak since the last reset."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        name, _, size = line.partition(":")
        if name == field:
            return int(size.split()[0]) * 1024
    raise LookupError(field)


def reset_peak_memory() -> None:
    """Reset the peak memory (`VmHWM`) of this process."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
