"""The artifacts that a flow's events name, and the role of each in the flow."""

from collections.abc import Iterator, Sequence

import msgspec

from chem_persistence.domain.events import FlowEvent, FlowEventKind, FlowInitialized, StepFinished
from chem_persistence.views.wording import short

__all__ = ["NamedArtifacts", "named_artifacts"]

MOST_ROLES = 50
"""How many roles of one artifact are listed: any number of steps may output the same one."""


class _Role(msgspec.Struct, frozen=True):
    """What an artifact is to a step, or to the whole flow if `step` is None."""

    what: str
    step: str | None = None


class NamedArtifacts:
    """The artifacts that events name, each once, in order of appearance.

    Its memory grows with the number of artifacts: 64 characters and the roles for each.
    """

    def __init__(self) -> None:
        self._named: dict[str, tuple[int, tuple[_Role, ...]]] = {}

    def __len__(self) -> int:
        return len(self._named)

    def __iter__(self) -> Iterator[tuple[str, int, str]]:
        """Yield each hash, the version of the first event that names it, and all its roles."""
        for artifact_hash, (version, roles) in self._named.items():
            yield artifact_hash, version, _in_words(roles)

    def take(self, event: FlowEvent) -> None:
        """Add the artifacts of the next event."""
        for artifact_hash, role in _roles(event.kind):
            version, roles = self._named.get(artifact_hash, (event.version, ()))
            if len(roles) <= MOST_ROLES and all(role.step != other.step for other in roles):
                self._named[artifact_hash] = version, (*roles, role)


def named_artifacts(fact: FlowEventKind) -> tuple[str, ...]:
    """Return the hashes of the artifacts that an event names."""
    return tuple(artifact_hash for artifact_hash, _ in _roles(fact))


def _roles(fact: FlowEventKind) -> list[tuple[str, _Role]]:
    match fact:
        case FlowInitialized(input=str(artifact_hash)):
            return [(artifact_hash, _Role("input of the flow"))]
        case StepFinished():
            step = short(fact.step_id)
            roles = (_Role("output of", step), _Role("added by", step))
            return [(output, roles[min(index, 1)]) for index, output in enumerate(fact.outputs)]
        case _:
            return []


def _in_words(roles: Sequence[_Role]) -> str:
    """Return roles in one line: `input of the flow; output of steps acquire, standardise`."""
    steps: dict[str, list[str]] = {}
    for role in roles[:MOST_ROLES]:
        steps.setdefault(role.what, []).extend([] if role.step is None else [role.step])
    parts = [_of_steps(what, ids) for what, ids in steps.items()]
    return "; ".join([*parts, "and more"] if len(roles) > MOST_ROLES else parts)


def _of_steps(what: str, ids: Sequence[str]) -> str:
    if not ids:
        return what
    return f"{what} {'step' if len(ids) == 1 else 'steps'} {', '.join(ids)}"
