"""The command `doctor`."""

from typing import Annotated

import typer

from chem_persistence.cli.database import Place, commands_about, server_url
from chem_persistence.cli.exit import ExitCode, run
from chem_persistence.cli.options import AsJson, Data, DatabaseUrl, Schema
from chem_persistence.cli.terminal.escaping import shown
from chem_persistence.cli.terminal.printing import (
    Cell,
    column,
    print_json,
    print_line,
    print_table,
    shown_state,
)
from chem_persistence.postgres.admin.doctor.examination import examine
from chem_persistence.postgres.admin.doctor.result import CheckResult, Severity
from chem_persistence.postgres.admin.doctor.rights import RoleNames
from chem_persistence.postgres.admin.roles import APPLICATION, OWNER, READER
from chem_persistence.postgres.connection.pool import PoolProvider, open_pool

__all__ = ["doctor"]


def doctor(
    database_url: DatabaseUrl = None,
    data: Data = None,
    schema: Schema = "public",
    pool_size: Annotated[int, typer.Option(min=1, help="Connections in each program's pool.")] = 10,
    processes: Annotated[int, typer.Option(min=1, help="Programs that have a pool.")] = 1,
    owner: Annotated[str, typer.Option(help="The role that `roles` made the owner.")] = OWNER,
    application: Annotated[str, typer.Option(help="The role that appends.")] = APPLICATION,
    reader: Annotated[str, typer.Option(help="The role that reads.")] = READER,
    as_json: AsJson = False,
) -> None:
    """Find what is wrong with the server, the schema or the rights, and say what to type; changes nothing.

    Exit code 1: there is an error or a warning.
    """
    place, names = Place(database_url, data, schema), RoleNames(owner, application, reader)
    run(lambda: _doctor(place, names, pool_size=pool_size, processes=processes, as_json=as_json))


async def _doctor(
    place: Place, names: RoleNames, *, pool_size: int, processes: int, as_json: bool
) -> int:
    async with (
        server_url(place) as url,
        await open_pool(url, max_size=1, schema=place.schema) as pool,
    ):
        results = await examine(
            PoolProvider(pool),
            place.schema,
            pool_size=pool_size,
            processes=processes,
            role_names=names,
            commands=commands_about(place),
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
