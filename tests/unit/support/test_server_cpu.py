"""The benchmarks' count of a server's CPU works while its processes start and end."""

import subprocess

from benchmarks.contestants.cpu import server_cpu_seconds

CHURN = "i=0; while [ $i -lt 1500 ]; do /bin/true & i=$((i+1)); done; wait; echo done; read _"
"""A parent that starts 1,500 children, waits for each, and ends when its input is closed."""


def test_processes_that_end_while_they_are_counted_do_not_stop_the_count() -> None:
    with subprocess.Popen(
        ["sh", "-c", CHURN], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdin is not None
        assert parent.stdout is not None
        during = [server_cpu_seconds(parent.pid) for _ in range(20)]
        assert parent.stdout.readline() == "done\n"
        after = server_cpu_seconds(parent.pid)
        parent.stdin.close()
    assert during == sorted(during)
    assert after >= during[-1]
    assert after > 0
