"""The command `doctor`."""

from msgspec.structs import replace

from chem_persistence.cli.database import commands_about, server_url
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.options import RoleOptions, Target
from chem_persistence.cli.terminal.printing import (
    Cell,
    column,
    print_json,
    print_line,
    print_table,
    shown_state,
)
from chem_persistence.cli.terminal.text import shown
from chem_persistence.postgres.admin.doctor.examination import examine
from chem_persistence.postgres.admin.doctor.result import CheckResult, Severity
from chem_persistence.postgres.admin.roles import usual_names
from chem_persistence.postgres.connection.pool import PoolProvider, open_pool

__all__ = ["examine_database"]


async def examine_database(
    target: Target, names: RoleOptions, *, pool_size: int, processes: int, as_json: bool
) -> int:
    """Print what is wrong with a database; return FOUND for errors and warnings."""
    async with (
        server_url(target) as url,
        await open_pool(url, max_size=1, schema=target.schema) as pool,
    ):
        results = await examine(
            PoolProvider(pool),
            target.schema,
            pool_size=pool_size,
            processes=processes,
            role_names=replace(usual_names(target.schema), **names.given()),
            commands=commands_about(target),
        )
    bad = [result for result in results if result.severity in {Severity.WARNING, Severity.ERROR}]
    if as_json:
        print_json({"sound": not bad, "checks": results})
    else:
        _print(results, len(bad))
    return ExitCode.FOUND if bad else ExitCode.WELL


def _print(results: list[CheckResult], bad: int) -> None:
    rows: list[tuple[Cell, ...]] = []
    for result in results:
        rows.append((shown_state(result.severity), shown(result.check), shown(result.finding)))
        if result.remedy is not None:
            rows.append(("", "  type", shown(result.remedy)))
    print_table([column(""), column(""), column("", fold=True)], rows, heading=False)
    print_line(f"{bad:,} to look after" if bad else "all is well")
