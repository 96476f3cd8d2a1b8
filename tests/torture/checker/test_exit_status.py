"""The exit status of a run tells a broken guarantee from what was not shown."""

import pytest

from tests.torture.checker.check import Verdict
from tests.torture.checker.findings import Finding, Flaw
from tests.torture.checker.ledger import Ledger
from tests.torture.report import BROKEN, NOT_SHOWN, exit_status, not_shown, report
from tests.torture.run import Outcome, Window

IN_TIME, LATE = Window("a kill", 0.0, 1.0, 0.5), Window("a kill", 0.0, 1.0)
LOST = Finding(Flaw.LOST, "gone")


@pytest.mark.parametrize(
    ("windows", "findings", "long_enough", "expected", "said"),
    [
        ([IN_TIME], [], True, 0, []),
        ([LATE], [], True, NOT_SHOWN, ["not recovered from within the limit: a kill"]),
        ([], [], True, NOT_SHOWN, ["never injected: a kill"]),
        ([], [], False, 0, []),
        ([IN_TIME], [LOST], True, BROKEN, []),
        ([LATE], [LOST], True, BROKEN, ["not recovered from within the limit: a kill"]),
    ],
)
def test_a_finding_is_1_and_what_was_not_shown_is_3(
    windows: list[Window],
    findings: list[Finding],
    long_enough: bool,  # noqa: FBT001
    expected: int,
    said: list[str],
) -> None:
    outcome = Outcome(windows, [], [], Ledger(), Verdict(findings=findings), {}, 1.0)
    missing = not_shown(outcome, ["a kill"], long_enough=long_enough)
    assert (exit_status(outcome, missing), missing) == (expected, said)
    lines = report(outcome, ["a kill"], [], missing).splitlines()
    assert [line for line in lines if line.startswith("Not everything was shown")] == [
        f"Not everything was shown: {each}" for each in said
    ]
