"""What may be done with a flow: retry it, cancel it, and answer its question."""

from collections.abc import Mapping
from uuid import UUID

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from chem_persistence.domain.flow_state import FlowState
from chem_persistence.errors import (
    FlowAlreadyCompleted,
    FlowNotFound,
    FlowSealed,
    FlowWasCancelled,
    InvalidArgument,
    InvalidPayload,
    NotWaiting,
)
from chem_persistence.explorer.actions.permission import permission_of
from chem_persistence.explorer.rendering import render
from chem_persistence.explorer.sources import sources_of
from chem_persistence.postgres.flow_repository import PgFlowRepository
from chem_persistence.worker.client import FlowClient
from chem_persistence.worker.questions import open_question

__all__ = ["change_flow", "show_actions"]

_OVER = {FlowState.COMPLETED, FlowState.CANCELLED}


async def show_actions(request: Request) -> Response:
    """Return the page with the forms that fit the state of a flow; an archived one has none.

    Raises:
        HTTPException: 403, the browser was not opened with the key; 404, there is no such flow.
    """
    permission, sources = permission_of(request), sources_of(request)
    permission.check_reader(request)
    flow_id: UUID = request.path_params["flow_id"]
    flow = await sources.models.flow(flow_id)
    if flow is None and await sources.store.find_archived([flow_id]):
        return RedirectResponse(f"/flows/{flow_id}.html", 303)
    if flow is None:
        raise HTTPException(404, f"there is no flow {flow_id}")
    question = None
    if flow.state is FlowState.AWAITING_USER_INPUT and flow.current_step is not None:
        question = open_question(flow_id, flow.current_step, await sources.store.list(flow_id))
    schema = msgspec.json.encode(question.schema) if question and question.schema else b""
    values = {
        "flow": flow,
        "form_key": permission.form_key,
        "is_over": flow.state in _OVER,
        "has_failed": flow.state is FlowState.FAILED,
        "question": question,
        "schema": msgspec.json.format(schema).decode() if schema else "",
    }
    return render(request, "actions.html", values)


async def change_flow(request: Request) -> Response:
    """Do what a form asks for, and lead to the page of the flow.

    Raises:
        HTTPException: 400, 403, 404 or 409, with the reason.
    """
    given = await permission_of(request).form(request)
    flow_id: UUID = request.path_params["flow_id"]
    sources = sources_of(request)
    client = FlowClient(sources.store, PgFlowRepository(sources.provider))
    try:
        await _change(client, flow_id, request.path_params["action"], given)
    except FlowNotFound as error:
        raise HTTPException(404, str(error)) from error
    except (FlowAlreadyCompleted, FlowSealed, FlowWasCancelled, NotWaiting) as error:
        raise HTTPException(409, str(error)) from error
    except (InvalidArgument, InvalidPayload) as error:
        raise HTTPException(400, str(error)) from error
    return RedirectResponse(f"/flows/{flow_id}.html", 303)


async def _change(client: FlowClient, flow_id: UUID, action: str, given: Mapping[str, str]) -> None:
    actor, reason = given.get("actor", "").strip(), given.get("reason", "").strip()
    if not actor:
        raise InvalidArgument("actor", "must say who asks: it is recorded")
    match action:
        case "retry":
            await client.retry(flow_id, reason=reason or "retried in the explorer", actor=actor)
        case "cancel":
            await client.cancel(flow_id, reason=reason or "cancelled in the explorer", actor=actor)
        case "answer":
            await client.answer(flow_id, given.get("step", ""), _value(given), actor=actor)
        case _:
            raise HTTPException(404, f"there is no action {action}")


def _value(given: Mapping[str, str]) -> object:
    try:
        value: object = msgspec.json.decode(given.get("value", ""))
    except msgspec.DecodeError as error:
        raise InvalidArgument("answer", f"is not JSON: {error}") from error
    return value
