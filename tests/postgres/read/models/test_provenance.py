"""Where artifacts come from and are used, across flows."""

from collections.abc import Sequence
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chem_persistence import (
    Artifact,
    FlowEventKind,
    FlowInitialized,
    Lineage,
    PgEventStore,
    PgReadModels,
    PoolProvider,
    StepFinished,
    StepSignal,
    StepStarted,
    UserInteractionRequested,
    build_pool,
)
from tests.support.flows.flows import DEFINITION, new_flow_id
from tests.support.servers.server import TestServer

IDS = [step.id for step in DEFINITION.steps]
A, B, C, D, E, X = (letter * 64 for letter in ("a", "b", "c", "d", "e", "1"))
F = "f" * 64


@pytest.fixture
def models(provider: PoolProvider) -> PgReadModels:
    return PgReadModels(provider)


def flow(source: str | None, *outputs: Sequence[str]) -> list[FlowEventKind]:
    """Return the events of a flow with an input, whose steps produced these outputs."""
    kinds: list[FlowEventKind] = [FlowInitialized(DEFINITION.definition_hash, 3, source)]
    for index, hashes in enumerate(outputs):
        kinds += [StepStarted(index, IDS[index]), StepFinished(index, IDS[index], tuple(hashes), F)]
    return kinds


async def append(provider: PoolProvider, *flows: Sequence[FlowEventKind]) -> list[UUID]:
    store, flow_ids = PgEventStore(provider), []
    for kinds in flows:
        flow_ids.append(new_flow_id())
        await store.append_kinds(flow_ids[-1], kinds)
    return flow_ids


def distances(lineage: Lineage) -> list[tuple[str, int]]:
    return [(each.artifact_hash, each.distance) for each in lineage.related]


async def test_every_flow_that_produced_a_hash_is_named(
    provider: PoolProvider, models: PgReadModels
) -> None:
    one, two = await append(provider, flow(A, [B], [C, D]), flow(X, [D]))
    producers = await models.producers(D)
    assert [(p.flow_id, p.step_index, p.step_id, p.output, p.version) for p in producers] == [
        (one, 1, "compute", 1, 4),
        (two, 0, "acquire", 0, 2),
    ]
    assert {(p.artifact_hash, p.event_type) for p in producers} == {(D, "stepfinished")}
    assert await models.producers(D, limit=1) == producers[:1]


async def test_an_artifact_stored_with_another_event_came_from_that(
    provider: PoolProvider, models: PgReadModels
) -> None:
    store, flow_id = PgEventStore(provider), new_flow_id()
    source = Artifact.from_payload(kind="Molecule", payload="CCO")
    noted = Artifact.from_payload(kind="Note", payload="hot")
    kinds = flow(source.hash)
    await store.append_kinds(flow_id, kinds, artifacts=[source])
    await store.append_kind(flow_id, StepSignal(0, "acquire", "noted"), artifacts=[noted])
    (first,), (second,) = await models.producers(source.hash), await models.producers(noted.hash)
    assert (first.event_type, first.version, first.step_id, first.output) == (
        "flowinitialized",
        0,
        None,
        None,
    )
    assert (second.event_type, second.version, second.step_id, second.output) == (
        "stepsignal",
        1,
        "acquire",
        None,
    )


async def test_a_step_consumes_the_first_output_of_the_step_before_it(
    provider: PoolProvider, models: PgReadModels
) -> None:
    one, two = await append(provider, flow(A, [B, X], [C]), flow(B, [D]))
    consumers = await models.consumers(B)
    assert [(c.flow_id, c.step_index, c.step_id, c.version) for c in consumers] == [
        (one, 1, "compute", 3),
        (two, 0, "acquire", 1),
    ]
    assert await models.consumers(X) == []
    assert [c.flow_id for c in await models.consumers(A)] == [one]
    assert await models.consumers(C) == []


async def test_a_step_that_started_again_consumes_once(
    provider: PoolProvider, models: PgReadModels
) -> None:
    kinds = [*flow(A, [B]), StepStarted(1, "compute"), StepStarted(1, "compute")]
    await append(provider, kinds)
    assert [(c.step_id, c.version) for c in await models.consumers(B)] == [("compute", 3)]


async def test_a_step_that_began_after_its_input_was_replaced_did_not_consume_it(
    provider: PoolProvider, models: PgReadModels
) -> None:
    kinds = [*flow(A, [B]), StepFinished(0, "acquire", (C,), F), StepStarted(1, "compute")]
    kinds.append(StepFinished(1, "compute", (D,), F))
    await append(provider, kinds)
    assert await models.consumers(B) == []
    assert [c.step_id for c in await models.consumers(C)] == ["compute"]
    assert distances(await models.ancestors(D)) == [(C, 1), (A, 2)]
    assert distances(await models.descendants(B)) == []
    assert distances(await models.descendants(C)) == [(D, 1)]


async def test_ancestors_and_descendants_cross_flows(
    provider: PoolProvider, models: PgReadModels
) -> None:
    one, two = await append(provider, flow(A, [B], [C]), flow(C, [D, X], [E]))
    ancestors, descendants = await models.ancestors(E), await models.descendants(A)
    assert distances(ancestors) == [(D, 1), (C, 2), (B, 3), (A, 4)]
    assert distances(descendants) == [(B, 1), (C, 2), (X, 3), (D, 3), (E, 4)]
    assert [(a.flow_id, a.step_index, a.step_id) for a in ancestors.related[:2]] == [
        (two, 1, "compute"),
        (two, 0, "acquire"),
    ]
    assert [(d.flow_id, d.step_id) for d in descendants.related[:2]] == [
        (one, "acquire"),
        (one, "compute"),
    ]
    assert ancestors.complete
    assert descendants.complete


async def test_a_circle_ends(provider: PoolProvider, models: PgReadModels) -> None:
    await append(provider, flow(A, [B], [A]), flow(B, [B]))
    assert distances(await models.ancestors(A)) == [(B, 1)]
    assert distances(await models.descendants(A)) == [(B, 1)]
    assert distances(await models.ancestors(B)) == [(A, 1)]


async def test_a_walk_says_that_it_was_bounded(
    provider: PoolProvider, models: PgReadModels
) -> None:
    await append(provider, flow(A, [B], [C], [D]))
    near = await models.descendants(A, depth=2)
    assert (distances(near), near.complete) == ([(B, 1), (C, 2)], False)
    few = await models.ancestors(D, limit=1)
    assert (distances(few), few.complete) == ([(C, 1)], False)
    exact = await models.ancestors(D, limit=3)
    assert (distances(exact), exact.complete) == ([(C, 1), (B, 2), (A, 3)], True)


async def test_the_nearest_way_counts(provider: PoolProvider, models: PgReadModels) -> None:
    await append(provider, flow(A, [B], [C], [D]), flow(A, [D]))
    assert distances(await models.descendants(A)) == [(B, 1), (D, 1), (C, 2)]


async def test_the_kinds_of_stored_artifacts_are_told(
    provider: PoolProvider, models: PgReadModels
) -> None:
    output = Artifact.from_payload(kind="Descriptors", payload={"logP": 1.5})
    await PgEventStore(provider).append_kinds(
        new_flow_id(), flow(A, [output.hash], [B]), artifacts=[output]
    )
    assert [each.kind for each in (await models.descendants(A)).related] == ["Descriptors", None]


async def test_a_hash_that_nobody_knows_has_no_relatives(models: PgReadModels) -> None:
    assert (await models.producers(A), await models.consumers(A)) == ([], [])
    nothing = Lineage(artifact_hash=A, related=(), complete=True)
    assert (await models.ancestors(A), await models.descendants(A)) == (nothing, nothing)


@pytest.mark.parametrize(
    "fact",
    [
        StepSignal(1, IDS[1], "frame"),
        StepStarted(1, IDS[1]),
        UserInteractionRequested(1, IDS[1], {}),
        StepFinished(1, IDS[1], (C,), F),
    ],
)
async def test_what_was_stored_with_an_event_of_a_step_derives_from_its_input(
    provider: PoolProvider, models: PgReadModels, fact: FlowEventKind
) -> None:
    frame = Artifact.from_payload(kind="Frame", payload=fact)
    (flow_id,) = await append(provider, flow(A, [B]))
    await PgEventStore(provider).append_kind(flow_id, fact, artifacts=[frame])
    ancestors = await models.ancestors(frame.hash)
    assert distances(ancestors) == [(B, 1), (A, 2)]
    assert (ancestors.related[0].flow_id, ancestors.related[0].step_id) == (flow_id, IDS[1])
    descendants = await models.descendants(B)
    assert (frame.hash, 1) in distances(descendants)
    of_frame = next(one for one in descendants.related if one.artifact_hash == frame.hash)
    assert (of_frame.kind, of_frame.step_index, of_frame.step_id) == ("Frame", 1, IDS[1])
    assert (frame.hash, 2) in distances(await models.descendants(A))


NAMES = st.sampled_from([A, B, C, D, E])
FINISHES = st.lists(st.tuples(st.integers(0, 2), st.lists(NAMES, max_size=2)), max_size=6)
FLOWS = st.lists(st.tuples(st.none() | NAMES, FINISHES), min_size=1, max_size=4)


def derivations(
    flows: Sequence[tuple[str | None, Sequence[tuple[int, Sequence[str]]]]],
) -> set[tuple[str, str]]:
    """Return the derivations by their definition, computed without SQL."""
    made: set[tuple[str, str]] = set()
    for source, finishes in flows:
        latest: dict[int, str | None] = {-1: source}
        for index, outputs in finishes:
            taken = latest.get(index - 1)
            made |= {(taken, output) for output in outputs if taken is not None}
            latest[index] = next(iter(outputs), None)
    return made


def reached(begin: str, edges: set[tuple[str, str]]) -> set[tuple[str, int]]:
    """Return each hash that such edges reach from another one, with its least distance."""
    known, generation, distance = {begin}, {begin}, 0
    found: set[tuple[str, int]] = set()
    while generation:
        distance += 1
        generation = {after for before, after in edges if before in generation} - known
        known |= generation
        found |= {(each, distance) for each in generation}
    return found


@pytest.mark.slow
@settings(
    deadline=None,
    derandomize=True,
    max_examples=15,
    suppress_health_check=list(HealthCheck),
    database=None,
)
@given(flows=FLOWS)
async def test_walks_reach_what_the_definition_of_an_input_says(
    server: TestServer, flows: list[tuple[str | None, list[tuple[int, list[str]]]]]
) -> None:
    async with (
        server.database() as url,
        await build_pool(server.as_tested(url), max_size=3) as pool,
    ):
        provider = PoolProvider(pool)
        for source, finishes in flows:
            finished = [
                StepFinished(index, IDS[index], tuple(outputs), F) for index, outputs in finishes
            ]
            await append(
                provider, [FlowInitialized(DEFINITION.definition_hash, 3, source), *finished]
            )
        models, edges = PgReadModels(provider), derivations(flows)
        for name in (A, B, C, D, E):
            descendants, ancestors = await models.descendants(name), await models.ancestors(name)
            assert set(distances(descendants)) == reached(name, edges)
            assert set(distances(ancestors)) == reached(
                name, {(after, before) for before, after in edges}
            )
