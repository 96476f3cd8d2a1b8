"""The commands `retry`, `cancel` and `answer`."""

import sys
from collections.abc import Awaitable, Callable
from uuid import UUID

import msgspec

from chem_persistence.cli.commands.operate.submit import FROM_STANDARD_INPUT
from chem_persistence.cli.database import open_database
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.lookup import find_flow
from chem_persistence.cli.options import Target
from chem_persistence.cli.terminal.printing import print_json, print_line, shown_state
from chem_persistence.domain.flow_state import FlowState
from chem_persistence.errors import (
    FlowAlreadyCompleted,
    FlowWasCancelled,
    InvalidArgument,
    InvalidPayload,
    NotWaiting,
)
from chem_persistence.postgres.event_store import PgEventStore
from chem_persistence.postgres.flow_repository import PgFlowRepository
from chem_persistence.postgres.read_models import PgReadModels
from chem_persistence.worker.client import FlowClient

__all__ = ["answer_flow", "cancel_flow", "retry_flow"]


async def retry_flow(
    target: Target, flow: str, reason: str, actor: str | None, *, as_json: bool
) -> int:
    """Retry the failed step of a flow, and print its state; return the exit code."""
    return await _change(
        target,
        flow,
        lambda client, flow_id: client.retry(flow_id, reason=reason, actor=actor),
        as_json=as_json,
    )


async def cancel_flow(
    target: Target, flow: str, reason: str, actor: str | None, *, force: bool, as_json: bool
) -> int:
    """Cancel a flow, and print its state; return the exit code."""
    return await _change(
        target,
        flow,
        lambda client, flow_id: client.cancel(flow_id, reason=reason, actor=actor, force=force),
        as_json=as_json,
        is_cancel=True,
    )


async def answer_flow(target: Target, flow: str, step_id: str, text: str, actor: str) -> int:
    """Answer the question of a step, and print the flow's state; return the exit code."""
    given = sys.stdin.read() if text == FROM_STANDARD_INPUT else text
    try:
        value = msgspec.json.decode(given)
    except msgspec.DecodeError as error:
        raise InvalidArgument("--json", f"{given!r} is not JSON: {error}") from error

    async def answer(client: FlowClient, flow_id: UUID) -> None:
        try:
            await client.answer(flow_id, step_id, value, actor=actor)
        except NotWaiting as error:
            raise InvalidArgument("STEP", str(error)) from error
        except InvalidPayload as error:
            raise InvalidArgument("--json", str(error)) from error

    return await _change(target, flow, answer, as_json=False)


async def _change(
    target: Target,
    flow: str,
    change: Callable[[FlowClient, UUID], Awaitable[None]],
    *,
    as_json: bool,
    is_cancel: bool = False,
) -> int:
    async with open_database(target) as provider:
        flow_id = await find_flow(provider, flow)
        store = PgEventStore(provider)
        try:
            await change(FlowClient(store, PgFlowRepository(provider)), flow_id)
        except (FlowAlreadyCompleted, FlowWasCancelled) as error:
            raise InvalidArgument("FLOW", str(error)) from error
        finally:
            await store.aclose()  # workers are told after the commit
        changed = await PgReadModels(provider).flow(flow_id)
    state = "" if changed is None else changed.state
    if as_json:
        print_json({"flow_id": flow_id, "state": state})
    else:
        is_asked = is_cancel and state != FlowState.CANCELLED
        asked = "; its worker is asked to cancel it" if is_asked else ""
        print_line(f"flow {flow_id} is ", shown_state(state), asked)
    return ExitCode.WELL
