"""Commands and pages show a flow's name, label and definition, and what differs between two."""

import json
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest

from chem_persistence import (
    FlowClient,
    FlowEngine,
    PgEventStore,
    PgFlowRepository,
    PoolProvider,
    build_pool,
)
from tests.support.commands import command
from tests.support.flows.values import Molecule, energy_flow
from tests.support.pages.read_page import read_page


class Flows(msgspec.Struct, frozen=True):
    """A log of two flows that ran, with different parameters, and of one that was submitted."""

    url: str
    first: UUID
    second: UUID
    submitted: UUID


@pytest.fixture
async def flows(database_url: str) -> Flows:
    old, new = energy_flow("gfn1", "old"), energy_flow("gfn2", "energy")
    async with await build_pool(database_url, max_size=2) as pool:
        provider = PoolProvider(pool)
        store, repository = PgEventStore(provider), PgFlowRepository(provider)
        engines = [FlowEngine(store, repository, each) for each in (old, new)]
        first, second = [await engine.run_to_end(input=Molecule("C")) for engine in engines]
        client = FlowClient(store, repository)
        submitted = await client.submit(new, Molecule("CC"), label="ethane, batch 3")
        await store.aclose()
    return Flows(database_url, first, second, submitted)


async def output(*arguments: object, columns: str = "200", code: int = 0) -> str:
    done = await command(*arguments, variables={"COLUMNS": columns})
    assert (done.returncode, done.stderr) == (code, "")
    return done.stdout


async def parsed(*arguments: object, code: int = 0) -> Any:
    return json.loads(await output(*arguments, "--json", code=code))


async def test_flows_have_their_names_and_labels(flows: Flows) -> None:
    for columns in ("200", "100"):
        heading, *lines = (
            await output("flows", "--database-url", flows.url, columns=columns)
        ).splitlines()
        assert heading.split()[:3] == ["flow", "name", "state"]
        assert "energy: ethane, batch 3" in lines[0]
        assert [line.split()[1] for line in lines] == ["energy:", "energy", "old"]
    listed = (await parsed("flows", "--database-url", flows.url))["flows"]
    assert [(each["name"], each["label"]) for each in listed] == [
        ("energy", "ethane, batch 3"),
        ("energy", None),
        ("old", None),
    ]


@pytest.mark.parametrize("name", ["show", "replay"])
async def test_a_flow_is_shown_with_its_steps_and_their_parameters(flows: Flows, name: str) -> None:
    printed = await output(name, flows.submitted, "--database-url", flows.url)
    assert "name        energy: ethane, batch 3\n" in printed
    assert "its steps   embed, optimise\n" in printed
    assert """  optimise  version 2, {"cycles":20,"method":"gfn2"}\n""" in printed
    shown = await parsed(name, flows.submitted, "--database-url", flows.url)
    assert (shown["name"], shown["label"]) == ("energy", "ethane, batch 3")
    assert shown["definition"][1] == {
        "id": "optimise",
        "kind": "transform",
        "version": "2",
        "params": {"cycles": 20, "method": "gfn2"},
    }


async def test_replay_names_steps_that_have_not_begun(flows: Flows) -> None:
    shown = await parsed("replay", flows.submitted, "--database-url", flows.url)
    assert [step["step_id"] for step in shown["steps"]] == ["embed", "optimise"]


async def test_show_lists_the_artifacts_of_the_flow_and_not_those_of_its_definition(
    flows: Flows,
) -> None:
    for flow_id in (flows.first, flows.second):
        shown = await parsed("show", flow_id, "--database-url", flows.url)
        assert {artifact["kind"] for artifact in shown["artifacts"]} == {"Molecule"}


async def test_diff_says_which_parameter_differs(flows: Flows) -> None:
    shown = await parsed("diff", flows.first, flows.second, "--database-url", flows.url, code=1)
    assert {
        "step": 1,
        "what": "params.method",
        "left": '"gfn1"',
        "right": '"gfn2"',
    } in shown["differences"]
    printed = await output("diff", flows.first, flows.second, "--database-url", flows.url, code=1)
    line, first = [line for line in printed.splitlines() if "params.method" in line]
    assert line.split() == ["step", "1", "params.method", '"gfn1"', '"gfn2"']
    assert first == "first: step 1 (optimise), because of params.method"


async def test_the_artifact_of_a_definition_is_got_by_its_hash(flows: Flows) -> None:
    definition = energy_flow("gfn1").definition
    got = await output(
        "artifact", "get", definition.definition_hash[:12], "--database-url", flows.url
    )
    assert json.loads(got) == {"steps": [step.definition_hash for step in definition.steps]}
    got = await output(
        "artifact", "get", definition.steps[1].definition_hash, "--database-url", flows.url
    )
    assert json.loads(got)["params"] == {"cycles": 20, "method": "gfn1"}


async def test_the_page_has_the_name_and_the_definition(flows: Flows, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    done = await command("show", flows.submitted, "--html", page, "--database-url", flows.url)
    assert done.returncode == 0
    read = read_page(page.read_text(encoding="utf-8"))
    assert "Flow energy: ethane, batch 3" in read.text()
    assert '{"cycles":20,"method":"gfn2"}' in read.text()
