"""A bundle is verified to the last byte, by the library and by the program that it carries."""

import hashlib
import json
import random
import subprocess
import sys
import zipfile
from itertools import pairwise
from pathlib import Path
from uuid import UUID

import pytest

from chem_persistence import Anchor, BundleFinding, export_flows, verify_bundle
from chem_persistence.bundles.verify import central_header, end_record, read_entries
from chem_persistence.store.transfer.anchors import writing_anchors
from tests.support.bundles import (
    EVENTS,
    LARGE,
    SMALL_FLOW,
    archived,
    exported,
    rewritten,
    small_store,
    stored_events,
)


@pytest.fixture
async def bundle(tmp_path: Path) -> Path:
    await exported(await small_store(), tmp_path / "run.zip")
    return tmp_path / "run.zip"


def findings(bundle: Path, content: bytes) -> tuple[BundleFinding, ...]:
    """Return what is found in other bytes."""
    changed = bundle.with_name("changed.zip")
    changed.write_bytes(content)
    return verify_bundle(changed).findings


def test_a_bundle_is_sound_and_any_zip_program_reads_it(bundle: Path) -> None:
    report = verify_bundle(bundle)
    assert (report.flows, report.events, report.artifacts, report.findings) == (1, 5, 1, ())
    assert report.sha256 == hashlib.sha256(bundle.read_bytes()).hexdigest()
    with zipfile.ZipFile(bundle) as archive:
        assert archive.testzip() is None
        names = archive.namelist()
    assert names == sorted(names)
    assert rewritten(bundle, manifest=lambda same: same) == bundle.read_bytes()


def test_each_flipped_byte_is_named_by_its_file_and_place(bundle: Path) -> None:
    content = bundle.read_bytes()
    with bundle.open("rb") as file:
        entries = read_entries(file)
    for entry in entries:
        edges = (0, 1, entry.size // 3, entry.size // 2, entry.size - 2, entry.size - 1)
        for at in edges:
            changed = bytearray(content)
            changed[entry.offset + at] ^= 1 << at % 8
            first = findings(bundle, bytes(changed))[0]
            assert (first.file, first.place.endswith(f"byte {at}")) == (entry.name, True)
    headers = {
        *range(entries[0].offset),
        *range(entries[-1].offset + entries[-1].size, len(content)),
    }
    chosen = random.Random(1).sample(sorted(headers), 250)
    for at in [*chosen, *range(len(content) - 22, len(content))]:
        changed = bytearray(content)
        changed[at] ^= 0x80
        (finding,) = findings(bundle, bytes(changed))
        assert "byte" in finding.place


def test_a_byte_that_is_missing_or_too_many_is_found(bundle: Path) -> None:
    content = bundle.read_bytes()
    for cut in (0, 1, 21, 22, len(content) // 2, len(content) - 1):
        assert findings(bundle, content[:cut]) != ()
    for longer in (content + b"\n", b"\n" + content, content + content):
        assert findings(bundle, longer) != ()


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        ({"/etc/passwd": b""}, "leads out of the folder"),
        ({"flows/../../x": b""}, "leads out of the folder"),
        ({"C:\\x": b""}, "leads out of the folder"),
        ({"ro-crate-metadata.json": b"{}"}, "is missing"),
        ({"data.csv": b"1,2"}, "another program's"),
        ({"manifest.json": b"{}", "run/x": b""}, "another program's"),
    ],
)
def test_the_archive_of_another_program_is_refused(
    tmp_path: Path, contents: dict[str, bytes], reason: str
) -> None:
    assert reason in findings(tmp_path / "x", archived(contents))[0].reason


def test_compressed_encrypted_and_larger_archives_are_refused(bundle: Path) -> None:
    bomb = archived({"artifacts.jsonl": b"\0" * 10_000_000}, zipfile.ZIP_DEFLATED)
    assert "is compressed" in findings(bundle, bomb)[0].reason
    with bundle.open("rb") as file:
        entries = read_entries(file)
    last = entries[-1]
    before = bundle.read_bytes()[: last.offset + last.size]
    directory = b"".join(map(central_header, entries))

    def ended(changed: bytes, count: int = len(entries)) -> bytes:
        return before + changed + end_record(count, len(changed), len(before))

    encrypted = directory[:8] + b"\1" + directory[9:]
    twice = directory[: -len(central_header(last))] + central_header(entries[-2])
    assert "is encrypted" in findings(bundle, ended(encrypted))[0].reason
    assert "is there twice" in findings(bundle, ended(twice))[0].reason
    needless = ended(directory, 2**16 - 1)[:-22] + ended(directory)[-22:]
    (finding,) = findings(bundle, needless)
    assert "not where the end record says" in finding.reason
    (finding,) = findings(bundle, before + directory + b"PK\5\6" + b"\xff" * 16 + b"\0\0")
    assert "the records of ZIP64" in finding.reason


@pytest.mark.slow
async def test_large_files_and_many_need_zip64_and_are_verified_to_the_last_byte(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With smaller limits: as if a number had but twelve bits, and a count two."""
    store = await small_store(artifacts=(LARGE,))
    await exported(store, tmp_path / "usual.zip")
    monkeypatch.setattr("chem_persistence.bundles.verify.LARGEST", 2**12)
    monkeypatch.setattr("chem_persistence.bundles.verify.MOST_ENTRIES", 3)
    bundle = tmp_path / "run.zip"
    content = await exported(store, bundle)
    assert content[-98:-94] == b"PK\6\6"
    assert verify_bundle(bundle).findings == ()
    with zipfile.ZipFile(bundle) as archive, zipfile.ZipFile(tmp_path / "usual.zip") as usual:
        assert archive.testzip() is None
        contents = {name: archive.read(name) for name in archive.namelist()}
        assert contents == {name: usual.read(name) for name in usual.namelist()}
    with bundle.open("rb") as file:
        entries = read_entries(file)
    large = [entry for entry in entries if entry.size > 2**12]
    assert 0 < len(large) < len(entries)
    end = entries[-1].offset + entries[-1].size
    headers = {
        at
        for before, after in pairwise(entries)
        for at in range(before.offset + before.size, after.offset)
    }
    for at in sorted({*headers, *range(end, len(content))}):
        changed = bytearray(content)
        changed[at] ^= 0x81
        (finding,) = findings(bundle, bytes(changed))
        assert "byte" in finding.place
    for cut in (22, 42, 98, 99):
        assert findings(bundle, content[:-cut]) != ()
    assert findings(bundle, content[:-98] + content[-22:]) != ()


async def test_events_that_were_chained_anew_break_the_chain_or_its_end(bundle: Path) -> None:
    def without_second(events: bytes) -> bytes:
        lines = events.splitlines(keepends=True)
        return b"".join(lines[:1] + lines[2:])

    def other_reason(events: bytes) -> bytes:
        return events.replace(b"tried", b"cried")

    def shorter(events: bytes) -> bytes:
        return b"".join(events.splitlines(keepends=True)[:-1])

    cases = [(without_second, "line 2"), (other_reason, "line 2"), (lambda _: b"{}\n", "line 1")]
    for change, place in cases:
        first = findings(bundle, rewritten(bundle, events=change))[0]
        assert (first.file, first.place[: len(place)]) == (EVENTS, place)
    (end,) = findings(bundle, rewritten(bundle, events=shorter))
    assert (end.file, end.place) == ("manifest.json", f"flow {SMALL_FLOW}")


def test_an_artifact_that_an_event_names_has_to_be_there(bundle: Path) -> None:
    found = findings(bundle, rewritten(bundle, artifacts=lambda _: b""))
    assert [finding.file.split("/")[0] for finding in found] == ["artifacts", "flows"]
    assert "names the artifact" in found[1].reason


@pytest.mark.parametrize(
    ("users", "place", "reason"),
    [
        ([], "line 1", "its users are not flows in order"),
        (None, "line 1", "its users are not flows in order"),
        ([str(SMALL_FLOW), str(SMALL_FLOW)], "line 1", "its users are not flows in order"),
        ([7], "line 1", "its users are not flows in order"),
        ([str(UUID(int=7))], "line 1", "names a user that is not there"),
    ],
)
def test_the_users_of_an_artifact_are_flows_of_the_bundle(
    bundle: Path, users: object, place: str, reason: str
) -> None:
    def with_users(lines: bytes) -> bytes:
        first, rest = lines.split(b"\n", 1)
        line = json.loads(first)
        version = line.pop("version")
        named = json.dumps(line | {"users": users, "version": version}).encode()
        return named + b"\n" + rest

    found = findings(bundle, rewritten(bundle, artifacts=with_users))[0]
    assert (found.file, found.place, found.reason) == ("artifacts.jsonl", place, reason)


async def test_anchors_are_compared_with_the_flows(tmp_path: Path) -> None:
    store = await small_store(artifacts=(LARGE,))
    events = await stored_events(store)
    other = "0" * 64
    for name, version, link in (
        ("same", 3, events[2].link.hex()),
        ("other", 3, other),
        ("long", 9, other),
    ):
        with writing_anchors(tmp_path / name, events[0].ts) as writer:
            writer.write(Anchor(SMALL_FLOW, version, link))
    path = tmp_path / "run.zip"
    report = await export_flows(store, [SMALL_FLOW], path, anchors=tmp_path / "same")
    assert report.findings == ()
    for name, reason in (("other", "is not the event of the anchor"), ("long", "had 9")):
        anchors = (tmp_path / name).read_bytes()
        (finding,) = findings(path, rewritten(path, anchors=lambda _, given=anchors: given))
        assert (finding.file, reason in finding.reason) == (EVENTS, True)
    (finding,) = findings(path, rewritten(path, anchors=lambda given: given + b"{}\n"))
    assert finding.file == "anchors.jsonl"


def test_the_program_in_the_bundle_needs_nothing_but_python(bundle: Path) -> None:
    with zipfile.ZipFile(bundle) as archive:
        archive.extract("verify.py", bundle.parent)
    bad = bundle.with_name("bad.zip")
    bad.write_bytes(bundle.read_bytes().replace(b"tried", b"cried"))

    def verified(path: Path) -> subprocess.CompletedProcess[str]:
        program = [sys.executable, "-I", "-S", "verify.py", str(path)]
        return subprocess.run(
            program, cwd=bundle.parent, capture_output=True, text=True, check=False
        )

    sound, changed, missing = map(verified, (bundle, bad, bundle.with_name("none.zip")))
    assert (sound.returncode, sound.stdout.splitlines()[-1]) == (0, "clean")
    assert changed.returncode == 1
    assert f"\n{EVENTS}: line 2, version 1: breaks the hash chain\n" in changed.stdout
    assert (missing.returncode, missing.stdout) == (2, "")


@pytest.mark.slow
def test_every_thirty_first_byte_is_found_when_it_is_flipped(bundle: Path) -> None:
    content = bundle.read_bytes()
    for at in range(0, len(content), 31):
        changed = bytearray(content)
        changed[at] ^= 1 << at % 8
        assert findings(bundle, bytes(changed))[0].place, f"byte {at}"
