"""The command `audit`."""

from typing import Any

import msgspec

from chem_persistence.cli.database import open_database
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.flow_module import find_flow_of_module
from chem_persistence.cli.lookup import find_flow
from chem_persistence.cli.options import Target
from chem_persistence.cli.terminal.printing import column, print_json, print_line, print_table
from chem_persistence.cli.terminal.text import one_line, shown
from chem_persistence.errors import DefinitionMismatch, FlowNotCompleted, InvalidArgument
from chem_persistence.postgres.event_store import PgEventStore
from chem_persistence.views.agreement import Agreement, Tolerance, ValueDifference
from chem_persistence.views.wording import counted, value_text
from chem_persistence.worker.audit import Audit, StepAudit, audit_flow, record_audit

__all__ = ["audit_the_flow"]

MOST_SHOWN = 3
"""The number of differing values that are printed of each step."""


async def audit_the_flow(
    target: Target,
    name: str,
    code: str,
    tolerance: tuple[float, float],
    actor: str,
    *,
    as_json: bool,
) -> int:
    """Audit a flow, print and store the result; return FOUND if a step gives something else."""
    flow = find_flow_of_module(code)
    async with open_database(target) as provider:
        flow_id = await find_flow(provider, name)
        store = PgEventStore(provider)
        try:
            audit = await audit_flow(store, flow, flow_id, Tolerance(*tolerance))
            await record_audit(store, audit, actor=actor)
        except (FlowNotCompleted, DefinitionMismatch) as error:
            raise InvalidArgument("FLOW", str(error)) from error
        finally:
            await store.aclose()
    if as_json:
        print_json(_as_json(audit))
    else:
        _print(audit)
    return ExitCode.FOUND if audit.agreement is Agreement.DIFFERENT else ExitCode.WELL


def _as_json(audit: Audit) -> dict[str, Any]:
    built: dict[str, Any] = msgspec.to_builtins(audit)
    return {
        "flow_id": built["flow_id"],
        "agreement": audit.agreement.value,
        "tolerance": built["tolerance"],
        "steps": built["steps"],
    }


def _print(audit: Audit) -> None:
    columns = [column("step", fold=True), column("agreement"), column("", fold=True)]
    print_table(
        columns, [(shown(step.step_id), step.agreement, _why(step)) for step in audit.steps]
    )
    print_line(f"flow {audit.flow_id} is {audit.agreement}")


def _why(step: StepAudit) -> str:
    """Return what differs, as one line."""
    parts = [] if step.reason is None else [one_line(step.reason)]
    if step.differing:
        parts.append(counted(step.differing, "value"))
        parts += [_difference(each) for each in step.differences[:MOST_SHOWN]]
    if step.on_other_input and step.agreement is not Agreement.EQUAL:
        parts.append("on another input")
    return shown("; ".join(parts))


def _difference(each: ValueDifference) -> str:
    return f"{each.path} {value_text(each.left)} now {value_text(each.right)}"
