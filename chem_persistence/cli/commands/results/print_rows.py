"""The command `results`."""

import re
import sys
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

from chem_persistence.cli.commands.results.table import print_result_table
from chem_persistence.cli.commands.results.whole_file import whole_file
from chem_persistence.cli.database import open_database
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.lookup import find_flow, given_time, whole_flow_id
from chem_persistence.cli.options import Target
from chem_persistence.cli.terminal.printing import print_json, print_line
from chem_persistence.cli.terminal.text import shown
from chem_persistence.errors import InvalidArgument
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.event_store import PgEventStore
from chem_persistence.postgres.read.search import find_flows
from chem_persistence.results.results import Results, results_of
from chem_persistence.results.spool import RowSpool
from chem_persistence.store.outcomes.reader import OutcomeFilter

__all__ = ["ResultOptions", "print_results"]

ROWS_OF_A_TABLE = 20

_ID = re.compile("[0-9a-f]{4,32}")
"""What the beginning of an id looks like, without its hyphens."""


class _Escaping:
    """Standard output, for texts of which a terminal is to show the control characters."""

    def write(self, text: str) -> int:
        """Write a text with its control and format characters escaped, but for line feeds."""
        return sys.stdout.write("\n".join(shown(line) for line in text.split("\n")))


class ResultOptions(NamedTuple):
    """The argument and the options of the command."""

    target: Target
    flow: str
    step: str | None
    state: str | None
    since: str | None
    label: str | None
    limit: int | None
    as_csv: bool
    parquet: Path | None
    escape_formulas: bool
    as_json: bool


async def print_results(options: ResultOptions) -> int:
    """Print the rows in the form that is asked for; return the exit code."""
    forms = [options.as_csv, options.parquet is not None, options.as_json]
    if sum(forms) > 1:
        raise InvalidArgument("--csv, --parquet, --json", "cannot be combined: give one of them")
    if options.escape_formulas and not options.as_csv:
        raise InvalidArgument("--escape-formulas", "is an option of --csv")
    since = None if options.since is None else given_time(options.since, "--since")
    limit = options.limit
    if not any(forms):
        limit = (limit or ROWS_OF_A_TABLE) + 1
    async with open_database(options.target) as provider:
        store = PgEventStore(provider)
        flow = await _named_flow(provider, options.flow)
        if isinstance(flow, str):
            await _check_name(store, flow)
        results = results_of(
            store,
            flow,
            step=options.step,
            since=since,
            state=options.state,
            label=options.label,
            limit=limit,
        )
        await _print(results, options)
    return ExitCode.WELL


async def _named_flow(provider: ConnectionProvider, name: str) -> UUID | str:
    """Return the id that `name` is, or is the beginning of only one flow's; else the name."""
    digits = name.lower().replace("-", "")
    if whole_flow_id(name) is None:
        if not _ID.fullmatch(digits):
            return name
        if not await find_flows(provider, digits, most=1):
            return name
    return await find_flow(provider, name)


async def _check_name(store: PgEventStore, name: str) -> None:
    """Check that there is a flow of this name.

    Raises:
        InvalidArgument: there is none.
    """
    if not await store.list_outcomes(OutcomeFilter(name=name), None, before=None, limit=1):
        reason = f"no flow has the name {name!r}, nor an id that begins so"
        raise InvalidArgument("FLOW", reason)


async def _print(results: Results, options: ResultOptions) -> None:
    if options.as_csv:
        output = _Escaping() if sys.stdout.isatty() else sys.stdout
        await results.write_csv(output, escape_formulas=options.escape_formulas)
    elif options.parquet is not None:
        with whole_file(options.parquet) as path:
            count = await results.write_parquet(path)
        print_line(f"{count:,} rows in {options.parquet}", error=True)
    elif options.as_json:
        async for row in results:
            print_json(row)
    else:
        with RowSpool() as spool:
            async for page in results.pages():
                spool.add(page)
            print_result_table(spool, options.limit or ROWS_OF_A_TABLE)
