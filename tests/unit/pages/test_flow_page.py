"""A flow's page shows the flow's events and artifacts, and states what it leaves out."""

import base64
import importlib.util
import re
import struct
from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID

import pytest

from chem_persistence import (
    Artifact,
    FlowCancelled,
    FlowCompleted,
    FlowEventKind,
    FlowInitialized,
    InMemoryEventStore,
    InvalidArgument,
    PageLimits,
    PropertyPreferenceAssigned,
    RetryScheduled,
    StepError,
    StepFailed,
    StepFinished,
    StepSignal,
    StepStarted,
    StepWaits,
    UserInteractionRequested,
    flow_page,
)
from chem_persistence.errors import ArtifactCorrupt
from chem_persistence.pages.html.vocabulary import ATTRIBUTES, ELEMENTS
from chem_persistence.pages.previews.drawing import draw_molfile, draw_smiles, quiet
from chem_persistence.pages.previews.images import image_size
from chem_persistence.views.wording import duration, short, size_of, stopwatch
from tests.support.flows.sample_flow import FLOW_ID, MOLFILE, SEEN_AT, SetClock, chart, sample_store
from tests.support.pages.read_page import ReadPage, read_page

JPEG = (
    b"\xff\xd8\xff\xe0\x00\x10"
    b"JFIF" + bytes(10) + b"\xff\xc0\x00\x11\x08\x00\x20\x00\x30" + bytes(10)
)


async def page_of(
    store: InMemoryEventStore, flow_id: UUID = FLOW_ID, limits: PageLimits | None = None
) -> ReadPage:
    return read_page(await flow_page(store, flow_id, limits=limits, clock=SetClock(SEEN_AT)))


async def page_with(
    *artifacts: Artifact, outputs: tuple[str, ...] = (), limits: PageLimits | None = None
) -> ReadPage:
    store = InMemoryEventStore()
    hashes = (*(artifact.hash for artifact in artifacts), *outputs)
    kinds: list[FlowEventKind] = [
        FlowInitialized("d", 1),
        StepStarted(0, "a"),
        StepFinished(0, "a", hashes, "f"),
    ]
    await store.append_kinds(FLOW_ID, kinds, artifacts=artifacts)
    return await page_of(store, limits=limits)


def content(data: bytes, media_type: str) -> Artifact:
    return Artifact.from_content(kind="thing", content=data, media_type=media_type)


async def test_a_flow_that_is_not_there_is_refused() -> None:
    with pytest.raises(InvalidArgument, match="the store has no flow"):
        await flow_page(InMemoryEventStore(), FLOW_ID)


async def test_the_same_flow_gives_the_same_page() -> None:
    pages = [
        await flow_page(await sample_store(), FLOW_ID, clock=SetClock(SEEN_AT)) for _ in range(2)
    ]
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    ("until", "said"),
    [
        (
            "end",
            [
                "completed",
                "6 of 6",
                "superseded after 33 s",
                "Answered after 3 d.",
                "Two of four molecules go on.",
            ],
        ),
        (
            "failed",
            [
                "Step embed failed in attempt 2",
                "no seat of the force field is free",
                "3 steps have not begun.",
            ],
        ),
        (
            "asks",
            ["Step choose waits for an answer", "Which of the four molecules", "Not answered yet."],
        ),
    ],
)
async def test_a_page_says_how_its_flow_stands(until: str, said: list[str]) -> None:
    text = (await page_of(await sample_store(until=until))).text()
    assert [words for words in said if words not in text] == []


@pytest.mark.parametrize(
    ("age", "written"),
    [
        (timedelta(minutes=7), "7 min"),
        (timedelta(hours=3), "3 h"),
        (timedelta(days=12), "12 d"),
    ],
)
@pytest.mark.parametrize(
    "more",
    [[], [UserInteractionRequested(0, "weigh", {}, "Which one?")], [StepWaits(0, "weigh", None)]],
)
@pytest.mark.parametrize("last", [FlowCompleted("e" * 64), FlowCancelled("no more")])
async def test_29_a_page_of_a_flow_that_is_not_over_shows_the_time_since_its_last_event(
    age: timedelta, written: str, more: list[FlowEventKind], last: FlowEventKind
) -> None:
    clock = SetClock(SEEN_AT - age)
    store = InMemoryEventStore(clock=clock)
    await store.append_kinds(FLOW_ID, [FlowInitialized("d", 1), StepStarted(0, "weigh"), *more])
    clock.move(age.total_seconds())
    page = read_page(await flow_page(store, FLOW_ID, clock=clock))
    assert f"Since the last event{written}" in page.text()
    await store.append_kind(FLOW_ID, last)
    page = read_page(await flow_page(store, FLOW_ID, clock=clock))
    assert "Since the last event" not in page.text()


async def test_a_page_of_a_flow_that_was_not_initialized_says_what_is_not_known() -> None:
    store = InMemoryEventStore()
    await store.append_kinds(FLOW_ID, [PropertyPreferenceAssigned("pKa", "p1", "a" * 64)])
    page = await page_of(store)
    for said in ("Steps finished0 of ?", "Definitionnot initialized", "No step has begun."):
        assert said in page.text()
    assert "axis" not in {attributes.get("class") for _, attributes in page.elements}
    assert [tag for tag, attributes in page.elements if attributes.get("class") == "lanes"] == []


async def test_a_page_says_until_when_its_flow_waits_and_why_it_was_cancelled() -> None:
    store = InMemoryEventStore()
    waits = StepWaits(0, "dock", SEEN_AT + timedelta(hours=1), {"job": "4711"})
    kinds: list[FlowEventKind] = [FlowInitialized("d", 1), StepStarted(0, "dock"), waits]
    await store.append_kinds(FLOW_ID, kinds)
    waiting = (await page_of(store)).text()
    assert "Step dock waits" in waiting
    assert "until 2026-11-27 10:30:00 UTC" in waiting
    assert "Step waits" in waiting
    await store.append_kind(FLOW_ID, FlowCancelled("no longer needed"))
    cancelled = (await page_of(store)).text()
    assert "The flow was cancelled" in cancelled
    assert "no longer needed" in cancelled
    assert "Step dock waits" not in cancelled


async def test_a_page_says_when_a_failed_step_is_tried_again() -> None:
    store = InMemoryEventStore()
    fails = StepFailed(0, "dock", StepError("builtins.OSError", "no grid"), "f")
    again = RetryScheduled("dock", 1, "no grid", not_before=SEEN_AT + timedelta(hours=1))
    begun: list[FlowEventKind] = [FlowInitialized("d", 1), StepStarted(0, "dock")]
    await store.append_kinds(FLOW_ID, [*begun, fails, again])
    said = "Step dock failed in attempt 1, and is tried again"
    page = (await page_of(store)).text()
    assert said in page
    assert "not before 2026-11-27 10:30:00 UTC: builtins.OSError: no grid" in page
    await store.append_kind(FLOW_ID, StepStarted(0, "dock"))
    assert said not in (await page_of(store)).text()


async def test_a_page_names_all_that_an_artifact_is_to_its_flow() -> None:
    given, also = content(b"given", "text/plain"), content(b"also", "text/plain")
    kinds: list[FlowEventKind] = [
        FlowInitialized("d", 3, given.hash),
        StepFinished(0, "a", (given.hash,), "f"),
        StepFinished(1, "b", (also.hash, given.hash), "f"),
        StepFinished(2, "c", (also.hash, also.hash), "f"),
    ]
    store = InMemoryEventStore()
    await store.append_kinds(FLOW_ID, kinds, artifacts=[given, also])
    text = (await page_of(store)).text()
    assert "input of the flow; output of step a; added by step b, event 0" in text
    assert "output of steps b, c, event 2" in text


async def test_of_one_artifact_of_many_steps_the_first_are_named() -> None:
    thing = content(b"thing", "text/plain")
    kinds: list[FlowEventKind] = [
        StepFinished(step, f"s{step}", (thing.hash,), "f") for step in range(60)
    ]
    store = InMemoryEventStore()
    await store.append_kinds(FLOW_ID, kinds, artifacts=[thing])
    assert ", s48, s49; and more, event 0" in (await page_of(store)).text()


async def test_pages_use_each_element_and_attribute_that_they_may() -> None:
    named = InMemoryEventStore()
    await named.append_kind(FLOW_ID, StepStarted(0, "embed_conformers"))
    pages = [await page_of(store) for store in (await sample_store(), named)]
    elements = [element for page in pages for element in page.elements]
    assert {tag for tag, _ in elements} == {*ELEMENTS, "style", "script"}
    assert {name for _, attributes in elements for name in attributes} == {
        name.lower() for name in ATTRIBUTES
    }


async def test_who_and_why_are_told_by_ranges_of_events() -> None:
    text = (await page_of(await sample_store())).text()
    assert (
        "0 to 128Ada Lovelacescreening run 12"
        "129Grace Hopper, on behalf of Ada Lovelacethe licence was renewed"
    ) in text


async def test_people_above_the_limit_are_counted_by_ranges() -> None:
    store = InMemoryEventStore()
    for number in range(60):
        kinds: list[FlowEventKind] = [StepStarted(0, "a"), StepSignal(0, "a", "s")]
        await store.append_kinds(FLOW_ID, kinds, metadata={"actor": f"person {number}"})
    text = (await page_of(store)).text()
    assert "98 to 99person 49" in text
    assert "10 lines of 60 not shown" in text


async def test_links_lead_to_what_is_on_the_page() -> None:
    page = await page_of(await sample_store())
    links = [str(attributes["href"]) for tag, attributes in page.elements if tag == "a"]
    assert {link.removeprefix("#") for link in links} <= set(page.ids())
    assert len([link for link in links if link.startswith("#artifact-")]) > 8


async def test_events_above_the_limit_are_left_out_of_the_middle_and_counted() -> None:
    page = await page_of(await sample_store(), limits=PageLimits(events=5))
    versions = [
        attributes for tag, attributes in page.elements if tag == "li" and "data-kind" in attributes
    ]
    assert len(versions) == 5
    assert "197 events not shown: a page shows at most 5." in page.text()
    assert "202" in page.text()


async def test_every_limit_says_what_it_left_out() -> None:
    limits = PageLimits(steps=2, attempts=1, signals=1, artifacts=3, molecules=2, text=40, image=10)
    text = (await page_of(await sample_store(), limits=limits)).text()
    for said in (
        "4 steps of 6 not shown",
        "5 artifacts of 8 not shown",
        "Only the first 2 molecules are drawn.",
        "The first 40 of",
        "characters are shown.",
        "above the page's limit",
    ):
        assert said in text
    text = (
        await page_of(await sample_store(), limits=PageLimits(attempts=1, signals=1, image=10))
    ).text()
    for said in (
        "2 attempts of 3 not shown",
        "179 signals of 180 not shown",
        "an image of 240 by 120 pixels is above",
    ):
        assert said in text


async def test_all_payloads_together_have_a_limit() -> None:
    text = (await page_of(await sample_store(), limits=PageLimits(embedded=2_000))).text()
    assert "not shown: the page's limit for all events is reached" in text
    assert "not shown: the page's limit for all artifacts is reached" in text
    assert text.count('"type":') < 20


async def test_a_page_of_a_long_flow_stays_small() -> None:
    store = InMemoryEventStore()
    kinds: list[FlowEventKind] = [FlowInitialized("d", 1), StepStarted(0, "a")]
    await store.append_kinds(
        FLOW_ID, [*kinds, *(StepSignal(0, "a", "s", {"n": n}) for n in range(20_000))]
    )
    html = await flow_page(store, FLOW_ID)
    assert "20,002" in html
    assert len(html) < 5_000_000


async def test_a_missing_artifact_is_shown_as_missing() -> None:
    assert "is not in the store" in (await page_with(outputs=("a" * 64, "no hash"))).text()


async def test_a_corrupt_artifact_is_shown_as_corrupt(monkeypatch: pytest.MonkeyPatch) -> None:
    async def corrupt(_store: InMemoryEventStore, artifact_hash: str) -> Artifact:
        raise ArtifactCorrupt(artifact_hash, "was altered")

    monkeypatch.setattr(InMemoryEventStore, "get_artifact", corrupt)
    assert (
        "is damaged, it does not have its hash: was altered"
        in (await page_with(content(b"a", "text/plain"))).text()
    )


async def test_an_artifact_too_large_to_be_read_whole_is_shown_with_its_size() -> None:
    store = InMemoryEventStore(max_artifact_bytes=1_000)

    async def chunks() -> AsyncIterator[bytes]:
        yield bytes(5_000)

    async with store.transaction() as tx:
        artifact = await tx.put_stream(
            kind="trajectory", chunks=chunks(), media_type="chemical/x-xtc"
        )
        await tx.append_kind(
            FLOW_ID, StepFinished(0, "a", (artifact.hash,), "f"), artifacts=[artifact]
        )
    text = (await page_of(store)).text()
    assert "too large to be read whole" in text
    assert "4.88 KiB" in text


@pytest.mark.parametrize(("media_type", "data"), [("image/png", chart(8, 8)), ("image/jpeg", JPEG)])
async def test_an_image_is_embedded(media_type: str, data: bytes) -> None:
    page = await page_with(content(data, media_type))
    (image,) = [attributes for tag, attributes in page.elements if tag == "img"]
    assert image["src"] == f"data:{media_type};base64,{base64.b64encode(data).decode()}"


@pytest.mark.parametrize(
    ("media_type", "data", "said"),
    [
        ("image/png", b"<script>", "its bytes are not image/png"),
        ("image/png", JPEG, "its bytes are not image/png"),
        ("image/jpeg", chart(8, 8), "its bytes are not image/jpeg"),
        (
            "image/png",
            chart(1, 1)[:16] + struct.pack(">II", 60_000, 60_000) + chart(1, 1)[24:],
            "60,000 by 60,000",
        ),
        ("image/svg+xml", b"<svg onload='x'/>", "<svg onload='x'/>"),
        ("text/html", b"<b>bold</b>", "<b>bold</b>"),
        ("image/gif", b"GIF89a\xff\x00", "binary: it is not shown"),
        ("application/octet-stream", b"a\0b", "binary: it is not shown"),
    ],
)
async def test_what_is_no_safe_image_is_text_or_nothing(
    media_type: str, data: bytes, said: str
) -> None:
    page = await page_with(content(data, media_type))
    assert [tag for tag, _ in page.elements if tag == "img"] == []
    assert said in page.text()


@pytest.mark.parametrize("cut", range(0, len(JPEG), 3))
def test_a_truncated_image_has_its_size_or_is_not_recognised(cut: int) -> None:
    assert image_size("image/jpeg", JPEG[:cut]) in {None, (48, 32)}
    assert image_size("image/png", chart(8, 8)[:cut]) in {None, (8, 8)}


async def test_a_molecule_is_drawn_once_and_names_its_artifacts() -> None:
    page = await page_of(await sample_store())
    labels = [
        attributes["aria-label"]
        for tag, attributes in page.elements
        if tag == "svg" and "role" in attributes
    ]
    assert labels == [
        f"Structure of {name}"
        for name in ("aspirin", "ibuprofen", "celecoxib", "clopidogrel", "bromhexine", "tenofovir")
    ]


async def test_without_rdkit_a_page_says_how_to_get_molecules(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _name: None)
    text = (await page_of(await sample_store())).text()
    assert "pip install 'chem-persistence[chem]'" in text
    assert "CC(=O)Oc1ccccc1C(=O)O" in text


@pytest.mark.parametrize(
    "smiles", ["C(", "", "C" * 400, "c1ccccc1" * 20_000, "<svg>", "C(C)(C)(C)(C)C"]
)
def test_what_is_no_molecule_is_not_drawn(smiles: str, capfd: pytest.CaptureFixture[str]) -> None:
    with quiet():
        assert draw_smiles(smiles, "") is None
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "smiles",
    ["[CH3]", "C~C", "C->[Pt]", "[2H]C", "C/C=C/C", "C[C@H](F)Cl", "[Na+].[Cl-]", "*C", "[U]"],
)
def test_a_molecule_is_lines_and_areas_alone(smiles: str) -> None:
    molecule = draw_smiles(smiles, "")
    assert molecule is not None
    assert all(set(ink.path) <= set("MLCQZ0123456789eE., -") for ink in molecule.inks)


def test_a_conformer_is_drawn_flat_under_its_own_name() -> None:
    molecule = draw_molfile(MOLFILE, "")
    assert molecule is not None
    assert (molecule.smiles, molecule.label, molecule.formula) == (
        "CC(=O)Oc1ccccc1C(=O)O",
        "aspirin",
        "C9H8O4",
    )


@pytest.mark.parametrize(
    ("seconds", "written", "running"),
    [
        (0, "0 ms", "00:00:00.000"),
        (0.0123, "12.3 ms", "00:00:00.012"),
        (0.9996, "1 s", "00:00:01.000"),
        (1.234, "1.23 s", "00:00:01.234"),
        (59.96, "1 min", "00:00:59.960"),
        (65, "1 min 5 s", "00:01:05.000"),
        (3_600, "1 h", "01:00:00.000"),
        (86_399, "23 h 59 min", "23:59:59.000"),
        (266_400, "3 d 2 h", "3 d 02:00:00.000"),
        (-5, "\u22125 s", "\u221200:00:05.000"),
    ],
)
def test_a_time_span_is_written_for_a_person_and_for_a_column(
    seconds: float, written: str, running: str
) -> None:
    assert duration(timedelta(seconds=seconds)) == written
    assert stopwatch(timedelta(seconds=seconds)) == running


def test_sizes_and_long_names_are_short() -> None:
    assert [size_of(size) for size in (1, 1_023, 1_024, 12_700, 2**30)] == [
        "1 B", "1,023 B", "1 KiB", "12.4 KiB", "1 GiB",
    ]  # fmt: skip
    assert short("a" * 200, 5) == "aaaa\u2026"


@pytest.mark.parametrize(
    "name",
    ["compute_conformers_with_mmff94", "optimize-geometry.with:xtb", "a_b__c", "_", "x" * 60],
)
async def test_a_long_step_name_breaks_after_its_separators(name: str) -> None:
    store = InMemoryEventStore()
    await store.append_kind(FLOW_ID, StepStarted(0, name))
    html = await flow_page(store, FLOW_ID)
    (lane,) = re.findall(r'<span class="lane-name">.*?<strong>(.*?)</strong>', html)
    assert lane.replace("<wbr>", "") == name
    words = [word for word in re.split(r"[^A-Za-z0-9]+", name) if word]
    assert all(word in lane for word in words), "no break inside a word"
    assert lane.count("<wbr>") >= len(words) - 1
    assert ('class="long-names"' in html) is (len(name) > 18)


@pytest.mark.parametrize("field", ["geometry", "list", "text"])
async def test_a_hash_in_a_payload_is_a_link_to_its_card(field: str) -> None:
    store = InMemoryEventStore()
    shown = Artifact.from_payload(kind="Geometry", payload={"n": 1})
    other = "0" * 64
    data = {
        "geometry": {"geometry": shown.hash, "other": other},
        "list": [other, shown.hash],
        "text": f"see {shown.hash}, not {other} and not a{shown.hash}",
    }[field]
    naming = Artifact.from_payload(kind="Conformer", payload=data)
    signal = StepSignal(0, "embed", "energy", data)
    await store.append_kind(FLOW_ID, signal, artifacts=[shown], metadata={"about": shown.hash})
    finished = StepFinished(0, "embed", (naming.hash,), "f" * 64)
    await store.append_kind(FLOW_ID, finished, artifacts=[naming])
    html = await flow_page(store, FLOW_ID)
    blocks = re.findall(r"<pre>(.*?)</pre>", html, re.DOTALL)
    link = f'<a href="#artifact-{shown.hash}">{shown.hash}</a>'
    assert sum(block.count(link) for block in blocks) == 3, "payload, metadata, other artifact"
    assert f"#artifact-{other}" not in html
    assert {f"artifact-{shown.hash}", f"artifact-{naming.hash}"} <= set(read_page(html).ids())
