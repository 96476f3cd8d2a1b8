"""The public validator of RO-Crates accepts bundles: no issue that the profiles require to mend.

It asks no other host: the context of RO-Crate 1.1 comes from the package rocrate.
"""

import asyncio
import json
import os
from pathlib import Path
from uuid import UUID

import pytest

from chem_persistence import (
    FlowEngine,
    InMemoryEventStore,
    InMemoryFlowRepository,
    export_flows,
)
from tests.support.bundles import LARGE, SMALL_FLOW, small_store
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.flows.sample_flow import FLOW_ID, sample_store
from tests.support.leases.families import Add, Picky, mapped
from tests.support.leases.staff import Number, chain

VALIDATE = """
import json, pathlib, sys
import requests, rocrate
from rocrate_validator import models, services
from rocrate_validator.utils.http import HttpRequester

context = (pathlib.Path(rocrate.__file__).parent / "data" / "ro-crate.jsonld").read_bytes()
CONTEXT = "https://w3id.org/ro/crate/1.1/context"
assert json.loads(context)["@id"] == CONTEXT

def offline(requester, url, **options):
    answer = requests.Response()
    answer.url, answer.status_code = url, 200 if url == CONTEXT else 404
    answer._content, answer.headers["content-type"] = context, "application/ld+json"
    return answer

HttpRequester.get = offline
required = models.Severity.REQUIRED
found = {}
for bundle in sys.argv[1:]:
    settings = services.ValidationSettings(
        rocrate_uri=bundle,
        profile_identifier="provenance-run-crate-0.5",  # with those that it is made of
        requirement_severity=required,
    )
    result = services.validate(settings)
    found[bundle] = [f"{each.check.identifier}: {each.message}" for each in result.get_issues()]
print(json.dumps(found))
"""


async def ran() -> tuple[InMemoryEventStore, list[UUID]]:
    """Return a store with flows of two definitions, one with children, and their ids."""
    store = InMemoryEventStore()
    repository, flow_ids = InMemoryFlowRepository(store), [new_flow_id(), new_flow_id()]
    for definition, flow_id in zip((mapped(Picky()), chain(Add(1))), flow_ids, strict=True):
        await FlowEngine(store, repository, definition).run_to_end(flow_id, Number(2))
    return store, flow_ids


@pytest.mark.crate
async def test_the_public_validator_finds_no_required_issue(tmp_path: Path) -> None:
    small, (store, flow_ids) = await small_store(artifacts=(LARGE,)), await ran()
    begun = InMemoryEventStore()
    await begun.append_kind(SMALL_FLOW, initialized())
    await export_flows(await sample_store(), [FLOW_ID], tmp_path / "completed.zip")
    await export_flows(small, [SMALL_FLOW], tmp_path / "waits.zip")
    await export_flows(begun, [SMALL_FLOW], tmp_path / "begun.zip")
    await export_flows(store, flow_ids, tmp_path / "tree.zip", tree=True)
    bundles = sorted(map(str, tmp_path.glob("*.zip")))
    validator = await asyncio.create_subprocess_exec(
        *(os.environ["CHEM_TEST_CRATE"], "-c", VALIDATE, *bundles), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await validator.communicate()
    assert json.loads(output.splitlines()[-1]) == {bundle: [] for bundle in bundles}
