"""How many files of the library a reader has to follow through one load."""

import sys
from pathlib import Path
from types import FrameType

import pytest

import chem_persistence
from chem_persistence import PgEventStore, PgFlowRepository, PoolProvider, StepStarted
from chem_persistence.telemetry import hooks, listening
from tests.support.flows.flows import DEFINITION, initialized, new_flow_id

PACKAGE = Path(chem_persistence.__file__).parent
MOST_FILES = 10


async def test_a_load_runs_through_few_files(
    provider: PoolProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listening.found, "observer", None)  # other tests have set a provider
    monkeypatch.setattr(hooks, "API", "not imported")
    flow_id, store, repository = new_flow_id(), PgEventStore(provider), PgFlowRepository(provider)
    await store.append_kinds(flow_id, [initialized(), StepStarted(0, "acquire")])
    await store.aclose()  # no writer is active while the files are counted
    await repository.load(flow_id, None, DEFINITION)  # opens the pool's connection
    entered: set[str] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(PACKAGE):
            entered.add(str(path.relative_to(PACKAGE)))

    previous = sys.getprofile()
    sys.setprofile(note)
    try:
        await repository.load(flow_id, None, DEFINITION)
    finally:
        sys.setprofile(previous)
    assert len(entered) <= MOST_FILES, sorted(entered)
