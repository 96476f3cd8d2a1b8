"""The command `serve`."""

import importlib.util
from typing import NamedTuple

from chem_persistence.cli.database import open_database
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.options import Target
from chem_persistence.cli.terminal.printing import print_json, print_line
from chem_persistence.errors import InvalidArgument

__all__ = ["ExplorerAddress", "serve_explorer"]

CONNECTIONS = 4


class ExplorerAddress(NamedTuple):
    """Where the explorer listens, and which other host names it answers for."""

    host: str
    port: int
    allowed: list[str]


async def serve_explorer(
    target: Target, given: ExplorerAddress, *, may_act: bool, as_json: bool
) -> int:
    """Serve the explorer until Ctrl-C or SIGTERM; return the exit code.

    Raises:
        InvalidArgument: the extra `explorer` is not installed, or the address cannot be had.
    """
    if any(importlib.util.find_spec(name) is None for name in ("starlette", "uvicorn", "jinja2")):
        install = "pip install 'chem-persistence[explorer]'"
        raise InvalidArgument("serve", f"the explorer is not installed: {install}")
    from chem_persistence.explorer.actions.permission import Permission  # noqa: PLC0415
    from chem_persistence.explorer.app import end_streams, explorer  # noqa: PLC0415  # an extra
    from chem_persistence.explorer.guard import LOCAL_HOSTS  # noqa: PLC0415
    from chem_persistence.explorer.serving import bound_socket, serve  # noqa: PLC0415

    hosts = {*LOCAL_HOSTS, given.host.lower(), *(name.lower() for name in given.allowed)}
    permission = Permission() if may_act else None
    async with open_database(target, connections=CONNECTIONS) as provider:
        with bound_socket(given.host, given.port) as listening:
            address, number = listening.getsockname()[:2]
            shown = f"[{address}]" if ":" in address else address

            def ready() -> None:
                url = f"http://{shown}:{number}/"
                if permission is not None:
                    url += f"enter?key={permission.key}"
                if as_json:
                    print_json({"url": url})
                else:
                    print_line(f"the explorer is at {url} (Ctrl-C ends it)")

            app = explorer(provider, hosts=hosts, permission=permission)
            await serve(app, listening, on_ready=ready, on_end=lambda: end_streams(app))
    return ExitCode.WELL
