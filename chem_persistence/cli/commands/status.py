"""The command `status`."""

from chem_persistence.cli.database import commands_about, server_url
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.options import Target
from chem_persistence.cli.terminal.printing import Cell, column, print_json, print_line, print_table
from chem_persistence.cli.terminal.text import shown, shown_time
from chem_persistence.postgres.admin.doctor.commands import Commands
from chem_persistence.postgres.admin.status import DatabaseStatus, read_status
from chem_persistence.postgres.connection.pool import PoolProvider, open_pool
from chem_persistence.views.wording import size_of

__all__ = ["print_status"]


async def print_status(target: Target, *, as_json: bool) -> int:
    """Print what a database holds; return FOUND if the schema is not current."""
    async with (
        server_url(target) as url,
        await open_pool(url, max_size=1, schema=target.schema) as pool,
    ):
        found = await read_status(PoolProvider(pool), target.schema)
    if as_json:
        print_json(found)
    else:
        _print(found, commands_about(target))
    return ExitCode.WELL if found.schema_state == "current" else ExitCode.FOUND


def _print(found: DatabaseStatus, commands: Commands) -> None:
    lines: list[tuple[str, str]] = [
        ("server", f"PostgreSQL {shown(found.server_version)}"),
        ("database", f"{shown(found.database)}, {size_of(found.bytes)}"),
        ("role", shown(found.role)),
        ("schema", f"{shown(found.schema)}: {_said(found, commands)}"),
    ]
    if found.newest_flow_at is not None:
        lines.append(("newest flow", f"began at {shown_time(found.newest_flow_at)} UTC"))
    print_table([column(""), column("", fold=True)], lines, heading=False)
    if found.tables:
        print_line("")
        rows: list[tuple[Cell, ...]] = [
            (
                shown(table.name),
                ("" if table.exact else "about ")
                + ("?" if table.rows is None else f"{table.rows:,}"),
                size_of(table.bytes),
            )
            for table in found.tables
        ]
        print_table([column("table"), column("rows", right=True), column("size", right=True)], rows)


def _said(found: DatabaseStatus, commands: Commands) -> str:
    migrate = commands.migrate()
    match found.schema_state:
        case "current":
            return f"at migration {found.schema_version}, which is this library's"
        case "missing":
            return f"has no tables of this library; type {migrate}"
        case "behind":
            return (
                f"at migration {found.schema_version}, this library needs {found.library_version}; "
                f"type {migrate}"
            )
        case "unusable":
            return f"{found.trouble}; type {commands.complete('doctor')}"
