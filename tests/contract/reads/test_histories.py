"""Equal appends lead to equal histories, states and fingerprints in every store."""

from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chem_persistence import (
    ArtifactNotFound,
    ChemPersistenceError,
    FlowEventKind,
    StepFailed,
    StepFinished,
    StepSlot,
    StepStarted,
    StepWaits,
    UserInteractionProvided,
    UserInteractionRequested,
    embedded_postgres,
)
from chem_persistence.domain.fingerprints import flow_fingerprint
from chem_persistence.postgres.schema.statements import statement
from tests.support.examples import examples
from tests.support.flows.flows import DEFINITION, new_flow_id
from tests.support.flows.histories import (
    GARBAGE_KINDS,
    PLAUSIBLE_KINDS,
    Append,
    TickingClock,
    batched,
    facts,
    failure,
    histories,
    legal_kinds,
    run_history,
    run_interleaved,
)
from tests.support.flows.projection import as_row, projected_slots
from tests.support.servers.backends import Backend, memory_backend, postgres_backend

if TYPE_CHECKING:
    import asyncpg

READ_EXECUTIONS = statement("executions/read_executions")


EVERY_HEALTH_CHECK = list(HealthCheck)
BOUNDED = settings(
    deadline=None,
    derandomize=True,
    max_examples=examples(25),
    suppress_health_check=EVERY_HEALTH_CHECK,
    database=None,
)
AT_LENGTH = settings(
    deadline=None, max_examples=600, suppress_health_check=EVERY_HEALTH_CHECK, print_blob=True
)

KINDS = st.one_of(PLAUSIBLE_KINDS, GARBAGE_KINDS, legal_kinds(), PLAUSIBLE_KINDS)
HISTORIES = histories(KINDS)
LEGAL_IN_TWO_CUTS = legal_kinds().flatmap(
    lambda kinds: st.tuples(st.just(kinds), batched(kinds), batched(kinds))
)


@pytest.fixture
def memory() -> Backend:
    """Return a memory store whose clock shows the same times as the other store's."""
    return memory_backend(TickingClock())


@pytest.fixture
async def postgres(database_url: str) -> AsyncIterator[Backend]:
    async with postgres_backend(database_url, TickingClock()) as backend:
        yield backend


async def state(backend: Backend, flow_id: UUID) -> Any:
    """Return the flow's state and fingerprint, or the error that one of them raises."""
    try:
        instance = await backend.repository.load(flow_id, None, DEFINITION)
    except ChemPersistenceError as error:
        return failure(error)
    try:
        return instance, flow_fingerprint(DEFINITION.definition_hash, instance)
    except ChemPersistenceError as error:
        return instance, failure(error)


async def read_artifacts(backend: Backend, history: Sequence[Append]) -> list[Any]:
    found: list[Any] = []
    for artifact in (artifact for append in history for artifact in append.artifacts):
        try:
            found.append(await backend.store.get_artifact(artifact.hash))
        except ArtifactNotFound as error:
            found.append(failure(error))
    return found


async def everything(backend: Backend, flow_id: UUID, history: Sequence[Append]) -> list[Any]:
    events = await backend.store.list(flow_id)
    assert [event.seq for event in events] == sorted({event.seq for event in events})
    return [facts(events), await state(backend, flow_id), await read_artifacts(backend, history)]


async def assert_parity(memory: Backend, postgres: Backend, history: Sequence[Append]) -> None:
    flow_id = new_flow_id()
    assert await run_history(memory, flow_id, history) == await run_history(
        postgres, flow_id, history
    )
    remembered = await everything(memory, flow_id, history)
    assert await everything(postgres, flow_id, history) == remembered
    async with postgres.reconnected() as again:
        assert await everything(again, flow_id, history) == remembered


@BOUNDED
@given(history=HISTORIES)
async def test_the_same_history_is_the_same_in_both_stores(
    memory: Backend, postgres: Backend, history: list[Append]
) -> None:
    await assert_parity(memory, postgres, history)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@AT_LENGTH
@given(history=HISTORIES)
async def test_at_length_the_same_history_is_the_same_in_both_stores(
    memory: Backend, postgres: Backend, history: list[Append]
) -> None:
    await assert_parity(memory, postgres, history)


@settings(BOUNDED, max_examples=examples(15))
@given(examples=st.lists(HISTORIES, min_size=3, max_size=3))
async def test_histories_that_interleave_are_the_same_in_both_stores(
    memory: Backend, postgres: Backend, examples: list[list[Append]]
) -> None:
    flow_ids = [new_flow_id() for _ in examples]
    one, other = [
        await run_interleaved(backend, flow_ids, examples) for backend in (memory, postgres)
    ]
    assert one == other
    for flow_id, history in zip(flow_ids, examples, strict=True):
        assert await everything(memory, flow_id, history) == await everything(
            postgres, flow_id, history
        )


@pytest.mark.slow
@settings(BOUNDED, max_examples=2)
@given(examples=st.lists(HISTORIES, min_size=10, max_size=10))
async def test_a_history_is_the_same_after_the_server_was_restarted(
    tmp_path: Path, examples: list[list[Append]]
) -> None:
    memory = memory_backend(TickingClock())
    flow_ids = [new_flow_id() for _ in examples]
    async with (
        embedded_postgres(tmp_path) as url,
        postgres_backend(url, TickingClock()) as postgres,
    ):
        for flow_id, history in zip(flow_ids, examples, strict=True):
            assert await run_history(memory, flow_id, history) == await run_history(
                postgres, flow_id, history
            )
    async with embedded_postgres(tmp_path) as url, postgres_backend(url) as restarted:
        for flow_id, history in zip(flow_ids, examples, strict=True):
            assert await everything(restarted, flow_id, history) == await everything(
                memory, flow_id, history
            )


async def read_rows(pool: "asyncpg.Pool[asyncpg.Record]", flow_id: UUID) -> dict[int, StepSlot]:
    rows = await pool.fetch(READ_EXECUTIONS, flow_id)
    return projected_slots(rows, flow_id)


def touched(kinds: Sequence[FlowEventKind]) -> set[int]:
    """Return the steps that have an event which changes their state."""
    return {
        kind.step_index
        for kind in kinds
        if isinstance(
            kind,
            StepStarted
            | StepFinished
            | StepFailed
            | StepWaits
            | UserInteractionRequested
            | UserInteractionProvided,
        )
    }


async def assert_projected(
    pool: "asyncpg.Pool[asyncpg.Record]",
    postgres: Backend,
    kinds: Sequence[FlowEventKind],
    cuts: Sequence[Sequence[FlowEventKind]],
) -> None:
    flow_id = new_flow_id()
    for batch in cuts:
        await postgres.store.append_kinds(flow_id, batch)
    try:
        instance = await postgres.repository.load(flow_id, None, DEFINITION)
    except ChemPersistenceError:
        return  # what cannot be replayed has no slots to be equal to
    assert await read_rows(pool, flow_id) == {
        index: as_row(instance.steps[index]) for index in touched(kinds)
    }
    begun = {index for index, slot in enumerate(instance.steps) if slot.has_begun}
    assert begun == touched(kinds)


@settings(BOUNDED, max_examples=examples(30))
@given(example=LEGAL_IN_TWO_CUTS)
async def test_the_step_rows_are_the_replayed_slots_in_whatever_batches_events_came(
    pool: "asyncpg.Pool[asyncpg.Record]",
    postgres: Backend,
    example: tuple[
        list[FlowEventKind], list[tuple[FlowEventKind, ...]], list[tuple[FlowEventKind, ...]]
    ],
) -> None:
    kinds, one, other = example
    for cuts in (one, other, [(kind,) for kind in kinds], [kinds]):
        await assert_projected(pool, postgres, kinds, cuts)


@settings(BOUNDED, max_examples=examples(50))
@given(kinds=st.one_of(PLAUSIBLE_KINDS, GARBAGE_KINDS), data=st.data())
async def test_no_append_fails_because_of_the_step_rows(
    pool: "asyncpg.Pool[asyncpg.Record]",
    postgres: Backend,
    kinds: list[FlowEventKind],
    data: st.DataObject,
) -> None:
    await assert_projected(pool, postgres, kinds, data.draw(batched(kinds)))


@pytest.mark.slow
@pytest.mark.timeout(1800)
@settings(AT_LENGTH, max_examples=2_000)
@given(kinds=KINDS, data=st.data())
async def test_at_length_the_step_rows_are_the_replayed_slots(
    pool: "asyncpg.Pool[asyncpg.Record]",
    postgres: Backend,
    kinds: list[FlowEventKind],
    data: st.DataObject,
) -> None:
    await assert_projected(pool, postgres, kinds, data.draw(batched(kinds)))
