"""The results of flows as rows, on every store."""

from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import msgspec
import pytest

from chem_persistence import (
    Artifact,
    ArtifactNotFound,
    Flow,
    FlowCompleted,
    FlowEngine,
    FlowEventKind,
    FlowInitialized,
    FlowNotFound,
    FlowState,
    InMemoryFlowRepository,
    InvalidArgument,
    InvalidPayload,
    Many,
    ResultOrigin,
    ResultRow,
    Results,
    Step,
    StepContext,
    StepFinished,
    flow,
)
from chem_persistence.domain.definition import definition_artifacts
from chem_persistence.domain.events import INVALIDATED, LibrarySignal
from chem_persistence.memory.outcomes import outcome_of
from chem_persistence.store.leasing.children import child_id
from chem_persistence.store.outcomes.reader import OutcomeFilter
from tests.contract.children.test_child_reader import HISTORIES
from tests.support.flows.flows import new_flow_id
from tests.support.leases.desk import NOW, Desk
from tests.support.leases.families import Add, Picky, Sum, listed
from tests.support.leases.staff import Act, Acts, Number, client_of, submit, working

FLOW_ID = UUID("01a221e6-0000-7000-8000-000000000001")
ITEM = flow("item", Add(1, "first")).then(Picky({2, 4}))
SCREEN = listed().map(ITEM, failures=1.0).then(Sum())


async def run_to_end(desk: Desk, runs: Flow[Any, Any], n: int, flow_id: UUID | None = None) -> UUID:
    engine = FlowEngine(desk.store, InMemoryFlowRepository(desk.store), runs)
    return await engine.run_to_end(flow_id, Number(n))


async def read(results: Results) -> list[ResultRow]:
    return [row async for row in results]


def seen(rows: list[ResultRow]) -> list[tuple[Any, ...]]:
    """Return what a test compares: item, input, output and state."""
    number = [(row.item, row.input and row.input["n"], row.output) for row in rows]
    return [
        (item, given, output["n"] if isinstance(output, dict) else output, str(row.state))
        for (item, given, output), row in zip(number, rows, strict=True)
    ]


async def test_the_children_of_a_map_are_the_rows_of_its_run(every_desk: Desk) -> None:
    await run_to_end(every_desk, SCREEN, 5, FLOW_ID)
    rows = await read(client_of(every_desk).results(FLOW_ID))
    assert seen(rows) == [
        (0, 0, 10, "completed"),
        (1, 1, None, "failed"),
        (2, 2, 30, "completed"),
        (3, 3, None, "failed"),
        (4, 4, 50, "completed"),
    ]
    assert [row.flow_id for row in rows] == [child_id(FLOW_ID, 1, item) for item in range(5)]
    assert {row.run for row in rows} == {FLOW_ID}
    assert rows[0].failure is None
    assert rows[1].failed_step == "picky"
    failure = rows[1].failure
    assert failure is not None
    assert (failure.error_class, failure.message) == ("builtins.ValueError", "not 2")
    assert rows[2].decode(Number) == Number(30)
    assert rows[0].output_hash == Artifact.from_payload(kind="Number", payload=Number(10)).hash


async def test_a_step_of_the_items_is_asked_for_by_its_id(every_desk: Desk) -> None:
    await run_to_end(every_desk, SCREEN, 3, FLOW_ID)
    client = client_of(every_desk)
    first = await read(client.results("listed", step="first"))
    expected = [(0, 0, 1, "completed"), (1, 1, 2, "failed"), (2, 2, 3, "completed")]
    assert seen(first) == expected
    assert seen(await read(client.results(SCREEN, step="item"))) == [
        (0, 0, 10, "completed"),
        (1, 1, None, "failed"),
        (2, 2, 30, "completed"),
    ]
    assert seen(await read(client.results(FLOW_ID, step="sum"))) == [(None, 3, 40, "completed")]
    (own,) = await read(client.results(FLOW_ID, step="list"))
    assert own.output == {"items": [{"n": 0}, {"n": 1}, {"n": 2}], "missing": []}
    with pytest.raises(InvalidArgument, match="no step 'judge'; its steps are list, item, sum; of"):
        await read(client.results("listed", step="judge"))


async def test_runs_come_from_the_newest_to_the_oldest(every_desk: Desk) -> None:
    plain = flow("plain", Add(1))
    flow_ids = [await run_to_end(every_desk, plain, n) for n in range(4)]
    rows = await read(client_of(every_desk).results("plain"))
    assert [row.flow_id for row in rows] == flow_ids[::-1]
    assert seen(rows) == [(None, n, n + 1, "completed") for n in (3, 2, 1, 0)]
    assert [row.run for row in rows] == flow_ids[::-1]


async def test_a_name_has_all_its_runs_and_a_flow_those_of_its_definition(
    every_desk: Desk,
) -> None:
    one, two = flow("same", Add(1)), flow("same", Add(2))
    await run_to_end(every_desk, one, 1)
    await run_to_end(every_desk, two, 1)
    await run_to_end(every_desk, flow("other", Add(1)), 1)
    client = client_of(every_desk)
    assert [row.output["n"] for row in await read(client.results("same"))] == [3, 2]
    assert [row.output["n"] for row in await read(client.results(two))] == [3]
    assert [row.output["n"] for row in await read(client.results(one))] == [2, 2]  # "other", too
    assert await read(client.results("none of this name")) == []


async def test_runs_are_chosen_by_label_and_time_and_rows_by_state(every_desk: Desk) -> None:
    client, item = client_of(every_desk), flow("item", Picky({1}))
    for n, label in enumerate(("a", "b", "a")):
        await client.submit(item, Number(n), label=label)
    async with working(every_desk, [item]):
        for row in await read(client.results("item")):
            await client.wait(row.flow_id)
    rows = await read(client.results(item))
    assert seen(await read(client.results("item", label="a"))) == [
        (None, 2, 20, "completed"),
        (None, 0, 0, "completed"),
    ]
    assert seen(await read(client.results("item", state="failed"))) == [(None, 1, None, "failed")]
    assert len(await read(client.results("item", since=rows[1].began))) == 2
    later = rows[0].began + timedelta(seconds=1)
    assert await read(client.results("item", since=later)) == []
    assert await read(client.results(rows[0].flow_id, since=later)) == []
    assert await read(client.results(rows[0].flow_id, label="b")) == []
    assert rows[0].label == "a"


async def test_the_state_is_that_of_the_children_where_they_are_the_rows(every_desk: Desk) -> None:
    await run_to_end(every_desk, SCREEN, 4, FLOW_ID)
    client = client_of(every_desk)
    for asked in ("listed", FLOW_ID, SCREEN):
        failed = await read(client.results(asked, state=FlowState.FAILED))
        assert [row.item for row in failed] == [1, 3]
    assert await read(client.results("listed", state="cancelled")) == []


async def test_the_state_is_that_of_each_row_where_definitions_differ(every_desk: Desk) -> None:
    """Of one name, a run is a row, and of another definition a child is."""
    await run_to_end(every_desk, listed().map(ITEM, failures=1.0).then(Sum()), 3)
    await run_to_end(every_desk, flow("listed", Add(1)), 1)
    client = client_of(every_desk)
    expected = [(None, 1, 2, "completed"), (0, 0, 10, "completed"), (2, 2, 30, "completed")]
    assert seen(await read(client.results("listed", state="completed"))) == expected
    assert seen(await read(client.results("listed", state="failed"))) == [(1, 1, None, "failed")]


async def test_an_older_run_without_the_step_has_no_rows(every_desk: Desk) -> None:
    await run_to_end(every_desk, flow("grown", Add(1)), 1)
    await run_to_end(every_desk, flow("grown", Add(1)).then(Add(2, "more")), 1)
    client = client_of(every_desk)
    assert seen(await read(client.results("grown", step="more"))) == [(None, 1, 4, "completed")]


async def test_a_child_that_runs_is_a_row_and_one_that_was_not_submitted_is_not(
    desk: Desk, acts: Acts
) -> None:
    acts.held = frozenset({"act"})
    parent = listed().map(flow("item", Act(acts)), at_once=1)
    flow_id = await submit(desk, parent, 3)
    async with working(desk, [parent]):
        await acts.begun.wait()
        rows = await read(client_of(desk).results(flow_id))
        assert seen(rows) == [(0, 0, None, "running")]
        acts.may_end.set()
        await client_of(desk).wait(flow_id)
    assert [row.output["n"] for row in await read(client_of(desk).results(flow_id))] == [1, 2, 3]


async def test_a_run_whose_map_has_not_begun_or_has_no_items_has_no_rows(every_desk: Desk) -> None:
    await run_to_end(every_desk, SCREEN, 0, FLOW_ID)
    waiting = await submit(every_desk, SCREEN, 3)
    client = client_of(every_desk)
    assert await read(client.results(FLOW_ID)) == []
    assert await read(client.results(waiting)) == []
    assert await read(client.results("listed")) == []
    assert seen(await read(client.results(FLOW_ID, step="sum"))) == [(None, 0, 0, "completed")]


class Again(Add):
    reuse = "any"


async def test_a_run_that_took_its_map_over_has_the_rows_of_its_origin(every_desk: Desk) -> None:
    """The children have the ids that follow from the other run, and from the map's index there."""
    item = flow("item", Add(5))
    first = flow("first", Add(0, "before")).then(ListAgain()).map(item, reuse="any")
    second = flow("second", ListAgain()).map(item, reuse="any")
    origin = await run_to_end(every_desk, first, 3)
    taker = await run_to_end(every_desk, second, 3)
    rows = await read(client_of(every_desk).results(taker))
    assert seen(rows) == [(n, n, n + 5, "completed") for n in range(3)]
    assert [row.flow_id for row in rows] == [child_id(origin, 2, n) for n in range(3)]
    assert {row.run for row in rows} == {taker}


async def test_an_invalid_result_is_marked_wherever_it_was_taken_over(every_desk: Desk) -> None:
    client, again = client_of(every_desk), flow("again", Again(5))
    first = await run_to_end(every_desk, again, 1)
    taker = await run_to_end(every_desk, again, 1)
    other = await run_to_end(every_desk, again, 2)
    await client.invalidate(first, "add", reason="wrong", actor="Ada")
    rows = await read(client.results("again"))
    assert [(row.flow_id, row.invalidated) for row in rows] == [
        (other, False),
        (taker, True),
        (first, True),
    ]
    anew = await run_to_end(every_desk, again, 1)
    (row, *_) = await read(client.results("again"))
    assert (row.flow_id, row.invalidated, row.output) == (anew, False, {"n": 6})


async def test_the_invalid_results_of_many_flows_are_read_at_once(every_desk: Desk) -> None:
    wrong = LibrarySignal(0, "acquire", INVALIDATED, {"reason": "no"})
    first = StepFinished(0, "acquire", ("a" * 64,), "f" * 64)
    second = StepFinished(1, "compute", ("b" * 64,), "f" * 64)
    invalid = await every_desk.submit(NOW, first, second, wrong)
    again = await every_desk.submit(NOW, first, wrong, first)
    others = [await every_desk.submit(NOW, wrong, first), await every_desk.submit(NOW, second)]
    found = await every_desk.store.invalidated_results([invalid, again, *others, new_flow_id()])
    assert found == {ResultOrigin(invalid, 1), ResultOrigin(again, 1)}
    assert await every_desk.store.invalidated_results([]) == set()


async def test_a_run_whose_origin_is_not_in_the_store_has_no_rows(desk: Desk) -> None:
    """As after the import of a run without the one from which it took its map over."""
    origin = ResultOrigin(new_flow_id(), 3)
    definition = SCREEN.definition
    facts: list[FlowEventKind] = [
        FlowInitialized(definition.definition_hash, 3, name="listed"),
        StepFinished(1, "item", ("b" * 64,), "f" * 64, reused_from=origin),
    ]
    flow_id = new_flow_id()
    await desk.store.append_kinds(flow_id, facts, artifacts=definition_artifacts(definition))
    assert await read(client_of(desk).results(flow_id)) == []


class ListAgain(Step[Number, Many[Number]]):
    id = "list"
    reuse = "any"

    async def run(self, number: Number, _context: StepContext) -> Many[Number]:
        return Many(tuple(Number(n) for n in range(number.n)))


async def test_children_that_took_over_all_results_are_rows_though_the_map_never_waited(
    every_desk: Desk,
) -> None:
    item = flow("item", Again(5))
    await run_to_end(every_desk, listed().map(item), 3)
    taker = await run_to_end(
        every_desk, flow("other", Add(0, "before")).then(ListAgain()).map(item), 3
    )
    rows = await read(client_of(every_desk).results(taker))
    assert seen(rows) == [(n, n, n + 5, "completed") for n in range(3)]


async def test_every_page_size_gives_the_same_rows(every_desk: Desk) -> None:
    await run_to_end(every_desk, SCREEN, 3)
    await run_to_end(every_desk, SCREEN, 0)
    await run_to_end(every_desk, SCREEN, 2)
    client = client_of(every_desk)
    questions: list[dict[str, Any]] = [
        {},
        {"state": "completed"},
        {"step": "sum"},
        {"step": "first"},
    ]
    for options in questions:
        expected = await read(client.results("listed", **options))
        assert expected
        for size in range(1, len(expected) + 2):
            pages = [
                page async for page in client.results("listed", page_size=size, **options).pages()
            ]
            assert [row for page in pages for row in page] == expected
            assert all(1 <= len(page) <= size for page in pages)


class Ratio(msgspec.Struct):
    ratio: float


class RatioStep(Step[Number, Ratio]):
    id = "ratio"

    async def run(self, number: Number, _context: StepContext) -> Ratio:
        return Ratio(float("nan") if number.n == 1 else number.n / 2)


async def test_a_number_that_json_does_not_have_is_a_failed_row(every_desk: Desk) -> None:
    parent = listed().map(flow("ratio", RatioStep()), failures=1.0)
    flow_id = await run_to_end(every_desk, parent, 3)
    rows = await read(client_of(every_desk).results(flow_id))
    assert [row.output for row in rows] == [{"ratio": 0}, None, {"ratio": 1}]
    assert rows[1].failure is not None
    assert rows[1].failure.error_class.endswith("InvalidPayload")
    assert rows[2].decode(Ratio) == Ratio(1.0)
    with pytest.raises(InvalidArgument, match="has no such output"):
        rows[1].decode(Ratio)
    with pytest.raises(InvalidPayload, match=rf"\$: artifact {rows[0].output_hash} "):
        rows[0].decode(Number)


async def logged(desk: Desk, *outputs: Any, name: str = "logged") -> list[UUID]:
    """Store a completed flow of one step for each output, as another program may have."""
    flow_ids = []
    for output in outputs:
        made = (
            Artifact.from_content(kind="b", content=output, media_type="application/octet-stream")
            if isinstance(output, bytes)
            else Artifact.from_payload(kind="o", payload=output)
        )
        flow_id = new_flow_id()
        facts: list[FlowEventKind] = [
            FlowInitialized("a" * 64, 1, name=name),
            StepFinished(0, "only", (made.hash,), "f" * 64),
            FlowCompleted("e" * 64),
        ]
        await desk.store.append_kinds(flow_id, facts, artifacts=[made])
        flow_ids.append(flow_id)
    return flow_ids


async def test_outputs_of_any_form_are_rows_also_without_a_definition(every_desk: Desk) -> None:
    outputs = [{"x": 1, "Größe": "µm ☕"}, [1, 2], "text", None, 1.5, {}, b"\x00"]
    await logged(every_desk, *outputs)
    rows = await read(client_of(every_desk).results("logged"))
    assert [row.output for row in rows[::-1]] == [*outputs[:-1], None]
    assert rows[0].output_hash is not None
    (row, *_) = await read(client_of(every_desk).results("logged", step="only"))
    assert row == rows[0]


async def test_large_rows_are_few_on_a_page(every_desk: Desk) -> None:
    large = "x" * 100_000
    await logged(every_desk, *({"text": large, "n": n} for n in range(5)), {"n": 5}, {"n": 6})
    results = client_of(every_desk).results("logged", page_size=100)
    pages = [[row.output["n"] for row in page] async for page in results.pages()]
    assert pages == [[6, 5, 4], [3], [2], [1], [0]]


async def test_a_row_whose_output_is_not_in_the_store_raises(desk: Desk) -> None:
    flow_id, missing = new_flow_id(), "b" * 64
    facts: list[FlowEventKind] = [FlowInitialized("a" * 64, 1)]
    facts += [StepFinished(0, "only", (missing,), "f" * 64)]
    await desk.store.append_kinds(flow_id, facts)
    with pytest.raises(ArtifactNotFound, match=missing):
        await read(client_of(desk).results(flow_id))


async def test_what_became_of_a_flow_follows_from_its_events(every_desk: Desk) -> None:
    flow_ids = [await every_desk.submit(NOW, *facts) for _, facts in HISTORIES]
    for step in (None, "acquire", "report"):
        found = await every_desk.store.flow_outcomes([*flow_ids, new_flow_id()], step)
        expected = {
            flow_id: outcome_of(await every_desk.store.list(flow_id), step)[0]
            for flow_id in flow_ids
        }
        assert found == expected
        every = await every_desk.store.list_outcomes(OutcomeFilter(), step, before=None, limit=100)
        assert every == [expected[flow_id] for flow_id in flow_ids[::-1]]
    assert await every_desk.store.flow_outcomes([], None) == {}


async def test_a_question_that_can_have_no_answer_is_refused(desk: Desk) -> None:
    client = client_of(desk)
    for wrong in (
        {"flow": ""},
        {"flow": "x", "step": ""},
        {"flow": "x", "state": "done"},
        {"flow": "x", "since": datetime(2026, 1, 1)},  # noqa: DTZ001
        {"flow": "x", "page_size": 0},
        {"flow": "x", "page_size": 10_001},
        {"flow": None},
    ):
        with pytest.raises(InvalidArgument):
            client.results(**wrong)
    with pytest.raises(FlowNotFound):
        await read(client.results(new_flow_id()))
