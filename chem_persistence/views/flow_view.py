"""The values that a page shows of a flow, and the limits of how much it shows."""

from datetime import datetime
from enum import Enum, StrEnum
from uuid import UUID

import msgspec

from chem_persistence.domain.definition import FlowDefinition
from chem_persistence.domain.events import (
    FlowParent,
    PropertyPreferenceAssigned,
    ResultOrigin,
    StepError,
)
from chem_persistence.domain.flow_state import FlowState
from chem_persistence.store.reuse.results import TakenOver
from chem_persistence.views.children import ChildrenView
from chem_persistence.views.origin.branches import BranchTree
from chem_persistence.views.origin.parameters import ParameterView
from chem_persistence.views.origin.programs import RanView

__all__ = [
    "ArtifactView",
    "AttemptOutcome",
    "AttemptView",
    "Attribution",
    "EventView",
    "FlowView",
    "ImagePreview",
    "Ink",
    "Invalidation",
    "MoleculeView",
    "NoPreview",
    "PageLimits",
    "Preview",
    "ServedPage",
    "StepView",
    "TextPreview",
    "json_text",
]


class PageLimits(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a flow a page holds, so that a browser can open it and a mail can carry it.

    What exceeds a limit is left out, and the page says what and how much. Of more than `events`
    events the first and the last half are listed; of a step the latest `attempts` and `signals`,
    and `children` of the flows that it runs, the failed ones first.
    `text` is in characters a payload or preview, `image` in bytes an image; `embedded` is in
    characters and bytes of all events together, and again of all artifacts together.
    """

    events: int = 2_000
    steps: int = 500
    attempts: int = 100
    signals: int = 500
    artifacts: int = 200
    children: int = 100
    molecules: int = 24
    text: int = 20_000
    image: int = 512 * 2**10
    embedded: int = 8 * 2**20


class AttemptOutcome(StrEnum):
    """How an attempt at a step ended.

    A waiting attempt sleeps until a time or a signal; without an end it still sleeps. Of a
    superseded attempt the log has no outcome, only a later start of the same step. Its process may
    have died, or may still work: no event records which. The same holds for an open attempt, which
    is the latest one. Nothing was attempted if the result of an equal step was taken over: then
    the number is 0.
    """

    FINISHED = "finished"
    FAILED = "failed"
    ASKED = "asked a person"
    WAITED = "waited"
    SUPERSEDED = "superseded"
    REUSED = "taken over"
    OPEN = "not ended"


class AttemptView(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt: `number` counts from 1; without `ended` it is open.

    A superseded attempt ended when the next one began: from then on the engine stores no outcome of
    it, even if its process still works. `last_sign` is the time of its last signal. `question` is
    what it asked a person, and `answered` when the answer came. `until` is the time until which it
    waits, as its last `StepWaits` has it, and `retry_at` the time before which the step is not
    tried again, as the `RetryScheduled` after its failure has it.
    """

    number: int
    began: datetime
    ended: datetime | None
    outcome: AttemptOutcome
    last_sign: datetime | None = None
    error: StepError | None = None
    question: str | None = None
    answered: datetime | None = None
    until: datetime | None = None
    retry_at: datetime | None = None


class Invalidation(msgspec.Struct, frozen=True):
    """Who declared a step's result invalid, when, and why."""

    at: datetime
    who: str
    reason: str


class StepView(msgspec.Struct, frozen=True, kw_only=True):
    """A step that an event names: its latest attempts and signals, with the true counts.

    `origin` is the event from which its result was taken over, or None. `invalidated` is set if
    its own result was declared invalid.
    """

    index: int
    id: str
    attempt_count: int
    attempts: tuple[AttemptView, ...]
    signal_count: int
    signals: tuple[datetime, ...]
    retry_count: int
    origin: ResultOrigin | None = None
    invalidated: Invalidation | None = None


class TextPreview(msgspec.Struct, frozen=True):
    """A text or its beginning; `characters` is the length of the whole, None if unknown."""

    text: str
    characters: int | None = None


def json_text(canonical: bytes, limit: int) -> TextPreview:
    """Return canonical JSON with one line a member, at most `limit` characters of it.

    JSON of more than four times the limit is cut without being indented first.
    """
    if len(canonical) > 4 * limit:
        return TextPreview(canonical[: 4 * limit].decode("utf-8", "ignore")[:limit])
    text = msgspec.json.format(canonical, indent=2).decode()
    return TextPreview(text[:limit], len(text))


class ImagePreview(msgspec.Struct, frozen=True):
    """A PNG or JPEG image, recognised by its first bytes."""

    media_type: str
    content: bytes
    width: int
    height: int


class NoPreview(msgspec.Struct, frozen=True):
    """The reason why nothing is shown; `alarming` if it is a defect of what is stored."""

    reason: str
    alarming: bool = False


Preview = TextPreview | ImagePreview | NoPreview


class EventView(msgspec.Struct, frozen=True, kw_only=True):
    """An event; `link` is its link of the hash chain, computed from what was read."""

    version: int
    seq: int
    event_id: UUID
    ts: datetime
    event_type: str
    variant: str
    step: str | None
    summary: str
    who: str
    payload: TextPreview | NoPreview
    metadata: TextPreview | NoPreview | None
    artifacts: tuple[str, ...]
    link: str


class Attribution(msgspec.Struct, frozen=True):
    """Who appended the events from version `first` to `last`, and why."""

    who: str
    why: str
    first: int
    last: int


class ArtifactView(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact, which came with the event at `version`; `role` is all that it is to the flow.

    `size` is in bytes, None if the artifact could not be read.
    """

    hash: str
    version: int
    role: str
    kind: str
    media_type: str
    size: int | None
    metadata: TextPreview | None
    preview: Preview


class Ink(msgspec.Struct, frozen=True):
    """Lines or areas of one colour, as the path data of SVG 2 (9.3).

    `colour` is the name of a chemical element, or `carbon` for everything else.
    """

    colour: str
    path: str
    filled: bool = False
    dashed: bool = False
    thin: bool = False


class MoleculeView(msgspec.Struct, frozen=True, kw_only=True):
    """A molecule drawn in `inks`, `width` by `height`.

    The canonical `smiles` identifies it, `label` is its name in the artifact; `sources` are the
    hashes of the artifacts that contain it.
    """

    smiles: str
    label: str
    formula: str
    width: int
    height: int
    inks: tuple[Ink, ...]
    sources: tuple[str, ...] = ()


class ServedPage(Enum):
    """A page that the explorer serves, with or without the forms that change the flow."""

    READ_ONLY = "read only"
    WITH_ACTIONS = "with actions"


class FlowView(msgspec.Struct, frozen=True, kw_only=True):
    """A flow after its last event, read at `seen_at`; a list above a limit has its true count.

    `cancelled` is the reason for which the flow was cancelled, or None. `definition` is None if it
    is not stored. `parent` is the step that submitted the flow as its child, `children` are those
    of its own steps. `taken_over` has steps of other flows that took its results over, at most one
    more than a page lists. `served` is None unless the explorer serves the page.
    """

    flow_id: UUID
    state: FlowState
    began: datetime
    last_at: datetime
    seen_at: datetime
    definition_hash: str | None
    name: str | None = None
    label: str | None = None
    definition: FlowDefinition | None = None
    step_count: int | None
    flow_fingerprint: str | None
    cancelled: str | None
    head: str
    event_count: int
    events: tuple[EventView, ...]
    named_steps: int
    steps: tuple[StepView, ...]
    attribution_count: int
    attributions: tuple[Attribution, ...]
    parameters: tuple[ParameterView, ...] = ()
    preference_count: int = 0
    preferences: tuple[PropertyPreferenceAssigned, ...] = ()
    program_count: int = 0
    programs: tuple[RanView, ...] = ()
    artifact_count: int
    artifacts: tuple[ArtifactView, ...]
    molecules: tuple[MoleculeView, ...]
    molecule_note: str = ""
    parent: FlowParent | None = None
    children: tuple[ChildrenView, ...] = ()
    taken_over: tuple[TakenOver, ...] = ()
    branches: BranchTree = BranchTree()
    served: ServedPage | None = None
