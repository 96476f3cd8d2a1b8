"""The artifacts that a flow's events name, and what each is to the flow."""

from collections.abc import Iterator, Sequence

import msgspec

from chem_persistence.domain.events import FlowEvent, FlowEventKind, FlowInitialized, StepFinished
from chem_persistence.views.wording import short

__all__ = ["NamedArtifacts", "named_artifacts"]

MOST_ROLES = 50
"""So many roles of one artifact are told: a flow may give one artifact in any number of steps."""


class _Role(msgspec.Struct, frozen=True):
    """What an artifact is: to a step, or without one to the flow."""

    what: str
    step: str | None = None


class NamedArtifacts:
    """Takes a flow's events in order; keeps each hash once, in the order in which they appear."""

    def __init__(self) -> None:
        self._named: dict[str, tuple[int, tuple[_Role, ...]]] = {}

    def __len__(self) -> int:
        return len(self._named)

    def __iter__(self) -> Iterator[tuple[str, int, str]]:
        """Give each hash, the version of the first event that names it, and all that it is to the flow."""
        for artifact_hash, (version, roles) in self._named.items():
            yield artifact_hash, version, _said(roles)

    def take(self, event: FlowEvent) -> None:
        """Go on with the next event."""
        for artifact_hash, role in _roles(event.kind):
            version, roles = self._named.get(artifact_hash, (event.version, ()))
            if len(roles) <= MOST_ROLES and all(role.step != other.step for other in roles):
                self._named[artifact_hash] = version, (*roles, role)


def named_artifacts(kind: FlowEventKind) -> tuple[str, ...]:
    """Give the hashes of the artifacts that the event names."""
    return tuple(artifact_hash for artifact_hash, _ in _roles(kind))


def _roles(kind: FlowEventKind) -> list[tuple[str, _Role]]:
    match kind:
        case FlowInitialized(input=str(artifact_hash)):
            return [(artifact_hash, _Role("input of the flow"))]
        case StepFinished():
            step = short(kind.step_id)
            roles = (_Role("output of", step), _Role("added by", step))
            return [(output, roles[min(place, 1)]) for place, output in enumerate(kind.outputs)]
        case _:
            return []


def _said(roles: Sequence[_Role]) -> str:
    """Say it in a line: `input of the flow; output of steps acquire, standardise`."""
    steps: dict[str, list[str]] = {}
    for role in roles[:MOST_ROLES]:
        steps.setdefault(role.what, []).extend([] if role.step is None else [role.step])
    said = [_said_of_steps(what, ids) for what, ids in steps.items()]
    return "; ".join([*said, "and more"] if len(roles) > MOST_ROLES else said)


def _said_of_steps(what: str, ids: Sequence[str]) -> str:
    if not ids:
        return what
    return f"{what} {'step' if len(ids) == 1 else 'steps'} {', '.join(ids)}"
