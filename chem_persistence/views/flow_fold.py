"""The one pass over a flow's events from which a page and a terminal show the flow."""

from collections.abc import Mapping, Sequence

from msgspec import UNSET

from chem_persistence.domain.definition import FlowDefinition
from chem_persistence.domain.events import (
    BranchCreated,
    FlowCancelled,
    FlowCompleted,
    FlowEvent,
    FlowInitialized,
    FlowParent,
    PropertyPreferenceAssigned,
    StepWaits,
)
from chem_persistence.store.outcomes.summary import SummaryFold
from chem_persistence.store.program.what_ran import parameter_layers
from chem_persistence.store.reuse.results import TakenOver
from chem_persistence.views.attempts import FlowAttempts
from chem_persistence.views.flow_view import PageLimits
from chem_persistence.views.named_artifacts import NamedArtifacts
from chem_persistence.views.origin.programs import Programs

__all__ = ["FlowFold"]

MOST_PREFERENCES = 100
"""The number of choices by policies that are shown of a flow."""


class FlowFold:
    """A flow's attempts, artifacts, waits, input and end; `take` its events in order.

    Then `take_definition`, if it is stored, and `take_artifact` each that was stored with the
    events: an event need not name it.
    """

    def __init__(self, limits: PageLimits) -> None:
        self.limits = limits
        self.first: FlowEvent | None = None
        self.last: FlowEvent | None = None
        self.name: str | None = None
        self.label: str | None = None
        self.definition_hash: str | None = None
        self.definition: FlowDefinition | None = None
        self.step_count: int | None = None
        self.input: str | None = None
        self.flow_fingerprint: str | None = None
        self.cancelled: str | None = None
        self.attempts = FlowAttempts(limits)
        self.artifacts = NamedArtifacts()
        self.parameter_layers: Mapping[str, str] = {}
        self.parent: FlowParent | None = None
        self.preferences: list[PropertyPreferenceAssigned] = []
        self.preference_count = 0
        self.has_branches = False
        self.waits: dict[int, StepWaits] = {}  # the last one of each step
        self.taken_over: Sequence[TakenOver] | None = None  # by other flows; None: not read yet
        self.summary = SummaryFold()
        self.programs = Programs()
        self._definition_hashes: frozenset[str] = frozenset()

    def take(self, event: FlowEvent) -> None:
        """Add the next event."""
        self.first = self.first or event
        self.last = event
        self.attempts.take(event)
        self.artifacts.take(event)
        self.summary.take(event)
        self.programs.take(event)
        match event.kind:
            case FlowInitialized() as fact:
                self.parameter_layers = parameter_layers(event)
                self.definition_hash = fact.definition_hash
                self.step_count = fact.step_count
                self.input = fact.input
                self.name = None if fact.name is UNSET else fact.name
                self.label = None if fact.label is UNSET else fact.label
                self.parent = None if fact.parent is UNSET else fact.parent
            case BranchCreated():
                self.has_branches = True
            case StepWaits() as fact:
                self.waits[fact.step_index] = fact
            case PropertyPreferenceAssigned() as fact:
                self.preference_count += 1
                if self.preference_count <= MOST_PREFERENCES:
                    self.preferences.append(fact)
            case FlowCompleted() as fact:
                self.flow_fingerprint = fact.flow_fingerprint
            case FlowCancelled() as fact:
                self.cancelled = fact.reason
            case _:
                pass

    def take_definition(self, definition: FlowDefinition | None) -> None:
        """Add the flow's definition; its artifacts are not listed as such of this flow."""
        self.definition = definition
        self._definition_hashes = frozenset() if definition is None else definition.hashes()

    def take_artifact(
        self, artifact_hash: str, version: int, event_type: str, step_id: str | None
    ) -> None:
        """Add an artifact with the event that it was stored with, if that was taken."""
        if artifact_hash in self._definition_hashes:
            return
        if self.last is not None and version <= self.last.version:
            self.artifacts.take_stored(artifact_hash, version, event_type, step_id)
