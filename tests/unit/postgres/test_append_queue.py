"""The order in which queued appends are stored, and how many of them together."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from chem_persistence import StepSignal, StoreError
from chem_persistence.postgres.append.answers import Answers
from chem_persistence.postgres.append.place_events import Append
from chem_persistence.postgres.append.queue import (
    HEAVY_APPEND,
    HEAVY_BATCH,
    MAX_BYTES,
    MAX_EVENTS,
    MIN_SHARE,
    MIN_SHARE_OF_MANY,
    AppendQueue,
    QueuedAppend,
)
from chem_persistence.postgres.append.settle import Outcome, Reason, Refused, Stored, TryAgain
from chem_persistence.store.append_request import AppendCall, append_request

A, B, C = (UUID(int=number) for number in (1, 2, 3))


def append(
    flow_id: UUID, *, events: int = 1, data: Any = None, lease: UUID | None = None
) -> QueuedAppend:
    call = AppendCall(flow_id, [StepSignal(0, "acquire", "said", data)] * events, lease=lease)
    request = append_request(call, ts=datetime(2026, 1, 1, tzinfo=UTC), max_artifact_bytes=1)
    return QueuedAppend(request, answered=asyncio.get_running_loop().create_future())


def future_of(append: QueuedAppend) -> "asyncio.Future[Any]":
    assert isinstance(append.answered, asyncio.Future)
    return append.answered


def queue_of(
    *appends: QueuedAppend, max_events: int = 10, max_bytes: int = 10_000, shares: int = 1
) -> AppendQueue:
    queue = AppendQueue(max_events, max_bytes, shares)
    for each in appends:
        queue.put(each)
    return queue


def stored(batch: Sequence[QueuedAppend]) -> dict[Append, Outcome]:
    return {each: Stored([]) for each in batch}


def flows(batch: list[QueuedAppend]) -> list[UUID]:
    return [each.request.flow_id for each in batch]


async def test_appends_of_one_flow_go_side_by_side_and_in_order() -> None:
    first, second, third = append(A), append(B), append(A)
    assert queue_of(first, second, third).take() == [first, third, second]


async def test_a_flow_whose_batch_is_under_way_waits() -> None:
    first, second, other = append(A), append(A), append(B)
    queue = queue_of(first)
    assert queue.take() == [first]
    queue.put(second)
    queue.put(other)
    assert queue.take() == [other]
    assert not queue
    queue.finish([first], stored([first]))
    assert queue.take() == [second]


async def test_appends_of_one_flow_with_different_leases_are_not_in_one_batch() -> None:
    mine, also_mine, plain, others = [append(A, lease=lease) for lease in (B, B, None, C)]
    other_flow = append(B)
    queue = queue_of(mine, also_mine, plain, others, other_flow)
    batches = []
    while batch := queue.take():
        batches.append(batch)
        queue.finish(batch, stored(batch))
    assert batches == [[mine, also_mine, other_flow], [plain], [others]]


async def test_what_has_to_be_tried_again_goes_before_what_came_later() -> None:
    first, second, third = append(A), append(A), append(A)
    queue = queue_of(first, second)
    queue.take()
    queue.put(third)
    queue.finish([first, second], {})
    assert queue.take() == [first, second, third]


async def test_each_caller_gets_the_outcome_of_its_own_append() -> None:
    kept, refused = append(A), append(B)
    queue = queue_of(kept, refused)
    error = StoreError("refused", None)
    queue.finish(queue.take(), {kept: Stored([]), refused: Refused(error)})
    assert (future_of(kept).result(), future_of(refused).exception()) == ([], error)
    assert not queue


async def test_a_flow_that_a_lock_holds_up_stays_under_way() -> None:
    held, free, other = append(A), append(B), append(C)
    queue = queue_of(held, append(A), free)
    batch = queue.take()
    queue.put(other)
    locked = TryAgain(Reason.LOCKED)
    left = queue.finish(batch, {**stored([free]), held: locked})
    assert left == [batch[:2]]  # with the appends behind it
    queue.put(append(A))
    queue.put(append(B))
    assert flows(queue.take()) == [C, B]
    queue.finish(left[0], stored(left[0]))
    assert flows(queue.take()) == [A]


async def test_a_caller_that_was_cancelled_is_not_answered_and_not_tried_again() -> None:
    gone, here = append(A), append(A)
    queue = queue_of(gone, here)
    batch = queue.take()
    future_of(gone).cancel()
    assert queue.finish(batch, {gone: TryAgain(Reason.LOCKED)}) == []
    assert queue.take() == [here]


async def test_a_batch_ends_where_it_would_have_too_many_events() -> None:
    queue = queue_of(append(A, events=6), append(B, events=4), append(C, events=1))
    assert flows(queue.take()) == [A, B]
    assert flows(queue.take()) == [C]


async def test_a_batch_ends_where_it_would_have_too_many_bytes() -> None:
    queue = queue_of(
        append(A, data="x" * 4_000), append(B, data="x" * 4_000), append(C, data="x" * 4_000)
    )
    assert flows(queue.take()) == [A, B]
    assert flows(queue.take()) == [C]


async def test_a_huge_append_goes_alone_and_holds_up_nobody_behind_it() -> None:
    queue = queue_of(append(A, events=100), append(B), append(C))
    assert flows(queue.take()) == [A]
    assert flows(queue.take()) == [B, C]


async def test_a_huge_append_is_not_held_up_by_small_ones_for_ever() -> None:
    queue = queue_of(append(A), append(B, events=100), append(C))
    first = queue.take()
    queue.finish(first, stored(first))
    queue.put(append(A))
    assert flows(queue.take()) == [B]
    assert flows(queue.take()) == [C, A]


async def test_the_rest_of_a_long_line_goes_after_the_other_flows() -> None:
    line = [append(A, events=6) for _ in range(2)]
    queue = queue_of(*line, append(B, events=6))
    assert queue.take() == line[:1]
    other = queue.take()
    assert flows(other) == [B]
    queue.finish([line[0], *other], stored([line[0], *other]))
    assert queue.take() == line[1:]


async def test_an_append_that_nobody_waits_for_is_forgotten() -> None:
    first, second = append(A), append(A)
    queue = queue_of(first, second)
    queue.remove(first)
    assert queue.take() == [second]
    queue.remove(second)  # under way, so it is no longer in the queue
    queue.finish([second], stored([second]))
    assert not queue
    assert queue.take() == []


async def test_a_flow_that_is_forgotten_whole_leaves_nothing_behind() -> None:
    only = append(A)
    queue = queue_of(only)
    queue.remove(only)
    assert not queue
    queue.put(append(A))
    assert flows(queue.take()) == [A]


async def test_a_batch_may_keep_to_one_flow() -> None:
    queue = queue_of(append(A), append(B), append(A))
    queue.one_flow_each = True
    assert flows(queue.take()) == [A, A]
    assert flows(queue.take()) == [B]


def shared_queue_of(*appends: QueuedAppend) -> AppendQueue:
    return queue_of(*appends, max_events=MAX_EVENTS, max_bytes=MAX_BYTES, shares=2)


def crowd(size: int) -> list[QueuedAppend]:
    return [append(UUID(int=number)) for number in range(1, size + 1)]


async def test_batches_divide_the_busy_flows_between_them() -> None:
    waiting = crowd(4 * MIN_SHARE + 1)
    queue = shared_queue_of(*waiting)
    first, second = queue.take(), queue.take()
    assert [len(first), len(second)] == [2 * MIN_SHARE + 1, 2 * MIN_SHARE]
    assert first + second == waiting
    assert not queue


async def test_an_uneven_division_is_made_even() -> None:
    many, few = crowd(6 * MIN_SHARE)[: 5 * MIN_SHARE], crowd(6 * MIN_SHARE)[5 * MIN_SHARE :]
    queue = shared_queue_of(*few)
    assert queue.take() == few
    for each in many:
        queue.put(each)
    assert len(queue.take()) == 3 * MIN_SHARE
    assert queue


async def test_a_small_crowd_goes_together() -> None:
    waiting = crowd(MIN_SHARE)
    assert shared_queue_of(*waiting).take() == waiting


async def test_a_small_crowd_of_heavy_appends_is_divided() -> None:
    for part, sizes in ((2, [3, 3]), (4, [4, 2])):  # a half of them is enough, or is not
        data = "x" * (HEAVY_BATCH // part)
        waiting = [append(each.request.flow_id, data=data) for each in crowd(6)]
        queue = shared_queue_of(*waiting)
        first, second = queue.take(), queue.take()
        assert [len(first), len(second)] == sizes
        assert first + second == waiting


async def test_light_appends_go_together_whatever_they_have_in_sum() -> None:
    data = "x" * (HEAVY_APPEND * 3 // 4)
    waiting = [append(each.request.flow_id, data=data) for each in crowd(MIN_SHARE)]
    assert sum(each.request.size for each in waiting) > HEAVY_BATCH
    assert shared_queue_of(*waiting).take() == waiting


async def test_the_share_counts_flows_and_not_appends() -> None:
    line = [append(A) for _ in range(3 * MIN_SHARE)]
    assert shared_queue_of(*line).take() == line


async def test_flows_of_one_caller_are_divided_only_if_they_are_many() -> None:
    left: list[int] = []
    answers = Answers(MIN_SHARE_OF_MANY + 2, left.append)
    waiting = crowd(MIN_SHARE_OF_MANY + 2)
    for index, each in enumerate(waiting):
        each.answered = answers.expect(index, each.request.size)
    queue = shared_queue_of(*waiting)
    batch = queue.take()
    assert batch == waiting[:MIN_SHARE_OF_MANY]
    queue.finish(batch, stored(batch))
    assert left == [each.request.size for each in batch]
    assert answers.given == [*[[]] * MIN_SHARE_OF_MANY, None, None]


async def test_answers_that_are_abandoned_are_not_given() -> None:
    left: list[int] = []
    answers, only = Answers(1, left.append), append(A)
    only.answered = answers.expect(0, 7)
    answers.abandon()
    queue = queue_of(only)
    queue.finish(queue.take(), {only: Stored([])})
    assert (answers.given, left) == ([None], [7])
