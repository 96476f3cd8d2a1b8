"""How many files of the library a reader has to follow through one load."""

import gc
import sys
from pathlib import Path
from types import FrameType

import chem_persistence
from chem_persistence import PgEventStore, PgFlowRepository, PoolProvider, StepStarted
from tests.support.flows.flows import DEFINITION, initialized, new_flow_id

PACKAGE = Path(chem_persistence.__file__).parent
MOST_FILES = 10


def is_of_the_load(frame: FrameType | None) -> bool:
    """Return whether a frame is one of the load, and not of another task."""
    while frame is not None and frame.f_code is not PgFlowRepository.load.__code__:
        frame = frame.f_back
    return frame is not None


async def test_a_load_runs_through_few_files(provider: PoolProvider) -> None:
    flow_id, store, repository = new_flow_id(), PgEventStore(provider), PgFlowRepository(provider)
    await store.append_kinds(flow_id, [initialized(), StepStarted(0, "acquire")])
    await store.aclose()  # no writer is active while the files are counted
    await repository.load(flow_id, None, DEFINITION)  # opens the pool's connection
    entered: set[str] = set()

    def note(frame: FrameType, event: str, _: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(PACKAGE) and is_of_the_load(frame):
            entered.add(str(path.relative_to(PACKAGE)))

    previous = sys.getprofile()
    gc.disable()  # what other tests have left may be finalized at any moment
    sys.setprofile(note)
    try:
        await repository.load(flow_id, None, DEFINITION)
    finally:
        sys.setprofile(previous)
        gc.enable()
    assert len(entered) <= MOST_FILES, sorted(entered)
