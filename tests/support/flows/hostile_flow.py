"""A flow in which every text that a caller chooses attacks a page that would show it."""

from uuid import UUID

from chem_persistence import (
    Artifact,
    BranchCreated,
    FlowCompleted,
    FlowEventKind,
    FlowInitialized,
    InMemoryEventStore,
    PropertyPreferenceAssigned,
    RetryScheduled,
    StepError,
    StepFailed,
    StepFinished,
    StepSignal,
    StepStarted,
    UserInteractionProvided,
    UserInteractionRequested,
)
from tests.support.flows.sample_flow import SetClock, chart

__all__ = [
    "CANARY",
    "HOSTILE_FLOW_ID",
    "PLANTED",
    "hostile_artifacts",
    "hostile_kinds",
    "hostile_store",
    "planted",
]

HOSTILE_FLOW_ID = UUID(int=0xBAD)
CANARY = "zq9canary"
"""Part of every planted text: a page that has it as anything but text let the text through."""

PLANTED = (
    "</script><script>document.title='zq9canary'; fetch('URL/script')</script>",
    (
        "</style></title></textarea></pre>"
        "<img src='URL/img?zq9canary' onerror=\"document.title='zq9canary'\">"
    ),
    "\"><svg onload=\"document.title='zq9canary'\"><use href='URL/use#zq9canary'/></svg>",
    "' onmouseover='zq9canary' autofocus onfocus='document.title=1' zq9canary='",
    "--><!-- zq9canary --><![CDATA[<b>zq9canary</b>]]><?zq9canary ?>",
    "<meta http-equiv='refresh' content='0;url=URL/meta?zq9canary'><base href='URL/zq9canary/'>",
    (
        "<link rel='stylesheet' href='URL/css?zq9canary'><link rel='preconnect' href='URL'>"
        "<style>@import 'URL/zq9canary'</style>"
    ),
    "<iframe srcdoc='<script>parent.document.title=1</script>zq9canary' src='URL/frame'></iframe>",
    (
        "<form action='URL/zq9canary'><input autofocus name=zq9canary></form>"
        "<object data='URL/object'></object>"
    ),
    "<details open ontoggle=\"document.title='zq9canary'\"><zq9canary zq9canary>",
    "javascript:document.title='zq9canary'//&#x22;&quot;&lt;zq9canary&gt;",
    "zq9canary\u202egnp.exe\u2066\u200b\ufeff\x1b[31m\x7f\r\n\u2028{{7*7}}${7*7}<%= 7*7 %>",
    "zq9canary" + "W" * 5_000,
)
"""Hostile texts; `URL` is replaced by the address that planted requests would reach."""


def planted(url: str) -> list[str]:
    """Return the texts with the URL of a server that counts requests."""
    return [text.replace("URL", url) for text in PLANTED]


def hostile_kinds(text: str, outputs: tuple[str, ...]) -> list[FlowEventKind]:
    """Return an event of each kind, with the text in every field that takes one."""
    data = {text: [text, {"name": text, "smiles": text}], "smiles": [text], "name": text}
    return [
        FlowInitialized(text, 4, text),
        StepStarted(0, text),
        StepSignal(0, text, text, data),
        PropertyPreferenceAssigned(text, text, text, data),
        StepFailed(0, text, StepError(text, text, text), text),
        RetryScheduled(text, 1, text),
        StepStarted(0, text),
        StepFinished(0, text, (*outputs, text), text),
        BranchCreated(UUID(int=1), UUID(int=2), UUID(int=3), text, text),
        StepStarted(1, text),
        UserInteractionRequested(1, text, data, text),
        UserInteractionProvided(1, text, data),
        StepStarted(1, text),
        FlowCompleted(text),
    ]


def hostile_artifacts(text: str) -> list[Artifact]:
    """Return an artifact for each preview, and some that only claim to be an image."""
    metadata = {text: text}
    data = {
        text: text,
        "molecules": [{"name": text, "smiles": "CCO"}, {"name": text, "smiles": text}],
    }
    molfile = (
        f"{text.splitlines()[0]}\n  {text}\n\n  0  0  0  0  0  0  0  0  0  0999 V2000\nM  END\n"
    )
    media_types = (
        "text/html",
        "image/svg+xml",
        "image/png",
        "image/jpeg",
        "chemical/x-mdl-molfile",
        text,
    )
    page = f"<!doctype html><body>{text}<script>document.title='{CANARY}'</script>"
    return [
        Artifact.from_payload(kind=text, payload=data, metadata=metadata),
        Artifact.from_content(
            kind=text, content=chart(), media_type="image/png", metadata=metadata
        ),
        Artifact.from_content(
            kind=text, content=molfile.encode(), media_type="chemical/x-mdl-molfile"
        ),
        *(
            Artifact.from_content(
                kind=text,
                content=f"{page}{number}".encode(),
                media_type=media_type,
                metadata=metadata,
            )
            for number, media_type in enumerate(media_types)
        ),
    ]


async def hostile_store(*texts: str) -> InMemoryEventStore:
    """Return a store with one flow that contains these texts everywhere."""
    clock = SetClock()
    store = InMemoryEventStore(clock=clock)
    for text in texts:
        artifacts = hostile_artifacts(text)
        for kind in hostile_kinds(text, tuple(artifact.hash for artifact in artifacts)):
            clock.move(1)
            brought = artifacts if isinstance(kind, StepFinished) else []
            metadata = {"actor": text, "on_behalf_of": [text], "reason": text, text: text}
            await store.append_kind(HOSTILE_FLOW_ID, kind, artifacts=brought, metadata=metadata)
    return store
