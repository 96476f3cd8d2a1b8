"""The view `flows` decides a flow's state as `domain.flow_state` does."""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chem_persistence import FlowEventKind, PgEventStore, PgReadModels, PoolProvider
from chem_persistence.domain.flow_state import flow_state
from chem_persistence.store.outcomes.summary import SummaryFold
from chem_persistence.views.attempts import FlowAttempts
from chem_persistence.views.flow_view import PageLimits
from tests.support.flows.flows import new_flow_id
from tests.support.flows.histories import PLAUSIBLE_KINDS, legal_kinds


@pytest.mark.slow
@settings(
    deadline=None,
    derandomize=True,
    max_examples=80,
    suppress_health_check=list(HealthCheck),
    database=None,
)
@given(kinds=st.one_of(legal_kinds(), PLAUSIBLE_KINDS))
async def test_the_view_agrees_over_generated_histories(
    provider: PoolProvider, kinds: list[FlowEventKind]
) -> None:
    flow_id, models = new_flow_id(), PgReadModels(provider)
    attempts, summary = FlowAttempts(PageLimits()), SummaryFold()
    for event in await PgEventStore(provider).append_kinds(flow_id, kinds):
        attempts.take(event)
        summary.take(event)
    flow = await models.flow(flow_id)
    assert flow is not None
    statuses = [step.status for step in await models.step_executions(flow_id)]
    letters = {kind.variant for kind in kinds}
    assert flow.state is flow_state(statuses, completed="C" in letters, cancelled="K" in letters)
    assert flow.state is attempts.state
    assert summary.summary() == flow, "show makes its summary of the events"
