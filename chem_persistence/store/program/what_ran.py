"""What ran a flow: the versions, the commit, the host and the process, in an event's metadata.

It is stored with the event that begins a flow, and with the first event that another process then
appends to run it. It is never part of a fingerprint.
"""

import os
import socket
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec

from chem_persistence.domain.events import FlowEvent
from chem_persistence.store.program.git import checked_out_commit

__all__ = [
    "RAN",
    "beginning",
    "introduction",
    "last_program",
    "parameter_layers",
    "this_program",
]

RAN = "ran"
"""The key of the metadata that names the program."""

PARAMETERS = "parameters"
"""The key of the metadata that says who has set which parameter of the flow."""

Program = Mapping[str, Any]


def this_program(records: Sequence[str] = ()) -> Program:
    """Return what runs here: versions, the commit of the program's directory, host and process.

    `records` names the packages whose versions belong to it, as pip does; None is the version of
    one that is not installed.
    """
    return _program(os.getpid(), tuple(records))


def beginning(records: Sequence[str], parameter_layers: Mapping[str, str]) -> Mapping[str, Any]:
    """Return the metadata of an event with which this process begins a flow.

    `parameter_layers` says who has set which parameter.
    """
    layers = {PARAMETERS: dict(parameter_layers)} if parameter_layers else {}
    return {RAN: this_program(records), **layers}


def parameter_layers(first: FlowEvent) -> Mapping[str, str]:
    """Return who has set which parameters of a flow, by its first event."""
    try:
        return msgspec.convert(first.metadata.get(PARAMETERS) or {}, dict[str, str])
    except msgspec.ValidationError:  # a program wrote something else under the key
        return {}


def introduction(before: Program | None, records: Sequence[str]) -> Mapping[str, Any] | None:
    """Return the metadata of this process's first event of a flow; None if it ran it `before`."""
    program = this_program(records)
    return None if before == program else {RAN: program}


def last_program(events: Iterable[FlowEvent]) -> Program | None:
    """Return what ran a flow last; the events are in descending order."""
    for event in events:
        if event.metadata and isinstance(program := event.metadata.get(RAN), dict):
            return program
    return None


@cache
def _program(pid: int, records: tuple[str, ...]) -> Program:
    """Return what runs in the process `pid`, this one."""
    program: dict[str, Any] = {
        "python": ".".join(map(str, sys.version_info[:3])),
        "chem_persistence": import_module("chem_persistence").__version__,
        "host": socket.gethostname(),
        "process": pid,
    }
    if records:
        program["packages"] = {name: _version(name) for name in sorted(records)}
    if (commit := _commit()) is not None:
        program["commit"] = commit
    return program


def _version(package: str) -> str | None:
    from importlib import metadata  # noqa: PLC0415  # most flows name no package

    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


@cache
def _commit() -> str | None:
    """Return the commit of the program's directory, once for a process and those it forks."""
    try:
        return checked_out_commit(_program_directory())
    except OSError:  # the current directory was removed
        return None


def _program_directory() -> Path:
    """Return the directory of the program's main file.

    That is the current directory for an installed command, such as `chem-persistence worker`, and
    for an interactive session.
    """
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    if file is not None:
        directory = Path(file).resolve().parent
        own = Path(__file__).resolve().parents[2]
        if not any(directory.is_relative_to(each) for each in (Path(sys.prefix).resolve(), own)):
            return directory
    return Path.cwd()
