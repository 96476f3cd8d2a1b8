"""The command `limits`."""

from collections.abc import Sequence

from chem_persistence.cli.database import open_database
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.options import Target
from chem_persistence.cli.terminal.printing import column, print_json, print_line, print_table
from chem_persistence.cli.terminal.text import shown
from chem_persistence.errors import InvalidArgument
from chem_persistence.postgres.slots import PgSlots
from chem_persistence.store.leasing.slots import ResourceLimit, check_limit

__all__ = ["list_and_set_limits"]

NONE = "none"
MOST_USERS = 10
"""The users of a resource that are printed; JSON has all."""


async def list_and_set_limits(target: Target, wanted: Sequence[str], *, as_json: bool) -> int:
    """Set limits such as gpu=4 or gpu=none, and print all; return the exit code."""
    changes = list(map(_change, wanted))
    async with open_database(target) as provider:
        slots = PgSlots(provider)
        for resource, most in changes:
            await slots.set_limit(resource, most)
        limits = await slots.limits()
    if as_json:
        print_json({"limits": limits})
    elif limits:
        _print(limits)
    else:
        print_line("no resource is limited over all workers")
    return ExitCode.WELL


def _change(text: str) -> tuple[str, int | None]:
    resource, _, number = text.rpartition("=")
    if not resource or not (number == NONE or number.isdecimal()):
        raise InvalidArgument("RESOURCE=N", f"must be like gpu=4 or gpu={NONE}, not {text!r}")
    most = None if number == NONE else int(number)
    check_limit(resource, most)
    return resource, most


def _print(limits: Sequence[ResourceLimit]) -> None:
    columns = [
        column("resource", cut=True),
        column("slots", right=True),
        column("used", right=True),
        column("waiting", right=True),
        column("used by", ids=True),
    ]
    rows: list[Sequence[str]] = []
    for limit in limits:
        users = [f"{user.flow_id} ({user.slots})" for user in limit.users[:MOST_USERS]]
        if len(limit.users) > MOST_USERS:
            users.append(f"and {len(limit.users) - MOST_USERS} more")
        counts = (str(limit.most), str(limit.used), str(limit.waiting))
        rows.append((shown(limit.resource), *counts, users[0] if users else ""))
        rows.extend(("", "", "", "", user) for user in users[1:])
    print_table(columns, rows)
    for limit in limits:
        if limit.impossible:
            noun = "flow uses" if limit.impossible == 1 else "flows use"
            print_line(
                f"{limit.impossible} {noun} more than a limit, and will never have it: raise the "
                f"limit of {shown(limit.resource)}, or of what else the step uses"
            )
