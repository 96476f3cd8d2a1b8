"""The command `worker`."""

import importlib
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from chem_persistence.cli.database import open_database
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.options import Target
from chem_persistence.cli.terminal.printing import print_json, print_line
from chem_persistence.engine.flow import Flow
from chem_persistence.errors import InvalidArgument
from chem_persistence.worker.worker import Worker

__all__ = ["run_worker"]

CONNECTIONS = 8


async def run_worker(
    target: Target, name: str, at_once: int, limits: Sequence[str], *, as_json: bool
) -> int:
    """Run a worker of the flows that `name` names until it is told to stop."""
    flows = _find_flows(name)
    async with open_database(target, connections=CONNECTIONS) as provider:
        worker = Worker(provider, flows, at_once=at_once, limits=dict(map(_limit, limits)))
        if as_json:
            definitions = sorted({flow.definition_hash for flow in flows})
            print_json({"worker": worker.id, "definitions": definitions, "at_once": at_once})
        else:
            noun = "flow" if len(flows) == 1 else "flows"
            print_line(f"serving {len(flows)} {noun}, at most {at_once} at once; Ctrl-C stops")
        sys.stdout.flush()
        await worker.run()
    return ExitCode.WELL


def _limit(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not name or not number.isdecimal():
        raise InvalidArgument("--limit", f"must be like cores=16, not {text!r}")
    return name, int(number)


def _find_flows(name: str) -> list[Flow[Any, Any]]:
    """Import the flows that `module:attribute` names: one, or several.

    Raises:
        InvalidArgument: there is no such module or attribute, or it holds something else.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise InvalidArgument("FLOWS", f"must be like package.module:flows, not {name!r}")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise InvalidArgument("FLOWS", f"cannot import {module_name}: {error}") from error
    for part in attribute.split("."):
        found = getattr(found, part, None)
    flows = [found] if isinstance(found, Flow) else found
    if isinstance(flows, Iterable):
        flows = list(flows)
        if flows and all(isinstance(flow, Flow) for flow in flows):
            return flows
    raise InvalidArgument("FLOWS", f"{module_name} has no flow, or flows, named {attribute!r}")
