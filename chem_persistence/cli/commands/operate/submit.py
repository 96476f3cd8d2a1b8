"""The commands `submit` and `branch`."""

import sys
from collections.abc import Sequence
from typing import Any
from uuid import UUID

import msgspec

from chem_persistence.cli.database import open_database
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.flow_module import find_flow_of_module
from chem_persistence.cli.lookup import find_flow, given_time, whole_flow_id
from chem_persistence.cli.options import Target
from chem_persistence.cli.parameters import given_params
from chem_persistence.cli.terminal.printing import print_json, print_line
from chem_persistence.domain.artifacts import Artifact
from chem_persistence.engine.flow import Flow
from chem_persistence.engine.parameters.recorded import recorded_flow
from chem_persistence.engine.steps.step_types import members, step_types
from chem_persistence.errors import InvalidArgument, InvalidPayload
from chem_persistence.postgres.event_store import PgEventStore
from chem_persistence.postgres.flow_repository import PgFlowRepository
from chem_persistence.worker.client import FlowClient

__all__ = [
    "FROM_STANDARD_INPUT",
    "BranchOptions",
    "SubmitOptions",
    "branch_flow",
    "submit_flows",
]

FROM_STANDARD_INPUT = "-"


class SubmitOptions(msgspec.Struct, frozen=True):
    """What is said of the submissions: a label, a time, the only one's id, parameters, re-use."""

    label: str | None
    due: str | None
    flow_id: str | None
    params: Sequence[str] = ()
    reuse: bool = True


class BranchOptions(msgspec.Struct, frozen=True):
    """The options of a branch: the reason, first step, label, actor and parameters."""

    reason: str
    from_step: str | None
    label: str | None
    actor: str | None
    params: Sequence[str] = ()


async def branch_flow(
    target: Target, name: str, code: str | None, options: BranchOptions, *, as_json: bool
) -> int:
    """Submit a branch of a flow, and print its id; return the exit code.

    Without `code` the steps are the recorded ones.
    """
    flow = None if code is None else find_flow_of_module(code)
    async with open_database(target) as provider:
        parent = await find_flow(provider, name)
        store = PgEventStore(provider)
        client = FlowClient(store, PgFlowRepository(provider))
        try:
            steps = await recorded_flow(store, parent) if flow is None else flow
            params = given_params(steps, options.params, options.from_step)
            branch = await client.branch(
                parent,
                flow,
                reason=options.reason,
                from_step=options.from_step,
                params=params or None,
                label=options.label,
                actor=options.actor,
            )
        except InvalidPayload as error:
            raise InvalidArgument("CODE", str(error)) from error
        finally:
            await store.aclose()  # workers are told after the commit
    if as_json:
        print_json({"flow_id": branch, "parent": parent})
    else:
        print_line(str(branch))
    return ExitCode.WELL


async def submit_flows(
    target: Target, name: str, inputs: Sequence[str], options: SubmitOptions, *, as_json: bool
) -> int:
    """Submit a flow once for each input, and print the ids; return the exit code."""
    flow = find_flow_of_module(name)
    flow = flow.with_params(given_params(flow, options.params), by="person")
    values = [_input(flow, text) for text in _texts(inputs)] if inputs else [None]
    due = None if options.due is None else given_time(options.due, "--due")
    flow_ids = None if options.flow_id is None else [_only_id(options.flow_id, len(values))]
    async with open_database(target) as provider:
        store = PgEventStore(provider)
        client = FlowClient(store, PgFlowRepository(provider))
        try:
            submitted = await client.submit_many(
                flow,
                values,
                flow_ids=flow_ids,
                due=due,
                label=options.label,
                reuse=options.reuse,
            )
        finally:
            await store.aclose()  # workers are told after the commit
    if as_json:
        print_json({"flow_ids": submitted})
    else:
        for flow_id in submitted:
            print_line(str(flow_id))
    return ExitCode.WELL


def _texts(inputs: Sequence[str]) -> list[str]:
    """Return the inputs as JSON texts; those of standard input stand on lines of their own."""
    texts: list[str] = []
    for given in inputs:
        if given == FROM_STANDARD_INPUT:
            texts += [line for line in sys.stdin.read().splitlines() if line.strip()]
        else:
            texts.append(given)
    return texts


def _input(flow: Flow[Any, Any], text: str) -> Any:
    """Read an input as a type that the first step takes.

    Raises:
        InvalidArgument: it is not JSON, or not a value of such a type.
    """
    try:
        given = Artifact.from_payload(kind="input", payload=msgspec.json.decode(text))
    except (msgspec.DecodeError, InvalidPayload) as error:
        raise InvalidArgument("INPUT", f"{text!r} is not JSON: {error}") from error
    reasons = []
    for member in members(step_types(flow.steps[0])[0]):
        try:
            return given.decode(member)
        except InvalidPayload as error:
            reasons.append(f"{error.path}: {error.reason.partition(f'{given.hash} ')[2]}")
    raise InvalidArgument("INPUT", f"{text!r} is no input of the flow: {'; '.join(reasons)}")


def _only_id(text: str, inputs: int) -> UUID:
    flow_id = whole_flow_id(text)
    if flow_id is None:
        raise InvalidArgument("--flow-id", f"{text!r} is not a UUID")
    if inputs != 1:
        raise InvalidArgument("--flow-id", f"is for one input, and there are {inputs}")
    return flow_id
