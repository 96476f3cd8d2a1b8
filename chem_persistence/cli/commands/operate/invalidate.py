"""The command `invalidate`."""

from chem_persistence.cli.database import open_database
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.lookup import find_flow
from chem_persistence.cli.options import Target
from chem_persistence.cli.terminal.printing import column, print_json, print_line, print_table
from chem_persistence.cli.terminal.text import shown
from chem_persistence.errors import InvalidArgument
from chem_persistence.postgres.event_store import PgEventStore
from chem_persistence.postgres.flow_repository import PgFlowRepository
from chem_persistence.views.wording import counted
from chem_persistence.worker.client import FlowClient

__all__ = ["invalidate_result"]

MOST_LISTED = 100
"""The number of steps that are listed which have taken the result over."""


async def invalidate_result(
    target: Target, name: str, step_id: str, reason: str, actor: str, *, as_json: bool
) -> int:
    """Invalidate a step's result, and print who has taken it over; return the exit code."""
    async with open_database(target) as provider:
        flow_id = await find_flow(provider, name)
        store = PgEventStore(provider)
        client = FlowClient(store, PgFlowRepository(provider))
        try:
            changed = await client.invalidate(flow_id, step_id, reason=reason, actor=actor)
        except InvalidArgument as error:
            raise InvalidArgument("STEP", error.reason) from error
        finally:
            await store.aclose()
        every = [each for each in await store.taken_over(flow_id) if each.step_id == step_id]
    if as_json:
        print_json({"flow_id": flow_id, "step_id": step_id, "new": changed, "taken_over": every})
        return ExitCode.WELL
    before = "is" if changed else "was already"
    print_line(shown(f"the result of {step_id} of flow {flow_id} {before} invalid"))
    if every:
        keep = "keeps" if len(every) == 1 else "keep"
        print_line(f"{counted(len(every), 'flow')} took it over, and {keep} it:")
        columns = [column("flow", ids=True), column("event", right=True)]
        print_table(
            columns, [(str(each.flow_id), str(each.version)) for each in every[:MOST_LISTED]]
        )
    if len(every) > MOST_LISTED:
        print_line(f"and {len(every) - MOST_LISTED:,} more: --json has them all")
    return ExitCode.WELL
