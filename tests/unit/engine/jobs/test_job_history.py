"""What the log says about a step's jobs: which it is, and whether one may be under way."""

from uuid import UUID

import pytest

from chem_persistence import SystemClock
from chem_persistence.engine.jobs.history import (
    JobHistory,
    JobMemory,
    has_settled,
    job_history,
    job_token,
    memory_of,
)
from tests.unit.engine.jobs.facts import TOKEN, events


@pytest.mark.parametrize(
    ("facts", "failures", "starts", "deaths"),
    [
        ("", 0, 0, 0),
        ("S", 0, 1, 1),
        ("oS", 0, 1, 1),
        ("SS", 0, 2, 2),
        ("SGS", 0, 2, 1),
        ("SgS", 0, 2, 2),
        ("SSw", 0, 0, 1),
        ("SSwS", 0, 1, 2),
        ("SSwSSw", 0, 0, 2),
        ("SSwSSwS", 0, 1, 3),
        ("Se", 0, 0, 0),
        ("SeNRS", 0, 1, 1),
        ("SeXRS", 0, 2, 1),
        ("SSwXRS", 0, 2, 1),
        ("SXRS", 0, 2, 1),
        ("SSSLRS", 0, 4, 1),
        ("Sj", 0, 0, 0),
        ("SjXRS", 0, 2, 1),
        ("SjJRS", 1, 1, 1),
        ("SjJRSjJRS", 2, 1, 1),
        ("SjJRSS", 1, 2, 2),
    ],
)
def test_the_history_says_whether_a_job_may_be_under_way(
    facts: str, failures: int, starts: int, deaths: int
) -> None:
    assert job_history(events(facts), 0) == JobHistory(failures, starts, deaths)


@pytest.mark.parametrize(
    ("facts", "settled"),
    [
        ("Se", True),
        ("SSw", True),
        ("oSSw", True),
        ("SGSw", True),
        ("Sew", True),
        ("Seg", False),
        ("SegG", False),
        ("Sge", False),
        ("gSSw", False),
        ("Segw", False),
        ("Segww", True),
    ],
)
def test_a_wait_has_passed_unless_a_call_may_have_cut_it_short(
    facts: str, *, settled: bool
) -> None:
    assert has_settled(events(facts)) is settled


def test_the_memory_of_a_wait_is_read_back() -> None:
    memory = JobMemory(2, TOKEN, job={"id": 17}, since=SystemClock().now())
    assert memory_of(memory.data()) == memory


@pytest.mark.parametrize(
    "data", [None, 3, {}, {"children": 2}, {"batch_job": 3}, {"batch_job": {}}]
)
def test_another_memory_is_none(data: object) -> None:
    assert memory_of(data) is None


def test_each_job_has_a_token_of_its_own() -> None:
    tokens = {
        job_token(UUID(int=n), index, number)
        for n in (1, 2)
        for index in (0, 1)
        for number in (0, 1)
    }
    assert len(tokens) == 8
