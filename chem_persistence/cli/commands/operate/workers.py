"""The command `workers`."""

from datetime import UTC, datetime

from chem_persistence.cli.database import open_database
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.options import Target
from chem_persistence.cli.terminal.printing import column, print_json, print_line, print_table
from chem_persistence.cli.terminal.text import shown, shown_ago
from chem_persistence.postgres.read_models import PgReadModels
from chem_persistence.views.wording import hash_prefix

__all__ = ["list_the_workers"]


async def list_the_workers(target: Target, *, as_json: bool) -> int:
    """Print the workers, when each was seen, and what it serves; return the exit code."""
    async with open_database(target) as provider:
        workers = await PgReadModels(provider).workers()
    if as_json:
        print_json({"workers": workers})
        return ExitCode.WELL
    if not workers:
        print_line("no workers")
        return ExitCode.WELL
    now = datetime.now(UTC)
    columns = [
        column("worker", ids=True),
        column("name", cut=True),
        column("seen"),
        column("flows", right=True),
        column("definitions", fold=True),
    ]
    rows = [
        (
            str(worker.worker_id),
            shown(worker.name),
            shown_ago(now - worker.seen_at),
            str(worker.flows),
            " ".join(map(hash_prefix, worker.definitions)),
        )
        for worker in workers
    ]
    print_table(columns, rows)
    return ExitCode.WELL
