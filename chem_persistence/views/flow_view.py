"""What a page shows of a flow: plain values, gathered before a letter of HTML is written."""

from datetime import datetime
from enum import StrEnum
from uuid import UUID

import msgspec

from chem_persistence.domain.answers import FlowState
from chem_persistence.domain.events import StepError

__all__ = [
    "ArtifactView",
    "AttemptOutcome",
    "AttemptView",
    "Attribution",
    "EventView",
    "FlowView",
    "ImagePreview",
    "Ink",
    "MoleculeView",
    "NoPreview",
    "Preview",
    "StepView",
    "TextPreview",
]


class AttemptOutcome(StrEnum):
    """How an attempt at a step ended."""

    FINISHED = "finished"
    FAILED = "failed"
    ASKED = "asked a person"
    INTERRUPTED = "interrupted"
    OPEN = "not ended"


class AttemptView(msgspec.Struct, frozen=True, kw_only=True):
    """One attempt: `number` counts from 1; without `ended` it is open.

    An interrupted one ended, at the latest, when the next began; `last_sign` is its last signal. `question` is what it asked a person, who `answered` then.
    """

    number: int
    began: datetime
    ended: datetime | None
    outcome: AttemptOutcome
    last_sign: datetime | None = None
    error: StepError | None = None
    question: str | None = None
    answered: datetime | None = None


class StepView(msgspec.Struct, frozen=True, kw_only=True):
    """A step that an event names: its latest attempts and the times of its first signals, with the true counts."""

    index: int
    id: str
    attempt_count: int
    attempts: tuple[AttemptView, ...]
    signal_count: int
    signals: tuple[datetime, ...]
    retry_count: int


class TextPreview(msgspec.Struct, frozen=True):
    """The beginning of a text, or all of it; `characters` is how many it has, or None if that is not known."""

    text: str
    characters: int | None = None


class ImagePreview(msgspec.Struct, frozen=True):
    """A PNG or JPEG image, whose bytes begin as such an image does."""

    media_type: str
    content: bytes
    width: int
    height: int


class NoPreview(msgspec.Struct, frozen=True):
    """Why nothing is shown; `alarming` says that something is wrong with it."""

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
    """Who appended the events from `first` to `last`, and why."""

    who: str
    why: str
    first: int
    last: int


class ArtifactView(msgspec.Struct, frozen=True, kw_only=True):
    """An artifact that an event names first at `version`; `role` is all that it is to the flow."""

    hash: str
    version: int
    role: str
    kind: str
    media_type: str
    size: int | None
    metadata: TextPreview | None
    preview: Preview


class Ink(msgspec.Struct, frozen=True):
    """Lines or areas of one colour, as the path data of SVG 2 (9.3); `colour` is an element's name or `carbon`."""

    colour: str
    path: str
    filled: bool = False
    dashed: bool = False
    thin: bool = False


class MoleculeView(msgspec.Struct, frozen=True, kw_only=True):
    """A molecule drawn in `inks`, `width` by `height`.

    The canonical `smiles` names it, `label` is what its artifact calls it; `sources` are the hashes of the artifacts
    that hold it.
    """

    smiles: str
    label: str
    formula: str
    width: int
    height: int
    inks: tuple[Ink, ...]
    sources: tuple[str, ...] = ()


class FlowView(msgspec.Struct, frozen=True, kw_only=True):
    """A flow after its last event, seen at `seen_at`; what is longer than a limit comes with the true count."""

    flow_id: UUID
    state: FlowState
    began: datetime
    last_at: datetime
    seen_at: datetime
    definition_hash: str | None
    step_count: int | None
    flow_fingerprint: str | None
    head: str
    event_count: int
    events: tuple[EventView, ...]
    named_steps: int
    steps: tuple[StepView, ...]
    attribution_count: int
    attributions: tuple[Attribution, ...]
    artifact_count: int
    artifacts: tuple[ArtifactView, ...]
    molecules: tuple[MoleculeView, ...]
    molecule_note: str = ""
