"""`archive`, as an operator types it."""

import json
from pathlib import Path

import asyncpg

from chem_persistence import FlowEventKind, PgEventStore, PoolProvider, StepSignal, build_pool
from tests.acceptance.command_line.test_verify_command import Keys
from tests.acceptance.explorer.conftest import ask, served
from tests.support.commands import command
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.flows.logged_flows import COMPLETED, FAILED, JSON_ARTIFACT, logged_flows


async def test_flows_are_archived_and_come_back(admin_url: str, tmp_path: Path) -> None:
    here = ("--database-url", (await logged_flows(admin_url)).url)
    archive = ("archive", "--to", str(tmp_path), "--actor", "Ada")
    done = await command(*archive, FAILED, *here)
    assert done.returncode == 1
    assert done.stdout == f"flow {FAILED} stays: flow {FAILED} is neither completed nor cancelled\n"
    for wrong in ([], [COMPLETED, "--older-than", "1d"], ["--older-than", "long"]):
        assert (await command(*archive, *wrong, *here)).returncode == 2
    done = await command(*archive, "--older-than", "36500d", *here)
    assert (done.returncode, done.stdout) == (0, "no flow ended so long ago\n")
    done = await command(*archive, COMPLETED, *here)
    (bundle,) = tmp_path.iterdir()
    assert (done.returncode, done.stderr) == (0, "")
    assert "".join(done.stdout.split()) == f"1flowarchivedin{bundle}"
    for name in (str(COMPLETED)[:8], str(COMPLETED)):
        done = await command("show", name, *here)
        assert (done.returncode, done.stderr) == (0, "")
        first, *facts = done.stdout.splitlines()
        assert first.startswith(f"flow {COMPLETED} was archived")
        assert facts[0].startswith("archived  by Ada, as the role ")
        assert f"bundle    {bundle.name}" in facts
        assert f"back      chem-persistence import {bundle.name}" in facts
    told = json.loads((await command("show", COMPLETED, "--json", *here)).stdout)
    (row,) = told["archived"]
    assert (told["state"], told["artifacts"], told["more"]) == ("archived", [], False)
    assert (row["actor"], row["bundle_sha256"], len(row["link"])) == ("Ada", bundle.stem, 64)
    done = await command("show", COMPLETED, "--html", str(tmp_path / "page.html"), *here)
    assert (done.returncode, done.stdout) == (2, "")
    assert bundle.stem in "".join(done.stderr.split())
    checks = json.loads((await command("doctor", "--json", *here)).stdout)["checks"]
    (said,) = [each for each in checks if each["check"] == "archive"]
    assert (said["severity"], said["remedy"]) == ("ok", None)
    assert said["finding"].startswith("at most 1 archived, the last on 20")
    done = await command("import", str(bundle), *here)
    assert (done.returncode, done.stderr) == (0, "")
    done = await command(*archive, COMPLETED, "--json", *here)
    assert json.loads(done.stdout) == [
        {"bundle": str(bundle), "sha256": bundle.stem, "flows": [str(COMPLETED)]}
    ]


async def test_an_auditor_checks_log_bundles_and_anchors(admin_url: str, tmp_path: Path) -> None:
    here = ("--database-url", (await logged_flows(admin_url)).url)
    old, anchors, bundles = tmp_path / "old", tmp_path / "anchors", tmp_path / "bundles"
    bundles.mkdir()
    await command("verify", "--write-anchors", str(old), *here)
    await command("archive", COMPLETED, "--to", str(bundles), "--actor", "Ada", *here)
    (bundle,) = bundles.iterdir()
    verify = ("verify", "--bundles", str(bundles), *here)
    keys = Keys(tmp_path, "auditor")
    written = ("--write-anchors", str(anchors), "--sign-with", str(keys.private))
    done = await command(*verify, "--anchors", str(old), *written)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[-2:] == ["1 flow archived, 1 bundle read", "clean"]
    heading, *lines, ending = anchors.read_text(encoding="utf-8").splitlines()
    assert json.loads(heading)["format"] == "chem_persistence anchors 2"
    assert json.loads(lines[-1]).keys() == {"rows", "last_no", "sha256"}
    assert json.loads(ending)["flows"] == len(lines) - 1
    signed = ("--anchors", str(anchors), "--public-key", str(keys.public))
    done = await command(*verify, *signed, "--json")
    audit = json.loads(done.stdout)["archive"]
    assert audit | {"head": None} == {
        "flows": 1,
        "bundles": 1,
        "spare": [],
        "findings": [],
        "head": None,
    }
    (bundles / "spare.zip").write_bytes(bundle.read_bytes())
    await command("import", str(bundle), *here)
    await command("export", COMPLETED, str(bundles / "export.zip"), *here)
    assert (await command(*verify)).stdout.splitlines()[-1] == "clean"
    for spare in ("spare.zip", "export.zip"):
        (bundles / spare).unlink()
    bundle.write_bytes(bundle.read_bytes()[:-1])
    done = await command(*verify, "--anchors", str(anchors), "--write-anchors", str(old))
    assert (done.returncode, done.stderr) == (1, f"{old} is left as it was: something was found\n")
    assert f"{bundle.name}: was altered: its SHA-256 is" in done.stdout
    assert done.stdout.splitlines()[-1] == "2 findings"
    done = await command("verify", str(bundle), "--bundles", str(bundles))
    assert done.returncode == 2
    done = await command(*verify, "--flow", COMPLETED)
    assert (done.returncode, "cannot be combined with bundles" in done.stderr) == (2, True)


async def test_a_register_that_went_back_is_lost(admin_url: str, tmp_path: Path) -> None:
    here = ("--database-url", (await logged_flows(admin_url)).url)
    anchors = tmp_path / "anchors"
    done = await command("archive", COMPLETED, "--to", str(tmp_path), "--actor", "Ada", *here)
    await command("verify", "--write-anchors", str(anchors), *here)
    lost = ("lost", "--anchors", str(anchors), *here)
    assert (await command(*lost)).returncode == 0
    connection = await asyncpg.connect(admin_url)
    await connection.execute("SET session_replication_role = replica")
    await connection.execute("DELETE FROM archived_flows")
    await connection.close()
    for asked in (lost, ("verify", *lost[1:])):
        done = await command(*asked)
        assert done.returncode == 1
        assert "archived_flows: rows up to 1: 1 of the 1 anchored rows are gone" in done.stdout


async def test_a_kept_artifact_says_where_its_flow_is(admin_url: str, tmp_path: Path) -> None:
    url = (await logged_flows(admin_url)).url
    async with await build_pool(url) as pool:
        store = PgEventStore(PoolProvider(pool))
        noted: list[FlowEventKind] = [initialized(), StepSignal(0, "acquire", "noted")]
        await store.append_kinds(new_flow_id(), noted, artifacts=[JSON_ARTIFACT])
        await store.aclose()
    here = ("--database-url", url)
    await command("archive", COMPLETED, "--to", str(tmp_path), "--actor", "Ada", *here)
    (bundle,) = tmp_path.iterdir()
    show = ("artifact", "show", JSON_ARTIFACT.hash, *here)
    said = (await command(*show)).stdout
    assert f"with an event of flow {COMPLETED}\n" in said
    assert f"the flow is in the bundle {bundle.stem}, 20" in said
    told = json.loads((await command(*show, "--json")).stdout)
    assert (told["version"], told["archived"]["bundle_sha256"]) == (None, bundle.stem)
    lineage = ("artifact", "lineage", JSON_ARTIFACT.hash, *here)
    last = (await command(*lineage)).stdout.splitlines()[-1].split()
    assert last[:3] == [JSON_ARTIFACT.hash, str(COMPLETED), bundle.stem]
    (kept,) = json.loads((await command(*lineage, "--json")).stdout)["kept"]
    assert (kept["artifact_hash"], kept["flow_id"]) == (JSON_ARTIFACT.hash, str(COMPLETED))
    listed = ("artifact", "list", "--flow", COMPLETED, *here)
    first, *rows = (await command(*listed)).stdout.splitlines()
    assert first == f"flow {COMPLETED} was archived: all that it had is in the bundle {bundle.stem}"
    assert JSON_ARTIFACT.hash in {row.split()[0] for row in rows}
    assert json.loads((await command(*listed, "--json")).stdout)["bundle_sha256"] == bundle.stem
    everything = ("artifact", "list", *here)
    assert (await command(*everything)).stdout.splitlines()[-1].split()[:3] == last[:3]
    told = json.loads((await command(*everything, "--json")).stdout)
    assert told["artifacts"][-1]["hash"] in {each["artifact_hash"] for each in told["kept"]}
    assert {each["bundle_sha256"] for each in told["kept"]} == {bundle.stem}
    cut = json.loads((await command(*everything, "--limit", "1", "--json")).stdout)
    assert (len(cut["artifacts"]), cut["more"], cut["kept"]) == (1, True, [])
    async with served(url) as (address, _):
        page = (await ask(address, f"/artifacts/{JSON_ARTIFACT.hash}")).text
    assert f"it is in the bundle <code>{bundle.stem}</code>" in page
