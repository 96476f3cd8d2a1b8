"""What the leases of every store must do: one worker a flow, and every flow gets one."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from chem_persistence import (
    Artifact,
    ArtifactNotFound,
    ConcurrencyConflict,
    EventIdReused,
    FlowCancelled,
    FlowCompleted,
    FlowEventKind,
    InvalidArgument,
    PropertyPreferenceAssigned,
    Renewal,
    RetryScheduled,
    StaleLease,
    StepFinished,
    StepSignal,
    StepStarted,
    StepWaits,
    UserInteractionProvided,
    UserInteractionRequested,
)
from tests.support.flows.flows import DEFINITION, initialized, new_flow_id
from tests.support.leases.desk import (
    HOUR,
    NOW,
    Desk,
    failed,
    given,
)

HASH = DEFINITION.definition_hash
OTHER, THIRD = "a" * 64, "b" * 64
STARTED = StepStarted(0, "acquire")
FINISHED = StepFinished(0, "acquire", (), "f" * 64)
SIGNAL = StepSignal(0, "acquire", "progress", 1)
ANSWER = UserInteractionProvided(0, "acquire", "yes")
PREFERENCE = PropertyPreferenceAssigned("charge", "gasteiger", "c" * 64)
COMPLETED = FlowCompleted("e" * 64)
CANCELLED = FlowCancelled("not needed any more")


def in_an_hour() -> datetime:
    return datetime.now(UTC) + HOUR


def retry(not_before: datetime | None = None) -> RetryScheduled:
    if not_before is None:
        return RetryScheduled("acquire", 1, "again")
    return RetryScheduled("acquire", 1, "again", not_before=not_before)


def waits(until: datetime | None = None) -> StepWaits:
    return StepWaits(0, "acquire", until)


def asks(until: datetime | None = None) -> UserInteractionRequested:
    if until is None:
        return UserInteractionRequested(0, "acquire")
    return UserInteractionRequested(0, "acquire", until=until)


async def claimed(desk: Desk, *definitions: str, limit: int = 10) -> set[UUID]:
    claims = await desk.leases.claim(definitions or (HASH,), uuid4(), limit, HOUR)
    return {claim.flow_id for claim in claims}


# ---- claims


async def test_a_flow_that_is_given_to_workers_is_claimed_by_one(desk: Desk) -> None:
    flow_id, worker = await desk.submit(), uuid4()
    (claim,) = await desk.leases.claim([HASH], worker, 10, HOUR)
    assert (claim.flow_id, claim.definition_hash) == (flow_id, HASH)
    row = await desk.seen(flow_id)
    assert (row.due, row.lease, row.holder) == ("in 1 h", claim.token, worker)
    assert await claimed(desk) == set()


async def test_a_flow_without_a_due_time_belongs_to_nobody(desk: Desk) -> None:
    flow_id = new_flow_id()
    await desk.store.append_kinds(flow_id, [initialized(), STARTED, SIGNAL, failed(), retry()])
    await desk.store.append_kind(flow_id, waits())
    assert await desk.row(flow_id) is None
    assert await claimed(desk) == set()
    assert await desk.leases.take(flow_id, uuid4(), HOUR) is None


async def test_a_flow_is_claimed_when_it_is_due(desk: Desk) -> None:
    flow_id = await desk.submit(HOUR)
    assert (await desk.seen(flow_id)).due == "in 1 h"
    assert await claimed(desk) == set()
    await desk.make_due(flow_id)
    assert await claimed(desk) == {flow_id}


async def test_only_the_definitions_that_are_asked_for_are_claimed(desk: Desk) -> None:
    flow_id = await desk.submit(definition_hash=OTHER)
    assert await claimed(desk, HASH, THIRD) == set()
    assert await claimed(desk, HASH, OTHER, OTHER) == {flow_id}


async def test_no_definition_and_no_place_claim_nothing(desk: Desk) -> None:
    await desk.submit()
    assert await desk.leases.claim([], uuid4(), 10, HOUR) == []
    assert await claimed(desk, limit=0) == set()


async def test_the_longest_due_are_claimed_first(desk: Desk) -> None:
    flow_ids = [await desk.submit(timedelta(hours=-hours)) for hours in (1, 3, 2)]
    if desk.name == "distributed":  # there it is a sample of those
        assert len(await claimed(desk, limit=2)) == 2
    else:
        assert await claimed(desk, limit=2) == {flow_ids[1], flow_ids[2]}


async def test_definitions_with_due_flows_share_a_claim(desk: Desk) -> None:
    for definition in (HASH, OTHER):
        for _ in range(4):
            await desk.submit(definition_hash=definition)
    claims = await desk.leases.claim([HASH, OTHER, THIRD], uuid4(), 4, HOUR)
    assert len(claims) == 4
    if desk.name != "distributed":  # there it is a sample
        assert Counter(claim.definition_hash for claim in claims) == {HASH: 2, OTHER: 2}


async def test_a_definition_alone_gets_the_whole_claim(desk: Desk) -> None:
    flow_ids = {await desk.submit() for _ in range(4)}
    assert await claimed(desk, *(f"{number:064x}" for number in range(50)), HASH, limit=4) == (
        flow_ids
    )


async def test_a_flow_whose_lease_ended_is_claimed_by_another(desk: Desk) -> None:
    flow_id = await desk.submit()
    (first,) = await desk.leases.claim([HASH], uuid4(), 1, NOW)
    (second,) = await desk.leases.claim([HASH], uuid4(), 1, HOUR)
    assert (second.flow_id, second.token != first.token) == (flow_id, True)
    assert (await desk.seen(flow_id)).lease == second.token


async def test_one_flow_is_taken_before_it_is_due_and_only_once(desk: Desk) -> None:
    flow_id = await desk.submit(HOUR)
    token = await desk.take(flow_id)
    assert (await desk.seen(flow_id)).lease == token
    assert await desk.leases.take(flow_id, uuid4(), HOUR) is None
    await desk.make_due(flow_id)
    assert await desk.take(flow_id) != token


async def test_a_claim_needs_a_worker_and_lengths_that_can_be(desk: Desk) -> None:
    flow_id = await desk.submit()
    for worker, limit, duration in (
        (UUID(int=0), 1, HOUR),
        (uuid4(), -1, HOUR),
        (uuid4(), 1, -HOUR),
        (uuid4(), 1, timedelta.max),
    ):
        with pytest.raises(InvalidArgument):
            await desk.leases.claim([HASH], worker, limit, duration)
    with pytest.raises(InvalidArgument):
        await desk.leases.give_back(flow_id, uuid4(), -HOUR)
    with pytest.raises(InvalidArgument):
        await desk.leases.renew([(flow_id, uuid4())], -HOUR)


# ---- renewals, and the ways back


async def test_a_lease_is_renewed(desk: Desk) -> None:
    flow_id = await desk.submit()
    token = await desk.take(flow_id, NOW)
    assert await desk.leases.renew([(flow_id, token)], 2 * HOUR) == {flow_id: Renewal.RENEWED}
    assert (await desk.seen(flow_id)).due == "in 2 h"
    assert await claimed(desk) == set()


async def test_a_renewal_says_which_flows_were_called_and_which_are_lost(desk: Desk) -> None:
    flow_ids = [await desk.submit() for _ in range(4)]
    held = [(flow_id, await desk.take(flow_id, NOW)) for flow_id in flow_ids]
    await desk.store.append_kind(flow_ids[1], SIGNAL)
    await desk.take(flow_ids[2])
    await desk.store.append_kind(flow_ids[3], CANCELLED)
    found = await desk.leases.renew(held, HOUR)
    assert [found[flow_id] for flow_id in flow_ids] == [
        Renewal.RENEWED,
        Renewal.CALLED,
        Renewal.LOST,
        Renewal.LOST,
    ]
    assert await desk.leases.renew([], HOUR) == {}


@pytest.mark.parametrize(
    ("due_in", "called", "due"),
    [
        (None, False, "never"),
        (HOUR, False, "in 1 h"),
        (NOW, False, "now"),
        (None, True, "now"),
        (HOUR, True, "now"),
    ],
)
async def test_a_flow_is_given_back(
    desk: Desk, due_in: timedelta | None, due: str, *, called: bool
) -> None:
    flow_id = await desk.submit()
    token = await desk.take(flow_id)
    if called:
        assert await desk.leases.call([flow_id, new_flow_id()]) == [flow_id]
        assert (await desk.seen(flow_id)).called
    assert await desk.leases.give_back(flow_id, token, due_in)
    row = await desk.seen(flow_id)
    assert (row.due, row.lease, row.holder, row.called) == (due, None, None, False)


async def test_a_flow_is_given_back_by_its_holder_alone(desk: Desk) -> None:
    flow_id = await desk.submit()
    stale = await desk.take(flow_id, NOW)
    token = await desk.take(flow_id)
    assert not await desk.leases.give_back(flow_id, stale, None)
    assert await desk.leases.release([(flow_id, stale)]) == []
    assert (await desk.seen(flow_id)).lease == token


async def test_flows_that_are_released_are_due_at_once(desk: Desk) -> None:
    flow_ids = {await desk.submit() for _ in range(3)}
    held = [(flow_id, await desk.take(flow_id)) for flow_id in flow_ids]
    assert set(await desk.leases.release(held)) == flow_ids
    assert await claimed(desk) == flow_ids
    assert await desk.leases.release([]) == []


async def test_a_call_makes_a_flow_due_that_nobody_holds(desk: Desk) -> None:
    flow_id = await desk.submit(HOUR)
    assert await desk.leases.call([flow_id]) == [flow_id]
    row = await desk.seen(flow_id)
    assert (row.due, row.called) == ("now", False)
    assert await desk.leases.call([]) == []


# ---- the fence


async def test_the_holder_appends(desk: Desk) -> None:
    flow_id = await desk.submit()
    mine = desk.store.leased(flow_id, await desk.take(flow_id))
    event = await mine.append_kind(flow_id, STARTED, expected_version=1)
    more = await mine.append_kinds(flow_id, [FINISHED, COMPLETED], expected_version=2)
    assert await mine.list(flow_id, after_version=0) == [event, *more]
    assert await desk.row(flow_id) is None


@pytest.mark.parametrize("expected_version", [None, 1])
async def test_a_worker_that_lost_the_flow_appends_nothing(
    desk: Desk, expected_version: int | None
) -> None:
    flow_id = await desk.submit()
    stale = desk.store.leased(flow_id, await desk.take(flow_id, NOW))
    await desk.take(flow_id)
    with pytest.raises(StaleLease) as caught:
        await stale.append_kind(flow_id, STARTED, expected_version=expected_version)
    assert caught.value.flow_id == flow_id
    assert len(await desk.store.list(flow_id)) == 1


async def test_a_lease_is_stale_also_if_the_flow_has_moved_on(desk: Desk) -> None:
    flow_id = await desk.submit()
    stale = desk.store.leased(flow_id, await desk.take(flow_id, NOW))
    mine = desk.store.leased(flow_id, await desk.take(flow_id))
    await mine.append_kind(flow_id, STARTED, expected_version=1)
    with pytest.raises(StaleLease):
        await stale.append_kind(flow_id, STARTED, expected_version=1)


async def test_a_large_artifact_is_not_stored_under_a_stale_lease(desk: Desk) -> None:
    """One that is so large that PostgreSQL gets it after its event, in pieces."""
    grid = Artifact.from_content(kind="grid", content=bytes(5 * 2**20), media_type="x/grid")
    flow_id = await desk.submit()
    stale = desk.store.leased(flow_id, await desk.take(flow_id, NOW))
    mine = desk.store.leased(flow_id, await desk.take(flow_id))
    with pytest.raises(StaleLease):
        await stale.append_kind(flow_id, STARTED, artifacts=[grid])
    with pytest.raises(ArtifactNotFound):
        await desk.store.get_artifact(grid.hash)
    await mine.append_kind(flow_id, STARTED, artifacts=[grid])
    assert await desk.store.get_artifact(grid.hash) == grid


async def test_a_lease_that_ended_counts_until_another_worker_claims(desk: Desk) -> None:
    flow_id = await desk.submit()
    mine = desk.store.leased(flow_id, await desk.take(flow_id, NOW))
    assert (await mine.append_kind(flow_id, STARTED, expected_version=1)).version == 1


@pytest.mark.parametrize("how", ["given back", "waits", "completed", "never claimed", "no row"])
async def test_a_lease_is_stale_once_the_flow_is_released(desk: Desk, how: str) -> None:
    flow_id = await desk.submit()
    token = uuid4() if how == "never claimed" else await desk.take(flow_id)
    mine = desk.store.leased(flow_id, token)
    match how:
        case "given back":
            await desk.leases.give_back(flow_id, token, None)
        case "waits":
            await mine.append_kind(flow_id, waits())
        case "completed":
            await mine.append_kind(flow_id, COMPLETED)
        case "no row":
            await desk.forget(flow_id)
        case _:
            assert how == "never claimed"
    with pytest.raises(StaleLease):
        await mine.append_kind(flow_id, PREFERENCE)


async def test_with_a_valid_lease_a_conflict_is_a_conflict(desk: Desk) -> None:
    flow_id = await desk.submit()
    mine = desk.store.leased(flow_id, await desk.take(flow_id))
    await desk.store.append_kind(flow_id, SIGNAL)
    with pytest.raises(ConcurrencyConflict):
        await mine.append_kind(flow_id, STARTED, expected_version=1)
    assert (await mine.append_kind(flow_id, STARTED, expected_version=2)).version == 2


async def test_a_repeated_append_returns_the_original_although_the_lease_is_gone(
    desk: Desk,
) -> None:
    flow_id, event_id = await desk.submit(), uuid4()
    mine = desk.store.leased(flow_id, await desk.take(flow_id, NOW))
    original = await mine.append_kind(flow_id, STARTED, expected_version=1, event_id=event_id)
    await desk.take(flow_id)
    again = await mine.append_kind(flow_id, STARTED, expected_version=1, event_id=event_id)
    assert again == original
    with pytest.raises(EventIdReused):
        await mine.append_kind(flow_id, FINISHED, event_id=event_id)


async def test_a_lease_is_of_one_flow(desk: Desk) -> None:
    flow_id, other = await desk.submit(), await desk.submit()
    mine = desk.store.leased(flow_id, await desk.take(flow_id))
    with pytest.raises(InvalidArgument):
        await mine.append_kind(other, STARTED)
    with pytest.raises(InvalidArgument):
        desk.store.leased(UUID(int=0), uuid4())
    assert len(await mine.list(other)) == 1


# ---- how the row follows the events

CHANGES: list[tuple[str, list[FlowEventKind], bool, str, bool]] = [
    ("S", [STARTED], True, "in 1 h", True),
    ("F and S", [FINISHED, StepStarted(1, "compute")], True, "in 1 h", True),
    ("P", [PREFERENCE], True, "in 1 h", True),
    ("G of the holder", [SIGNAL], True, "in 1 h", True),
    ("G", [SIGNAL], False, "in 1 h, called", True),
    ("V", [ANSWER], False, "in 1 h, called", True),
    ("V of the holder", [ANSWER], True, "in 1 h, called", True),
    ("X", [failed()], True, "never", False),
    ("X and R", [failed(), retry()], True, "now", False),
    ("X and a later R", [failed(), retry(in_an_hour() + HOUR)], True, "in 2 h", False),
    ("R", [retry()], False, "now", False),
    ("W", [waits()], True, "never", False),
    ("W until", [waits(in_an_hour() + HOUR)], True, "in 2 h", False),
    ("F, S and W", [FINISHED, STARTED, waits()], True, "never", False),
    ("G and W of the holder", [SIGNAL, waits()], True, "never", False),
    ("G and W", [SIGNAL, waits()], False, "now", False),
    ("U", [asks()], True, "never", False),
    ("U until", [asks(in_an_hour() + HOUR)], True, "in 2 h", False),
    ("W and G", [waits(), SIGNAL], False, "now", False),
    ("R and S", [retry(in_an_hour()), STARTED], False, "now", False),
]


@pytest.mark.parametrize(
    ("kinds", "leased", "due", "held"), [case[1:] for case in CHANGES], ids=[c[0] for c in CHANGES]
)
async def test_a_held_row_follows_the_events(
    desk: Desk, kinds: list[FlowEventKind], due: str, *, leased: bool, held: bool
) -> None:
    flow_id = await desk.submit()
    token = await desk.take(flow_id)
    store = desk.store.leased(flow_id, token) if leased else desk.store
    await store.append_kinds(flow_id, kinds)
    row = await desk.seen(flow_id)
    assert row.due + (", called" if row.called else "") == due
    assert (row.lease, row.holder is not None) == ((token, True) if held else (None, False))


FREE: list[tuple[str, list[FlowEventKind], str]] = [
    ("S", [STARTED], "in 2 h"),
    ("G", [SIGNAL], "now"),
    ("V", [ANSWER], "now"),
    ("X", [failed()], "never"),
    ("R", [retry()], "now"),
    ("a later R", [retry(in_an_hour())], "in 1 h"),
    ("W", [waits()], "never"),
    ("G and W", [SIGNAL, waits()], "never"),
    ("U until", [asks(in_an_hour())], "in 1 h"),
]


@pytest.mark.parametrize(
    ("kinds", "due"), [case[1:] for case in FREE], ids=[case[0] for case in FREE]
)
async def test_a_free_row_follows_the_events(
    desk: Desk, kinds: list[FlowEventKind], due: str
) -> None:
    flow_id = await desk.submit(2 * HOUR)
    await desk.store.append_kinds(flow_id, kinds)
    row = await desk.seen(flow_id)
    assert (row.due, row.lease, row.called) == (due, None, False)


@pytest.mark.parametrize(
    ("more", "due"),
    [
        ([], "in 2 h"),
        ([STARTED], "now"),
        ([SIGNAL], "now"),
        ([STARTED, waits()], "never"),
        ([SIGNAL, waits(in_an_hour())], "in 1 h"),
        ([STARTED, failed()], "never"),
    ],
)
async def test_events_that_come_with_the_first_one_count(
    desk: Desk, more: list[FlowEventKind], due: str
) -> None:
    flow_id = await desk.submit(2 * HOUR, *more)
    assert (await desk.seen(flow_id)).due == due


@pytest.mark.parametrize("last", [COMPLETED, CANCELLED])
async def test_a_flow_that_is_over_has_no_row(desk: Desk, last: FlowEventKind) -> None:
    held, free = await desk.submit(), await desk.submit(HOUR)
    await desk.take(held)
    for flow_id in (held, free):
        await desk.store.append_kind(flow_id, last)
        assert await desk.row(flow_id) is None
        await desk.store.append_kind(flow_id, SIGNAL)
        assert await desk.row(flow_id) is None
    for more in ([], [retry()]):
        over = await desk.submit(NOW, last, *more)
        assert await desk.row(over) is None
    assert await desk.leases.rebuild() == 0


@pytest.mark.parametrize("parks", [waits(), asks(), waits(in_an_hour())])
async def test_a_flow_that_was_called_does_not_wait(desk: Desk, parks: FlowEventKind) -> None:
    flow_id = await desk.submit()
    mine = desk.store.leased(flow_id, await desk.take(flow_id))
    await desk.leases.call([flow_id])
    await mine.append_kind(flow_id, parks)
    row = await desk.seen(flow_id)
    assert (row.due, row.lease, row.called) == ("now", None, False)


async def test_a_flow_that_was_called_stays_so_when_another_claims_it(desk: Desk) -> None:
    flow_id = await desk.submit()
    await desk.take(flow_id, NOW)
    await desk.leases.call([flow_id])
    (claim,) = await desk.leases.claim([HASH], uuid4(), 1, NOW)
    assert (await desk.seen(flow_id)).called
    token = await desk.take(flow_id)
    assert token != claim.token
    assert await desk.leases.renew([(flow_id, token)], HOUR) == {flow_id: Renewal.CALLED}
    await desk.store.leased(flow_id, token).append_kind(flow_id, waits())
    row = await desk.seen(flow_id)
    assert (row.due, row.called) == ("now", False)


async def test_the_row_follows_what_a_transaction_commits(desk: Desk) -> None:
    flow_id, other = await desk.submit(HOUR), new_flow_id()

    async def changes_its_mind() -> None:
        async with desk.store.transaction() as tx:
            await tx.append_kind(other, given())
            await tx.append_kind(flow_id, SIGNAL)
            raise KeyError

    with pytest.raises(KeyError):
        await changes_its_mind()
    assert (await desk.seen(flow_id)).due == "in 1 h"
    assert await desk.row(other) is None
    async with desk.store.transaction() as tx:
        await tx.append_kind(other, given())
        await tx.append_kind(flow_id, SIGNAL)
    assert {(await desk.seen(each)).due for each in (flow_id, other)} == {"now"}


# ---- the rebuild

HISTORIES: list[tuple[str, list[FlowEventKind], str | None]] = [
    ("I", [], "in 2 h"),
    ("S", [STARTED], "now"),
    ("F", [STARTED, FINISHED], "now"),
    ("X", [STARTED, failed()], "never"),
    ("R", [STARTED, failed(), retry()], "now"),
    ("a later R", [STARTED, failed(), retry(in_an_hour())], "in 1 h"),
    ("R and S", [STARTED, failed(), retry(in_an_hour()), STARTED], "now"),
    ("W", [STARTED, waits()], "never"),
    ("W until", [STARTED, waits(in_an_hour())], "in 1 h"),
    ("W and G", [STARTED, waits(), SIGNAL], "now"),
    ("U and V", [STARTED, asks(), ANSWER], "now"),
    ("P", [STARTED, waits(), PREFERENCE], "never"),
    ("C", [STARTED, FINISHED, COMPLETED], None),
    ("K", [STARTED, CANCELLED], None),
]


@pytest.mark.parametrize(
    ("kinds", "due"), [case[1:] for case in HISTORIES], ids=[case[0] for case in HISTORIES]
)
async def test_a_lost_row_is_rebuilt_from_the_log(
    desk: Desk, kinds: list[FlowEventKind], due: str | None
) -> None:
    flow_id = await desk.submit(2 * HOUR)
    for kind in kinds:
        await desk.store.append_kind(flow_id, kind)
    if due is not None:
        await desk.forget(flow_id)
    assert await desk.leases.rebuild() == (due is not None)
    row = await desk.row(flow_id)
    assert (None if row is None else row.due) == due
    assert await desk.leases.rebuild() == 0


async def test_a_rebuild_leaves_alone_what_is_held_or_due_earlier(desk: Desk) -> None:
    held, called, nobodys = await desk.submit(), await desk.submit(HOUR), new_flow_id()
    await desk.store.append_kind(nobodys, initialized())
    token = await desk.take(held)
    await desk.leases.call([called])
    assert await desk.leases.rebuild() == 0
    assert (await desk.seen(held)).lease == token
    assert (await desk.seen(called)).due == "now"
    assert await desk.row(nobodys) is None


async def test_a_rebuild_makes_due_what_stands_too_late(desk: Desk) -> None:
    flow_id = await desk.submit()
    await desk.leases.give_back(flow_id, await desk.take(flow_id), None)
    assert (await desk.seen(flow_id)).due == "never"
    assert await desk.leases.rebuild() == 1
    assert (await desk.seen(flow_id)).due == "now"
