"""The command `seal`."""

from collections.abc import Sequence

from chem_persistence.archive.seal import seal_flow
from chem_persistence.cli.database import open_database
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.lookup import find_flow
from chem_persistence.cli.options import Target
from chem_persistence.cli.terminal.printing import print_json, print_line
from chem_persistence.errors import FlowNotCompleted, InvalidArgument
from chem_persistence.postgres.event_store import PgEventStore

__all__ = ["seal_flows"]


async def seal_flows(
    target: Target, names: Sequence[str], actor: str | None, *, as_json: bool
) -> int:
    """Seal flows, and print which are new; return the exit code."""
    async with open_database(target) as provider:
        flow_ids = [await find_flow(provider, name) for name in names]
        store = PgEventStore(provider)
        try:
            new = {flow_id: await seal_flow(store, flow_id, actor=actor) for flow_id in flow_ids}
        except FlowNotCompleted as error:
            reason = f"flow {error.flow_id} is neither completed nor cancelled, so it is not sealed"
            raise InvalidArgument("FLOW", reason) from error
        finally:
            await store.aclose()
    if as_json:
        print_json([{"flow_id": flow_id, "new": is_new} for flow_id, is_new in new.items()])
        return ExitCode.WELL
    for flow_id, is_new in new.items():
        print_line(f"flow {flow_id} is sealed" if is_new else f"flow {flow_id} was sealed before")
    return ExitCode.WELL
