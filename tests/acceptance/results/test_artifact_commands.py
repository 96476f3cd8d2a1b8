"""The commands `artifact show`, `artifact list` and `artifact lineage`."""

import json
from typing import Any

from chem_persistence import (
    Artifact,
    PgEventStore,
    PoolProvider,
    StepSignal,
    build_pool,
    content_hash,
)
from chem_persistence.store.leasing.children import child_id
from tests.acceptance.results.conftest import SCREEN
from tests.support.commands import command
from tests.support.flows.flows import new_flow_id
from tests.support.flows.logged_flows import BINARY, FAILED, logged_flows

MOLECULE = content_hash({"smiles": "CC"})
VERDICT = content_hash({"broken": ["=logP"], "energy_kcal_mol": 1.0, "smiles": "CC"})
CHILD = child_id(SCREEN, 1, 1)


async def output(url: str, *arguments: object) -> str:
    done = await command("artifact", *arguments, "--database-url", url)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


async def told(url: str, *arguments: object) -> Any:
    return json.loads(await output(url, *arguments, "--json"))


async def test_show_describes_an_artifact_and_prints_its_json(url: str) -> None:
    said = await output(url, "show", VERDICT[:8])
    lines = said.splitlines()
    assert lines[0].split() == ["hash", VERDICT]
    assert lines[1].split() == ["kind", "Verdict"]
    assert lines[2].split() == ["type", "application/json"]
    assert f"of flow {CHILD}" in lines[3]
    assert '  "energy_kcal_mol": 1,\n' in said
    assert lines[-1].split()[:3] == [str(CHILD), "2", "judge"]
    assert "used by" not in said
    used = await output(url, "show", MOLECULE)
    assert "used by flow" in used


async def test_show_has_the_same_as_json(url: str) -> None:
    shown = await told(url, "show", MOLECULE)
    assert (shown["hash"], shown["kind"]) == (MOLECULE, "Molecule")
    assert [use["step_id"] for use in shown["consumers"]] == ["judge"]
    assert shown["producers"][0]["event_type"] == "flowinitialized"


async def test_show_has_no_bytes_of_a_binary_content(admin_url: str) -> None:
    url = (await logged_flows(admin_url)).url
    said = await output(url, "show", BINARY.hash)
    assert said.splitlines()[2] == "type     application/octet-stream, 10 KiB"
    assert "{" not in said


async def test_show_cuts_long_json(admin_url: str) -> None:
    url = await with_payload(admin_url, {"list": list(range(100))})
    said = await output(url, "show", content_hash({"list": list(range(100))}))
    assert "... and 74 lines more\n" in said
    large = {"text": "x" * 100_000}
    url = await with_payload(admin_url, large)
    said = await output(url, "show", content_hash(large))
    assert "`artifact get` has all of it" in said
    assert len(said) < 2_000


async def with_payload(url: str, payload: Any) -> str:
    async with await build_pool(url) as pool:
        store = PgEventStore(PoolProvider(pool))
        made = Artifact.from_payload(kind="Large", payload=payload)
        await store.append_kind(new_flow_id(), StepSignal(0, "a", "b"), artifacts=[made])
        await store.aclose()
    return url


async def test_list_has_the_newest_first_of_a_kind_and_a_flow(url: str) -> None:
    every = (await told(url, "list", "--limit", 100))["artifacts"]
    assert every[0]["kind"] == "Number"
    verdicts = await told(url, "list", "--kind", "Verdict")
    assert [each["hash"] for each in verdicts["artifacts"]] == [
        each["hash"] for each in every if each["kind"] == "Verdict"
    ]
    assert len(verdicts["artifacts"]) == 4
    assert verdicts["more"] is False
    of_child = (await told(url, "list", "--flow", CHILD))["artifacts"]
    assert [each["hash"] for each in of_child] == [VERDICT, MOLECULE]
    assert [each["version"] for each in of_child] == [2, 0]
    assert (await told(url, "list", "--limit", 1))["more"] is True
    said = await output(url, "list", "--limit", 1)
    assert said.endswith("there are more: --limit 10\n")
    assert said.splitlines()[1].split()[:2] == [every[0]["hash"], "Number"]
    assert await output(url, "list", "--kind", "none") == "no artifacts\n"


async def test_lineage_lists_what_an_artifact_derives_from_and_leads_to(url: str) -> None:
    said = await output(url, "lineage", VERDICT)
    lines = [line.split() for line in said.splitlines()]
    assert lines[0] == [VERDICT]
    assert lines[3] == [MOLECULE, "Molecule", "1", "judge", str(CHILD)]
    assert said.endswith("leads to: no step in the log took it as its input\n")
    both = await told(url, "lineage", MOLECULE[:12])
    assert both["artifact_hash"] == MOLECULE
    assert both["ancestors"] == []
    assert [each["artifact_hash"] for each in both["descendants"]] == [VERDICT]
    assert both["ancestors_complete"] is both["descendants_complete"] is True


async def test_lineage_ends_at_its_depth_and_limit(url: str) -> None:
    run = await told(url, "list", "--kind", "Number")
    given = run["artifacts"][-1]["hash"]
    near = await told(url, "lineage", given, "--depth", 1)
    assert [each["kind"] for each in near["descendants"]] == ["Many"]
    assert near["descendants_complete"] is False
    said = await output(url, "lineage", given, "--limit", 1)
    assert "there may be more: raise --depth or --limit" in said


async def test_an_artifact_that_is_not_there_is_one_line(admin_url: str) -> None:
    url = (await logged_flows(admin_url)).url
    for name in ("show", "lineage"):
        done = await command("artifact", name, "c" * 64, "--database-url", url)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    done = await command("artifact", "list", "--flow", "cccccc", "--database-url", url)
    assert done.returncode == 2
    of_flow = await told(url, "list", "--flow", FAILED)
    assert [each["hash"] for each in of_flow["artifacts"]] == [BINARY.hash]
