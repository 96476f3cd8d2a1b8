"""Verify a bundle of flows with nothing but the standard library of Python 3.8 or later.

Each bundle has a copy of this file: `python3 -I verify.py run.zip` prints what was changed, by file
and place, and needs neither the library nor a database. Exit code 0: nothing was changed; 1:
something was; 2: the file cannot be read, or none was named.

A bundle is a ZIP archive (APPNOTE.TXT 6.3.10) with one rendering: entries sorted by name, stored,
of 1980-01-01, without comments or gaps; ZIP64 where a number needs it, and no other extra field. So
each of its bytes is known or checked. The format is described in
documentation/reference/bundles.md.
"""

from __future__ import annotations

import hashlib
import json
import os.path
import re
import struct
import sys
import zlib
from pathlib import Path
from typing import (  # noqa: UP035  # Python 3.8
    Any,
    BinaryIO,
    Callable,
    Iterator,
    Mapping,
    NamedTuple,
    NoReturn,
)

__all__ = [
    "FORMAT",
    "BundleFinding",
    "BundleReport",
    "Entry",
    "Unsound",
    "central_header",
    "chunks_of",
    "end_record",
    "is_bundle_name",
    "lines_of",
    "local_header",
    "main",
    "read_entries",
    "verify_bundle",
]

FORMAT = "chem_persistence bundle 1"
GENESIS = bytes(32)

_LOCAL, _CENTRAL = struct.Struct("<4s5H3L2H"), struct.Struct("<4s6H3L5H2L")
_END, _END64, _LOCATOR64 = map(struct.Struct, ("<4s4H2LH", "<4sQ2H2L4Q", "<4sLQL"))
_VERSION, _VERSION64, _SYSTEM = 20, 45, 3 << 8
_DATE = 1 << 5 | 1  # 1980-01-01
_MODE = 0o100644 << 16
_END_SIGNATURE, _END64_SIGNATURE = b"PK\5\6", b"PK\6\6"
_ELSEWHERE = 2**32 - 1
LARGEST = 2**32 - 2
"""A greater size or offset needs ZIP64."""

MOST_ENTRIES = 2**16 - 2
"""More files need ZIP64."""

CHUNK = 2**20
LONGEST_LINE = 64 * 2**20
LARGEST_JSON = 2**30
LARGEST_SEARCHED = 2**24

_UUID = "[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_NAME = re.compile(
    r"anchors\.jsonl|artifacts\.jsonl|artifacts/[0-9a-f]{64}|definitions/[0-9a-f]{64}\.json"
    rf"|flows/{_UUID}/(?:events\.jsonl|page\.html)"
    r"|manifest\.json|ro-crate-metadata\.json|verify\.py"
)
_NEEDED = ("artifacts.jsonl", "manifest.json", "ro-crate-metadata.json", "verify.py")
_EVENT = re.compile(
    rb'(\{"event_id":"%b","flow_id":"(%b)",)"link":"([0-9a-f]{64})",("metadata":.*)'
    % (_UUID.encode(), _UUID.encode()),
    re.DOTALL,
)
_EVENT_KEYS = ["event_id", "flow_id", "link", "metadata", "payload", "ts", "version"]
_ARTIFACT_KEYS = ["file", "flow_id", "hash", "is_json", "kind", "media_type", "metadata", "version"]
_SHARED_ARTIFACT_KEYS = [*_ARTIFACT_KEYS[:-1], "users", "version"]
_DIGITS = re.compile("[0-9a-f]{64}")


class BundleFinding(NamedTuple):
    """What is wrong at one place of a file in a bundle; `file` is "" for the archive itself."""

    file: str
    place: str
    reason: str

    def __str__(self) -> str:
        """Return the finding as a line."""
        return ": ".join(part for part in self if part)


class BundleReport(NamedTuple):
    """What a bundle has, its own SHA-256, and what is wrong with it: sound if nothing is."""

    flows: int
    events: int
    artifacts: int
    sha256: str
    findings: tuple[BundleFinding, ...]


class Entry(NamedTuple):
    """A file in the archive: its content has `size` bytes from `offset` on."""

    name: str
    crc: int
    size: int
    offset: int


class Unsound(Exception):
    """The bundle is not one, or was changed; `finding` says where and why."""

    def __init__(self, file: str, place: str, reason: str) -> None:
        self.finding = BundleFinding(file, place, reason)
        super().__init__(str(self.finding))


# ---- the archive


def is_bundle_name(name: str) -> bool:
    """Return whether a file of this name belongs into a bundle."""
    return _NAME.fullmatch(name) is not None


def local_header(name: str, crc: int, size: int) -> bytes:
    """Return the header before the content of a file (APPNOTE.TXT, 4.3.7)."""
    extra = _extra(size, size)
    version = _VERSION64 if extra else _VERSION
    sizes = (_short(size), _short(size), len(name), len(extra))
    fixed = (b"PK\3\4", version, 0, 0, 0, _DATE, crc, *sizes)
    return _LOCAL.pack(*fixed) + name.encode("ascii") + extra


def central_header(entry: Entry) -> bytes:
    """Return the header of a file in the central directory (4.3.12)."""
    name, size = entry.name, entry.size
    start = entry.offset - len(local_header(name, entry.crc, size))
    extra = _extra(size, size, start)
    version = _VERSION64 if extra else _VERSION
    fixed = (b"PK\1\2", _SYSTEM | version, version, 0, 0, 0, _DATE, entry.crc)
    sizes = (_short(size), _short(size), len(name), len(extra))
    rest = (0, 0, 0, _MODE, _short(start))
    return _CENTRAL.pack(*fixed, *sizes, *rest) + name.encode("ascii") + extra


def end_record(count: int, size: int, offset: int) -> bytes:
    """Return the end record: `count` headers with `size` bytes begin at `offset` (4.3.14 to 16)."""
    files = count if count <= MOST_ENTRIES else 2**16 - 1
    end = _END.pack(_END_SIGNATURE, 0, 0, files, files, _short(size), _short(offset), 0)
    if count <= MOST_ENTRIES and max(size, offset) <= LARGEST:
        return end
    versions, numbers = (_SYSTEM | _VERSION64, _VERSION64), (count, count, size, offset)
    record = _END64.pack(_END64_SIGNATURE, _END64.size - 12, *versions, 0, 0, *numbers)
    return record + _LOCATOR64.pack(b"PK\6\7", 0, offset + size, 1) + end


def _short(number: int) -> int:
    """Return a number as four bytes have it, or the one that says that an extra field has it."""
    return number if number <= LARGEST else _ELSEWHERE


def _extra(*numbers: int) -> bytes:
    """Return the ZIP64 field of those numbers that are too large for four bytes (4.5.3)."""
    large = [number for number in numbers if number > LARGEST]
    return struct.pack(f"<2H{len(large)}Q", 1, 8 * len(large), *large) if large else b""


def _from_extra(extra: bytes, *numbers: int) -> Iterator[int]:
    """Yield numbers; those that are too large for four bytes from the ZIP64 field."""
    at = 4
    for number in numbers:
        if number > LARGEST and len(extra) >= at + 8:
            yield struct.unpack_from("<Q", extra, at)[0]
            at += 8
        else:
            yield number


def read_entries(file: BinaryIO) -> list[Entry]:
    """Return the files of the archive in their order, after checking each byte between them."""
    count, size, start = _read_end(file)
    file.seek(start)
    directory, at, next_local = file.read(size), 0, 0
    entries: list[Entry] = []
    for _ in range(count):
        place = f"byte {start + at}"
        if directory[at : at + 4] != b"PK\1\2" or len(directory) < at + _CENTRAL.size:
            raise Unsound("", place, "is not a header of the central directory")
        entry = _entry(directory, at, place)
        if entries and entry.name <= entries[-1].name:
            reason = "is there twice" if entry.name == entries[-1].name else "is out of order"
            raise Unsound(entry.name, place, reason)
        expected = central_header(entry)
        _compare(entry.name, directory[at : at + len(expected)], expected, start + at)
        local = local_header(entry.name, entry.crc, entry.size)
        if entry.offset != next_local + len(local) or entry.offset + entry.size > start:
            raise Unsound(entry.name, place, "does not begin where the file before it ends")
        file.seek(next_local)
        _compare(entry.name, file.read(len(local)), local, next_local)
        at, next_local = at + len(expected), entry.offset + entry.size
        entries.append(entry)
    if at != size or next_local != start:
        raise Unsound("", f"byte {start + at}", "bytes that belong to no file")
    return entries


def _read_end(file: BinaryIO) -> tuple[int, int, int]:
    """Return the number of files, and the size and the offset of the central directory."""
    length = file.seek(0, 2)
    file.seek(max(0, length - _END.size - 2**16))
    tail = file.read()
    found = tail.rfind(_END_SIGNATURE)
    if found < 0 or len(tail) - found < _END.size:
        raise Unsound("", f"byte {length}", "is no ZIP archive, or was truncated: no end record")
    end = length - len(tail) + found
    if end + _END.size != length:
        raise Unsound("", f"byte {end + _END.size}", "bytes follow the end of the archive")
    count, size, start = _END.unpack(tail[found:])[4:7]
    if count > MOST_ENTRIES or max(size, start) > LARGEST:
        found -= _LOCATOR64.size + _END64.size
        if found < 0 or tail[found : found + 4] != _END64_SIGNATURE:
            raise Unsound("", f"byte {end}", "the records of ZIP64 are not before the end record")
        count, size, start = _END64.unpack_from(tail, found)[7:10]
    begin = length - len(tail) + found
    if start + size != begin:
        raise Unsound("", f"byte {end}", "the central directory is not where the end record says")
    _compare("", tail[found:], end_record(count, size, start), begin)
    return count, size, start


def _entry(directory: bytes, at: int, place: str) -> Entry:
    fields = _CENTRAL.unpack_from(directory, at)
    flags, method, crc, packed, size, length, more = (fields[i] for i in (3, 4, 7, 8, 9, 10, 11))
    begin = at + _CENTRAL.size
    end = begin + length
    raw, extra = directory[begin:end], directory[end : end + more]
    name = raw.decode("ascii", "backslashreplace")
    if name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name) or ":" in name:
        raise Unsound(name, place, "has a name that leads out of the folder")
    if flags & 1:
        raise Unsound(name, place, "is encrypted")
    if method:
        raise Unsound(name, place, f"is compressed (method {method}), which could hide its size")
    if not is_bundle_name(name):
        raise Unsound(name, place, "is no file of a bundle: the archive is another program's")
    size, _, start = _from_extra(extra, size, packed, fields[16])
    return Entry(name, crc, size, start + len(local_header(name, crc, size)))


def _compare(name: str, found: bytes, expected: bytes, start: int) -> None:
    if found != expected:
        place = start + len(os.path.commonprefix([found, expected]))  # noqa: RUF071
        raise Unsound(name, f"byte {place}", "the header is not the one that a bundle has here")


# ---- the contents


def chunks_of(file: BinaryIO, entry: Entry) -> Iterator[bytes]:
    """Yield the content of a file of the archive in pieces."""
    file.seek(entry.offset)
    left = entry.size
    while left:
        chunk = file.read(min(left, CHUNK))
        if not chunk:
            raise Unsound(entry.name, f"byte {entry.size - left}", "ends too early")
        left -= len(chunk)
        yield chunk


def lines_of(file: BinaryIO, entry: Entry) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a file of the archive, with their numbers from 1."""
    number, rest, offset = 0, b"", entry.offset
    for chunk in chunks_of(file, entry):
        *lines, rest = (rest + chunk).split(b"\n")
        offset = file.tell()
        for line in lines:
            number += 1
            yield number, line
        if len(rest) > LONGEST_LINE:
            raise Unsound(entry.name, f"line {number + 1}", f"has over {LONGEST_LINE} bytes")
        file.seek(offset)
    if rest:
        raise Unsound(entry.name, f"line {number + 1}", "does not end with a line break")


def _json(file: str, place: str, text: bytes) -> Any:
    def members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a key is there twice")
        return dict(pairs)

    def refuse(name: str) -> NoReturn:
        raise ValueError(f"{name} is not JSON")

    try:
        return json.loads(text.decode(), object_pairs_hook=members, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise Unsound(file, place, f"is not JSON: {error}") from None


def _object(
    file: str, place: str, text: bytes, keys: list[str], or_keys: list[str] | None = None
) -> dict[str, Any]:
    value = _json(file, place, text)
    if not isinstance(value, dict) or list(value) not in (keys, or_keys):
        raise Unsound(file, place, f"is no object with the keys {', '.join(keys)}")
    return value


def _digest(file: BinaryIO, entry: Entry) -> str:
    """Return the SHA-256 of a file's content, after comparing its CRC-32."""
    digest, crc = hashlib.sha256(), 0
    for chunk in chunks_of(file, entry):
        digest.update(chunk)
        crc = zlib.crc32(chunk, crc)
    if crc != entry.crc:
        raise Unsound(entry.name, *_changed_byte(file, entry, crc))
    return digest.hexdigest()


def _changed_byte(file: BinaryIO, entry: Entry, crc: int) -> tuple[str, str]:
    """Return where and how a content was changed, if one byte of it was.

    The difference of two CRCs of equal length depends only on the bits that differ. It is taken
    back byte by byte, from the end, until it is the difference that a single byte makes.
    """
    table = [zlib.crc32(bytes([i])) ^ zlib.crc32(b"\0") for i in range(256)]
    tops, single = {value >> 24: i for i, value in enumerate(table)}, set(table)
    state, at = crc ^ entry.crc, entry.size - 1
    if entry.size > LARGEST_SEARCHED:
        return "", "its content is not the one that was written"
    while at >= 0 and state not in single:
        index = tops[state >> 24]
        state = ((state ^ table[index]) << 8 & 0xFFFFFFFF) | index
        at -= 1
    if at < 0:
        return "", "its content is not the one that was written: several bytes differ"
    lines = 1
    for chunk in chunks_of(file, Entry(entry.name, 0, at, entry.offset)):
        lines += chunk.count(b"\n")
    file.seek(entry.offset + at)
    found = file.read(1)[0]
    return (
        f"line {lines}, byte {at}",
        f"is 0x{found:02x}, and was 0x{found ^ table.index(state):02x} when it was written",
    )


class _Flow(NamedTuple):
    """The end of a flow whose chain was verified."""

    events: int
    link: str


class _Reading:
    """A bundle that is read file by file; what is wrong with one leaves the others to be read."""

    def __init__(self, file: BinaryIO, heads: Mapping[str, tuple[int, str]]) -> None:
        self.file = file
        self.entries = {entry.name: entry for entry in read_entries(file)}
        self.findings: list[BundleFinding] = []
        self.flows: dict[str, _Flow] = {}
        self.anchored: dict[str, list[tuple[int, str, str]]] = {
            flow_id: [(*head, "the anchors that were given")] for flow_id, head in heads.items()
        }
        self.named: dict[str, tuple[str, str]] = {}
        self.artifacts = 0
        self.hashes: dict[str, str] = {}

    def check(self) -> None:
        """Check all files; the anchors before the flows, and these before what names them."""
        for name in _NEEDED:
            if name not in self.entries:
                raise Unsound(name, "", "is missing: the archive is not a bundle, or not whole")
        for name in self.entries:
            self._try(name, self._hash)
        histories = [name for name in self.entries if name.endswith("/events.jsonl")]
        located = {finding.file for finding in self.findings if finding.place}
        for name in ("anchors.jsonl", *histories, "artifacts.jsonl", "manifest.json"):
            if name in self.entries and name not in located:
                self._try(name, self._reader(name))

    def _reader(self, name: str) -> Callable[[str], None]:
        readers = {
            "anchors.jsonl": self._anchors,
            "artifacts.jsonl": self._descriptions,
            "manifest.json": self._manifest,
        }
        return readers.get(name, self._events)

    def _try(self, name: str, check: Callable[[str], None]) -> None:
        try:
            check(name)
        except Unsound as error:
            self.findings.append(error.finding)

    def _find(self, file: str, place: str, reason: str) -> None:
        self.findings.append(BundleFinding(file, place, reason))

    def _hash(self, name: str) -> None:
        self.hashes[name] = _digest(self.file, self.entries[name])

    def _anchors(self, name: str) -> None:
        """Read the anchors that were given, whose last line has the SHA-256 of those before it."""
        digest, before, last = hashlib.sha256(), b"", None
        for number, line in lines_of(self.file, self.entries[name]):
            place = f"line {number}"
            digest.update(before)
            before, last = line + b"\n", _json(name, place, line)
            if isinstance(last, dict) and {"flow_id", "version", "link"} <= last.keys():
                events = last["version"] if isinstance(last["version"], int) else 0
                anchor = (events, str(last["link"]), f"the anchor in {place}")
                self.anchored.setdefault(str(last["flow_id"]), []).append(anchor)
        if not isinstance(last, dict) or last.get("sha256") != digest.hexdigest():
            raise Unsound(name, "", "is no complete file of anchors, or was changed")

    def _events(self, name: str) -> None:
        """Check the chain of a flow, whose versions have no gap."""
        flow_id, link, number = name.split("/")[1], GENESIS, 0
        anchors = self.anchored.get(flow_id, [])
        for number, line in lines_of(self.file, self.entries[name]):
            event = _object(name, f"line {number}", line, _EVENT_KEYS)
            found = _EVENT.fullmatch(line)
            if found is None or found[2].decode() != flow_id:
                raise Unsound(name, f"line {number}", f"is no event of flow {flow_id}")
            place = f"line {number}, version {event['version']}"
            if event["version"] != number - 1:
                raise Unsound(name, place, f"the version should be {number - 1}")
            link = hashlib.sha256(link + found[1] + found[4]).digest()
            if link.hex() != found[3].decode():
                raise Unsound(name, place, "breaks the hash chain")
            for events, anchor, where in anchors:
                if number == events and link.hex() != anchor:
                    self._find(name, place, f"is not the event of {where}")
            self._name_artifacts(name, place, event["payload"])
        if not number:
            raise Unsound(name, "", "has no event")
        for events, _, where in anchors:
            if number < events:
                self._find(name, "", f"has {number} events, {where} had {events}")
        self.flows[flow_id] = _Flow(number, link.hex())

    def _name_artifacts(self, name: str, place: str, payload: Any) -> None:
        fact = payload if isinstance(payload, dict) else {}
        outputs = fact.get("outputs") if fact.get("type") == "stepfinished" else ()
        given = [fact.get("input")] if fact.get("type") == "flowinitialized" else []
        for artifact in [*(outputs if isinstance(outputs, list) else ()), *given]:
            if artifact is not None:
                self.named.setdefault(str(artifact), (name, place))

    def _descriptions(self, name: str) -> None:
        """Check that each artifact has the hash that names it, and a description."""
        before, files = "", set()
        for number, line in lines_of(self.file, self.entries[name]):
            place = f"line {number}"
            artifact = _object(name, place, line, _ARTIFACT_KEYS, _SHARED_ARTIFACT_KEYS)
            hash_, file = str(artifact["hash"]), str(artifact["file"])
            if not _DIGITS.fullmatch(hash_) or hash_ <= before:
                raise Unsound(name, place, "its hash is not one, or is out of order")
            if file not in {f"artifacts/{hash_}", f"definitions/{hash_}.json"}:
                raise Unsound(name, place, f"names the file {file!r}")
            self._described(artifact, file, place)
            files.add(file)
            before, self.artifacts = hash_, number
            self.named.pop(hash_, None)
        for each in self.entries:
            if each.startswith(("artifacts/", "definitions/")) and each not in files:
                self._find(each, "", "is not described in artifacts.jsonl")
        for missing, (file, place) in self.named.items():
            self._find(file, place, f"names the artifact {missing}, which is not there")

    def _described(self, artifact: dict[str, Any], file: str, place: str) -> None:
        if file not in self.entries:
            self._find(file, "", "is described in artifacts.jsonl, and is not there")
        elif self.hashes.get(file, artifact["hash"]) != artifact["hash"]:
            self._find(file, "", f"has the SHA-256 {self.hashes[file]}, not its name's")
        flow_id, version = str(artifact["flow_id"]), artifact["version"]
        if f"flows/{flow_id}/events.jsonl" not in self.entries:
            self._find("artifacts.jsonl", place, "names a flow that is not there")
        elif flow_id in self.flows and version not in range(self.flows[flow_id].events):
            self._find("artifacts.jsonl", place, "names an event that is not there")
        if "users" in artifact:
            self._users(artifact["users"], place)

    def _users(self, users: Any, place: str) -> None:
        """Check the flows that brought an artifact beside the one that it is stored with."""
        if not isinstance(users, list) or not users or users != sorted(set(map(str, users))):
            raise Unsound("artifacts.jsonl", place, "its users are not flows in order")
        if any(f"flows/{user}/events.jsonl" not in self.entries for user in users):
            self._find("artifacts.jsonl", place, "names a user that is not there")

    def _manifest(self, name: str) -> None:
        """Check that the manifest names each file with its hash, and each flow with its end."""
        if self.entries[name].size > LARGEST_JSON:
            raise Unsound(name, "", f"has more than {LARGEST_JSON} bytes")
        text = b"".join(chunks_of(self.file, self.entries[name]))
        manifest = _object(name, "", text, ["files", "flows", "format"])
        files, flows = manifest["files"], manifest["flows"]
        if manifest["format"] != FORMAT:
            raise Unsound(name, "format", f"is {manifest['format']!r}, not {FORMAT!r}")
        if not isinstance(files, dict) or not isinstance(flows, dict) or not flows:
            raise Unsound(name, "", "lists no files, or no flows")
        for each in sorted({*files, *self.entries} - {name}):
            if each not in self.entries:
                self._find(each, "", "is named by the manifest, and is not there")
            elif each not in files:
                self._find(each, "", "is not named by the manifest")
            elif files[each] != self.hashes.get(each, files[each]):
                self._find(each, "", f"has the SHA-256 {self.hashes[each]}, not the manifest's")
        self._ends(name, flows)

    def _ends(self, name: str, flows: dict[str, Any]) -> None:
        folders = {each.split("/")[1] for each in self.entries if each.startswith("flows/")}
        for flow_id in sorted({*flows, *folders}):
            for each in (f"flows/{flow_id}/events.jsonl", f"flows/{flow_id}/page.html"):
                if each not in self.entries:
                    self._find(each, "", "is missing")
            flow = self.flows.get(flow_id)
            if flow and flows.get(flow_id) != {"events": flow.events, "link": flow.link}:
                self._find(name, f"flow {flow_id}", f"it has {flow.events} events, to {flow.link}")


def verify_bundle(
    path: Path | str, heads: Mapping[str, tuple[int, str]] | None = None
) -> BundleReport:
    """Return what a bundle has and what is wrong with it.

    `heads` are anchors that were kept elsewhere: of flows, by id, after how many events they had
    which chain hash, in hexadecimal.

    Raises:
        OSError: the file cannot be read.
    """
    with Path(path).open("rb") as file:
        digest = hashlib.sha256()
        for chunk in iter(lambda: file.read(CHUNK), b""):
            digest.update(chunk)
        try:
            reading = _Reading(file, heads or {})
            reading.check()
        except Unsound as error:
            return BundleReport(0, 0, 0, digest.hexdigest(), (error.finding,))
    events = sum(flow.events for flow in reading.flows.values())
    counts = (len(reading.flows), events, reading.artifacts)
    return BundleReport(*counts, digest.hexdigest(), tuple(reading.findings))


def main(arguments: list[str]) -> int:
    """Print what is wrong with the bundle that is named, and return the exit code."""
    if len(arguments) != 1:
        sys.stderr.write("usage: python3 -I verify.py BUNDLE\n")
        return 2
    try:
        report = verify_bundle(arguments[0])
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    for finding in report.findings:
        sys.stdout.write(f"{ascii(str(finding))[1:-1]}\n")  # nothing that controls a terminal
    counts = f"{report.flows} flows, {report.events} events, {report.artifacts} artifacts verified"
    sys.stdout.write(f"{counts}\nSHA-256 {report.sha256}\n")
    sys.stdout.write(f"{len(report.findings)} findings\n" if report.findings else "clean\n")
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
