"""What ran a flow: which program, with which versions, appended from which event to which."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from chem_persistence.domain.events import FlowEvent, FlowInitialized
from chem_persistence.store.program.what_ran import last_program

__all__ = ["Programs", "RanView", "VersionDifference", "version_differences"]

MOST_PROGRAMS = 50

DIGITS = 12
"""Of a commit so many digits are shown in a sentence."""

_UNKNOWN = "not recorded"


class RanView(msgspec.Struct, frozen=True):
    """A program that ran a flow from the event `first` on, and until the event `last`.

    `only_began` is whether it did nothing but begin the flow, for a worker to run. `versions` has
    those of Python, of this library and of the packages that the flow names; None is the version of
    a package that is not installed. `commit` is that of the program's directory.
    """

    first: int
    last: int
    only_began: bool
    host: str
    process: int | None
    versions: Mapping[str, str | None]
    commit: str | None

    @property
    def where(self) -> str:
        """The host, and the id of the process on it: `node7:4242`."""
        return self.host if self.process is None else f"{self.host}:{self.process}"

    @property
    def events(self) -> str:
        """The first and the last event: `1 to 4`."""
        return f"{self.first}" if self.first == self.last else f"{self.first} to {self.last}"

    @property
    def in_words(self) -> str:
        """The versions, and the beginning of the commit."""
        named = [f"{name} {version or 'missing'}" for name, version in self.versions.items()]
        return ", ".join([*named, *([f"commit {self.commit[:DIGITS]}"] if self.commit else [])])


class Programs:
    """The first programs that ran a flow; `take` its events in order. `count` is of all."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[RanView] = []
        self._program: Mapping[str, Any] | None = None

    def take(self, event: FlowEvent) -> None:
        """Add the next event to those of the program that runs the flow."""
        program = last_program((event,))
        if program is not None and program != self._program:
            self._program = program
            self.count += 1
            if self.count <= MOST_PROGRAMS:
                is_begin = isinstance(event.kind, FlowInitialized)
                self.first.append(_view(event.version, program, only_began=is_begin))
        elif self.first and self.count <= MOST_PROGRAMS:
            last = self.first[-1]
            self.first[-1] = replace(last, last=event.version, only_began=False)


def _view(version: int, program: Mapping[str, Any], *, only_began: bool) -> RanView:
    """Return a program from metadata, of which another program may have written any part."""
    process, commit, packages = (program.get(key) for key in ("process", "commit", "packages"))
    named = {key: program.get(key) for key in ("python", "chem_persistence")}
    if isinstance(packages, dict):
        named |= packages
    return RanView(
        version,
        version,
        only_began,
        str(program.get("host", "")),
        process if isinstance(process, int) else None,
        {key: None if value is None else str(value) for key, value in named.items()},
        None if commit is None else str(commit),
    )


class VersionDifference(msgspec.Struct, frozen=True):
    """A package, Python, or the commit, of which two flows were run with other versions."""

    what: str
    left: tuple[str, ...]
    right: tuple[str, ...]

    @property
    def in_words(self) -> str:
        """Both, as a sentence has them: `rdkit 2025.9.1 and 2026.3.1`."""
        sides = [" then ".join(side) or _UNKNOWN for side in (self.left, self.right)]
        return f"{self.what} {sides[0]} and {sides[1]}"


def version_differences(
    left: Iterable[FlowEvent], right: Iterable[FlowEvent]
) -> list[VersionDifference]:
    """Return the versions with which two flows were run and which are not the same in both."""
    own, other = _versions(left), _versions(right)
    return [
        VersionDifference(what, tuple(own.get(what, ())), tuple(other.get(what, ())))
        for what in dict.fromkeys([*own, *other])
        if own.get(what) != other.get(what)
    ]


def _versions(events: Iterable[FlowEvent]) -> dict[str, Sequence[str]]:
    """Return the versions with which a flow's steps were run, by name and in order."""
    programs = Programs()
    for event in events:
        programs.take(event)
    found: dict[str, dict[str, None]] = {}
    for ran in programs.first:
        if not ran.only_began:
            commit = {"commit": ran.commit} if ran.commit else {}
            for name, version in {**ran.versions, **commit}.items():
                found.setdefault(name, {})[version or "missing"] = None
    return {name: list(versions) for name, versions in found.items()}
