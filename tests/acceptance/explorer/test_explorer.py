"""The explorer answers for its own host, reads only, escapes what it shows, and ends in order."""

import asyncio
import hashlib
import json
import re
import signal
from pathlib import Path
from uuid import UUID

import pytest

import chem_persistence
from chem_persistence import PgEventStore, PgReadModels, PoolProvider, build_pool
from tests.acceptance.explorer.conftest import (
    ARCHIVED,
    CONFORMER,
    KEPT,
    PAGE,
    TABLE,
    ask,
    served,
    started,
)
from tests.support.commands import command
from tests.support.flows.flows import DEFINITION
from tests.support.flows.logged_flows import BINARY, COMPLETED, FAILED, JSON_ARTIFACT

pytestmark = pytest.mark.asyncio(loop_scope="module")

STATIC = Path(chem_persistence.__file__).parent / "explorer" / "static"
PAGES = {
    "/": "the newest first",
    "/?state=failed": "spilled",
    "/?state=completed&children=shown": str(COMPLETED),
    f"/?definition={DEFINITION.definition_hash[:8]}": str(COMPLETED),
    "/?began=2999-01-01T00:00": str(COMPLETED),
    "/?began=1999-01-01T00:00": "no flows",
    f"/flows/{COMPLETED}.html": "timeline",
    f"/flows/{ARCHIVED}.html": "bring it back",
    f"/search?q={str(ARCHIVED)[:6]}": str(ARCHIVED),
    "/failures": "laboratory.spilled",
    f"/failures?step={DEFINITION.steps[0].id}&error=spill": "1 of the newest",
    "/failures?error=nothing": "no failures",
    "/definitions": "as of",
    "/fleet": "no worker",
    "/search": "four or more digits",
    f"/search?q={str(COMPLETED)[:6]}": str(COMPLETED),
    f"/search?q={JSON_ARTIFACT.hash[:6]}": JSON_ARTIFACT.hash,
    f"/search?q={DEFINITION.definition_hash[:6]}": DEFINITION.definition_hash,
    "/search?q=zzzz": "nothing begins with",
    "/?label=Batch": "batch 7",
    "/search?q=Batch": "batch 7",
    f"/artifacts/{JSON_ARTIFACT.hash}": "molecule",
    f"/artifacts/{BINARY.hash}": "octet-stream",
    f"/artifacts/{CONFORMER.hash}": "in three dimensions",
    f"/artifacts/{TABLE.hash}": "3 values from 1.5 to 3",
}


@pytest.mark.parametrize("path", PAGES)
async def test_a_page_shows_what_it_is_asked_for(address: str, path: str) -> None:
    answer = await ask(address, path)
    assert (answer.status, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert PAGES[path] in answer.text.lower()
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert re.match(r"default-src '(self|none)';", answer.headers["content-security-policy"])


REFUSED = {
    "/?state=lost": 400,
    "/?before=x": 400,
    f"/?before={ARCHIVED}": 400,
    "/?began=yesterday": 400,
    f"/flows/{UUID(int=5)}.html": 404,
    f"/artifacts/{'0' * 64}": 404,
    "/artifacts/x": 404,
    "/artifacts/x/content": 404,
    "/nothing": 404,
    "/static/../app.py": 404,
}


@pytest.mark.parametrize("path", REFUSED)
async def test_what_it_cannot_show_is_a_page_that_says_why(address: str, path: str) -> None:
    answer = await ask(address, path)
    assert answer.status == REFUSED[path]
    assert "Not shown" in answer.text


async def test_an_archived_flow_says_where_it_is_and_how_to_bring_it_back(
    log: str, address: str
) -> None:
    async with await build_pool(log, max_size=1) as pool:
        before, last = await PgEventStore(PoolProvider(pool)).find_archived([ARCHIVED])
    text = (await ask(address, f"/flows/{ARCHIVED}.html")).text
    assert f"chem-persistence import {last.bundle_sha256}.zip" in text
    assert f"<code>{last.link.hex()}</code>" in text
    assert "&lt;b&gt;Bob&lt;/b&gt;" in text
    assert "<b>Bob" not in text
    assert f'<a href="/artifacts/{KEPT.hash}">' in text
    assert f"by Ada, in <code>{before.bundle_sha256}.zip</code>" in text
    assert "data-live" not in text
    found = (await ask(address, f"/search?q={str(ARCHIVED)[:6]}")).text
    assert "Archived flows" in found


@pytest.mark.parametrize(
    ("whole", "path"),
    [
        (str(COMPLETED), f"/flows/{COMPLETED}.html"),
        (str(ARCHIVED), f"/flows/{ARCHIVED}.html"),
        (JSON_ARTIFACT.hash, f"/artifacts/{JSON_ARTIFACT.hash}"),
    ],
)
async def test_a_whole_id_leads_to_its_page(address: str, whole: str, path: str) -> None:
    answer = await ask(address, f"/search?q={whole}")
    assert (answer.status, answer.headers["location"]) == (303, path)


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", ""])
async def test_a_host_that_it_does_not_serve_is_refused(address: str, host: str) -> None:
    answer = await ask(address, host=host)
    assert (answer.status, str(COMPLETED) in answer.text) == (421, False)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "[::1]:80", "127.0.0.1:9"])
async def test_its_own_host_is_served_under_any_port(address: str, host: str) -> None:
    assert (await ask(address, host=host)).status == 200


async def test_its_address_is_a_line_of_json_and_another_host_is_served_if_it_is_allowed(
    log: str,
) -> None:
    process = await started(log, "--json", "--allow-host", "Lab.Example")
    url = json.loads(await process.stdout.readline())["url"]
    assert (await ask(url)).status == 200
    assert (await ask(url, host="lab.example")).status == 200
    assert (await ask(url, host="other.example")).status == 421
    process.terminate()
    assert await process.communicate() == (b"", b"")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", ["/", f"/flows/{COMPLETED}.html", "/live", "/search"])
async def test_it_reads_only(address: str, method: str, path: str) -> None:
    assert (await ask(address, path, method=method)).status == 405


async def test_hostile_texts_are_shown_and_do_nothing(address: str) -> None:
    for path in ("/failures", "/?state=failed"):
        text = (await ask(address, path)).text
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "\\u001b[31mred" in text
    search = await ask(address, "/search?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E")
    assert "<script>alert" not in search.text
    assert "&#34;&gt;&lt;script&gt;" in search.text
    assert "&lt;b&gt;" in (await ask(address, f"/artifacts/{TABLE.hash}")).text


async def test_bytes_of_an_artifact_are_downloaded_and_never_a_page(address: str) -> None:
    for artifact in (PAGE, BINARY, JSON_ARTIFACT):
        answer = await ask(address, f"/artifacts/{artifact.hash}/content")
        assert answer.headers["content-type"] == "application/octet-stream"
        assert answer.headers["content-disposition"].startswith("attachment;")
        assert answer.headers["content-security-policy"] == "default-src 'none'; sandbox"
    payload = await ask(address, f"/artifacts/{JSON_ARTIFACT.hash}/content")
    assert payload.text.encode() == JSON_ARTIFACT.encoded()
    shown = await ask(address, f"/artifacts/{CONFORMER.hash}/content")
    assert shown.headers["content-type"] == "text/plain; charset=utf-8"


async def test_pages_of_flows_are_those_of_the_read_model_each_once(log: str, address: str) -> None:
    async with await build_pool(log, max_size=1) as pool:
        flows = await PgReadModels(PoolProvider(pool)).flows(limit=100)
    first = (await ask(address, "/")).text
    ids = list(dict.fromkeys(re.findall(r"/flows/([0-9a-f-]{36})\.html", first)))
    assert ids == [str(flow.flow_id) for flow in flows]
    later = (await ask(address, f"/?before={ids[1]}")).text
    assert list(dict.fromkeys(re.findall(r"/flows/([0-9a-f-]{36})\.html", later))) == ids[2:]
    assert str(FAILED) in ids


async def test_files_of_others_are_as_they_were_published() -> None:
    listed = re.findall(
        r"^\| `(\S+)` .* ([0-9a-f]{64}) \|$", (STATIC / "VENDORED.md").read_text(), re.MULTILINE
    )
    assert {name for name, _ in listed} == {path.name for path in STATIC.glob("*min.js")}
    for name, expected in listed:
        assert hashlib.sha256((STATIC / name).read_bytes()).hexdigest() == expected


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
async def test_it_ends_in_order_although_a_page_follows_the_log(
    log: str, number: signal.Signals
) -> None:
    async with served(log) as (url, process):
        host, port = url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(f"GET /live HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        assert b"200 OK" in await reader.readline()
        await reader.readuntil(b"retry: 2000")
        process.send_signal(number)
        assert await process.communicate() == (b"", b"")
        assert process.returncode == 0
        writer.close()


async def test_an_address_that_is_taken_is_wrong_use(log: str, address: str) -> None:
    port = address.rpartition(":")[2]
    done = await command("serve", "--port", port, "--database-url", log)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"cannot listen at 127.0.0.1:{port}" in done.stderr
