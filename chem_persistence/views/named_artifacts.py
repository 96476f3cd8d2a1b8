"""The artifacts of a flow, and the role of each in it: named by events, or stored with them."""

from collections.abc import Iterator, Sequence

import msgspec

from chem_persistence.domain.events import FlowEvent, FlowEventKind, FlowInitialized, StepFinished
from chem_persistence.views.wording import short

__all__ = ["NamedArtifacts", "named_artifacts"]

_STORED_WITH = {
    "stepstarted": "stored with the start of",
    "stepfinished": "stored with the outcome of",
    "stepfailed": "stored with the failure of",
    "stepwaits": "stored with a wait of",
    "stepsignal": "stored with a signal of",
    "retryscheduled": "stored with the retry of",
    "userinteractionrequested": "stored with a question of",
    "userinteractionprovided": "stored with an answer to",
    "flowinitialized": "stored with the beginning of the flow",
    "propertypreferenceassigned": "stored with a preference",
    "branchcreated": "stored with a branch",
    "flowcompleted": "stored with the completion of the flow",
    "flowcancelled": "stored with the cancellation of the flow",
}
"""The role of an artifact that no event names, by the type of the event it was appended with."""

MOST_ROLES = 50
"""How many roles of one artifact are listed: any number of steps may output the same one."""


class _Role(msgspec.Struct, frozen=True):
    """What an artifact is to a step, or to the whole flow if `step` is None."""

    what: str
    step: str | None = None


class NamedArtifacts:
    """The artifacts of a flow, each once, in order of appearance.

    `stored_with` has, by version, the artifacts that were stored with an event which does not name
    them.

    Its memory grows with the number of artifacts: 64 characters and the roles for each.
    """

    def __init__(self) -> None:
        self._named: dict[str, tuple[int, tuple[_Role, ...]]] = {}
        self.stored_with: dict[int, list[str]] = {}

    def __len__(self) -> int:
        return len(self._named)

    def __iter__(self) -> Iterator[tuple[str, int, str]]:
        """Yield each hash, the version of the first event that brings it, and all its roles."""
        in_order = sorted(self._named.items(), key=lambda named: named[1][0])
        for artifact_hash, (version, roles) in in_order:
            yield artifact_hash, version, _in_words(roles)

    def take(self, event: FlowEvent) -> None:
        """Add the artifacts of the next event."""
        for artifact_hash, role in _roles(event.kind):
            version, roles = self._named.get(artifact_hash, (event.version, ()))
            if len(roles) <= MOST_ROLES and all(role.step != other.step for other in roles):
                self._named[artifact_hash] = version, (*roles, role)

    def take_stored(
        self, artifact_hash: str, version: int, event_type: str, step_id: str | None
    ) -> None:
        """Add an artifact with the event that it was stored with, unless that names it."""
        named = self._named.get(artifact_hash)
        if named is not None and named[0] <= version:
            return
        step = None if step_id is None else short(step_id)
        role = _Role(_STORED_WITH[event_type], step)
        self._named[artifact_hash] = version, (role, *(named[1] if named else ()))
        self.stored_with.setdefault(version, []).append(artifact_hash)


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
