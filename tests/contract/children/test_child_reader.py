"""What a parent reads of many flows, on every store."""

from chem_persistence import (
    BranchCreated,
    FlowCancelled,
    FlowCompleted,
    FlowEventKind,
    PropertyPreferenceAssigned,
    RetryScheduled,
    StepFinished,
    StepSignal,
    StepStarted,
    StepWaits,
)
from chem_persistence.domain.events import CANCEL, LibrarySignal
from chem_persistence.store.leasing.children import ChildState, child_id
from tests.support.flows.flows import new_flow_id
from tests.support.leases.desk import (
    NOW,
    Desk,
    failed,
)

SIGNAL, OTHER = StepSignal(0, "acquire", "hello"), new_flow_id()
STARTED = StepStarted(0, "acquire")
HISTORIES: list[tuple[ChildState, list[FlowEventKind]]] = [
    (ChildState.RUNNING, []),
    (ChildState.RUNNING, [SIGNAL]),
    (ChildState.RUNNING, [STARTED]),
    (ChildState.RUNNING, [STARTED, StepFinished(0, "acquire", ("a" * 64,), "f" * 64)]),
    (ChildState.RUNNING, [STARTED, StepWaits(0, "acquire", None)]),
    (ChildState.FAILED, [STARTED, failed()]),
    (ChildState.FAILED, [STARTED, failed(), SIGNAL]),
    (ChildState.RUNNING, [STARTED, failed(), RetryScheduled("acquire", 1, "again")]),
    (
        ChildState.COMPLETED,
        [
            FlowCompleted("e" * 64),
            PropertyPreferenceAssigned("charge", "gasteiger", "c" * 64),
            BranchCreated(OTHER, OTHER, OTHER, "acquire"),
        ],
    ),
    (ChildState.CANCELLED, [STARTED, failed(), FlowCancelled("no"), SIGNAL]),
]


async def test_the_states_of_many_flows_are_read_at_once(every_desk: Desk) -> None:
    wanted = {await every_desk.submit(NOW, *facts): state for state, facts in HISTORIES}
    unknown = new_flow_id()
    assert await every_desk.store.child_states([*wanted, unknown]) == wanted
    assert await every_desk.store.child_states([unknown]) == {}
    assert await every_desk.store.child_states([]) == {}


async def test_the_output_of_a_flow_is_that_of_its_last_step(every_desk: Desk) -> None:
    first = StepFinished(0, "acquire", ("a" * 64, "b" * 64), "f" * 64)
    last = StepFinished(1, "compute", ("c" * 64, "d" * 64), "f" * 64)
    done = await every_desk.submit(NOW, STARTED, first, last, FlowCompleted("e" * 64), SIGNAL)
    half = await every_desk.submit(NOW, STARTED, first, StepStarted(1, "compute"))
    begun = await every_desk.submit(NOW, STARTED)
    outputs = await every_desk.store.child_outputs([done, half, begun, new_flow_id()])
    assert outputs == {done: "c" * 64, half: "a" * 64}
    assert await every_desk.store.child_outputs([]) == {}


async def test_flows_that_are_cancelled_or_asked_to_end_are_found(every_desk: Desk) -> None:
    cancelled = await every_desk.submit(NOW, FlowCancelled("no"))
    asked = await every_desk.submit(
        NOW, LibrarySignal(0, "acquire", CANCEL, {"reason": "no"}), SIGNAL
    )
    others = [await every_desk.submit(NOW, SIGNAL), await every_desk.submit(), new_flow_id()]
    assert await every_desk.store.cancelled_flows([cancelled, asked, *others]) == {cancelled, asked}
    assert await every_desk.store.cancelled_flows([]) == set()


def test_the_id_of_a_child_follows_from_its_place() -> None:
    parent = new_flow_id()
    ids = {child_id(parent, step, item) for step in range(3) for item in range(12)}
    assert len(ids) == 36
    assert child_id(parent, 1, 2) == child_id(parent, 1, 2)
    assert child_id(parent, 1, 2).version == 5
