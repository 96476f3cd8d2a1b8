"""Every order of what can happen to a submission: there is never a second job."""

import pytest

from tests.unit.engine.jobs.job_model import START, Rules, steps, two_jobs
from tests.unit.leases.search import search


def test_there_is_never_a_second_job() -> None:
    found = search(START, steps(Rules()), two_jobs)
    assert (found.fault, found.way) == (None, ())
    assert found.states > 1_000


@pytest.mark.parametrize(
    "mutant",
    [Rules(settled=lambda _: True), Rules(starts_that_submit=2), Rules(settles=False)],
    ids=["a call cuts the wait short", "a second start submits", "no wait"],
)
def test_a_mutant_submits_twice(mutant: Rules) -> None:
    assert search(START, steps(mutant), two_jobs).fault == "two jobs"
