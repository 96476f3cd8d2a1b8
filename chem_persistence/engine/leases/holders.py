"""The holder of the leases of a program that is no worker: this process, which others can look for.

A program that was killed leaves a lease that nobody renews. Another process of the machine need not
wait until it ends: the holder's id names the machine's boot, the process and its start, so that it
can be seen whether the process is still there. What is decided by it is as safe as the end of a
lease: appends of a process that is believed dead are refused by the token of the next lease.
"""

import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import sha256
from pathlib import Path
from uuid import UUID, uuid4

__all__ = ["being_run", "has_ended", "own_holder"]

MACHINE_BITS, PID_BITS, START_BITS = 60, 22, 40
"""A pid of Linux has at most 22 bits; the ticks of a century since the boot have 39."""

_being_run: Counter[UUID] = Counter()


def own_holder() -> UUID:
    """Return the id under which this process holds flows."""
    return _holder(os.getpid())


@contextmanager
def being_run(flow_id: UUID) -> Iterator[None]:
    """Note, for the length of a block, that this process holds a flow, or is about to take it."""
    _being_run[flow_id] += 1
    try:
        yield
    finally:
        _being_run[flow_id] -= 1
        if not _being_run[flow_id]:
            del _being_run[flow_id]


def has_ended(holder: UUID, flow_id: UUID) -> bool:
    """Return whether it is certain that a holder does not run a flow any more.

    That is so for a process of this machine that is not there, and for this process if nothing but
    the caller, in its block of `being_run`, is about to run the flow.
    """
    if holder == own_holder():
        return _being_run[flow_id] <= 1
    machine, pid, start = _parts(holder)
    if holder.version != 8 or machine != _machine() or not machine:  # RFC 9562
        return False
    return not _is_there(pid) or _start_of(pid) not in (start, None)


@cache
def _holder(pid: int) -> UUID:
    """Return a UUIDv8 (RFC 9562, section 5.8): a hash of the machine, a pid, and its start."""
    machine, start = _machine(), _start_of(pid)
    if not machine or start is None:
        return uuid4()
    free = ((machine << PID_BITS) | pid) << START_BITS | start
    high, middle, low = free >> 74, free >> 62 & 0xFFF, free & ((1 << 62) - 1)
    return UUID(int=high << 80 | 8 << 76 | middle << 64 | 0b10 << 62 | low)


def _parts(holder: UUID) -> tuple[int, int, int]:
    """Return the hash of the machine, the pid, and its start."""
    number = holder.int
    free = (number >> 80) << 74 | (number >> 64 & 0xFFF) << 62 | number & ((1 << 62) - 1)
    pid = free >> START_BITS & ((1 << PID_BITS) - 1)
    return free >> (PID_BITS + START_BITS), pid, free & ((1 << START_BITS) - 1)


def _machine() -> int:
    """Return a number of this boot of the machine and of the namespace of its pids; 0: unknown."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_bytes()
        namespace = Path("/proc/self/ns/pid").readlink()
    except OSError:
        return 0
    hashed = sha256(boot + bytes(namespace)).digest()
    return int.from_bytes(hashed, "big") >> (256 - MACHINE_BITS)


def _is_there(pid: int) -> bool:
    """Return whether there is a process with this pid, also if /proc hides it from this user."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:  # it is another user's
        return True
    return True


def _start_of(pid: int) -> int | None:
    """Return when a process started, in ticks since the boot; None if that cannot be read.

    A process that has ended, and for which its parent has not yet waited, has started never: -1.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    state, *fields = stat.rpartition(")")[2].split()  # proc(5): the third field and the others
    return -1 if state in "ZX" else int(fields[18])
