"""The flows of a program, which a command finds by the name of their module."""

import importlib
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from chem_persistence.engine.flow import Flow
from chem_persistence.errors import InvalidArgument

__all__ = ["find_flow_of_module", "find_flows_of_module"]


def find_flows_of_module(name: str, argument: str = "FLOWS") -> list[Flow[Any, Any]]:
    """Import the flows that `module:attribute` names: one, or several.

    Raises:
        InvalidArgument: there is no such module or attribute, or it holds something else.
    """
    module_name, _, attribute = name.partition(":")
    if not module_name or not attribute:
        raise InvalidArgument(argument, f"must be like package.module:flows, not {name!r}")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        raise InvalidArgument(argument, f"cannot import {module_name}: {error}") from error
    for part in attribute.split("."):
        found = getattr(found, part, None)
    flows = [found] if isinstance(found, Flow) else found
    if isinstance(flows, Iterable):
        flows = list(flows)
        if flows and all(isinstance(flow, Flow) for flow in flows):
            return flows
    raise InvalidArgument(argument, f"{module_name} has no flow, or flows, named {attribute!r}")


def find_flow_of_module(name: str) -> Flow[Any, Any]:
    """Import the flow that `module:attribute` names.

    Raises:
        InvalidArgument: there is no such module or attribute, or it holds something else.
    """
    flows = find_flows_of_module(name, "FLOW")
    if len(flows) > 1:
        raise InvalidArgument("FLOW", f"{name} holds {len(flows)} flows: name one of them")
    return flows[0]
