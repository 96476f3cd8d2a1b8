"""The terminal and the page draw an attempt at the same point of the same time scale."""

import re
from pathlib import Path

import pytest

from chem_persistence import PgEventStore, PoolProvider, StepFinished, StepSignal, StepStarted
from chem_persistence.cli.flow_story import read_story
from chem_persistence.cli.terminal.timeline import print_story
from tests.support.flows.flows import initialized, new_flow_id
from tests.support.flows.sample_flow import SetClock

WIDTH = 40
"""The characters of the bars if the output is not a terminal."""


async def test_bars_begin_at_the_same_place(
    provider: PoolProvider, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clock, flow_id = SetClock(), new_flow_id()
    store = PgEventStore(provider, clock=clock)
    step = (0, "acquire")
    for seconds, fact in (
        (0, initialized()),
        (0, StepStarted(*step)),
        (4, StepSignal(*step, "progress")),
        (56, StepStarted(*step)),  # the first attempt was superseded after its signal
        (10, StepFinished(*step, (), "f" * 64)),
        (3, StepStarted(1, "compute")),
        (5, StepFinished(1, "compute", (), "f" * 64)),
    ):
        clock.move(seconds)
        await store.append_kind(flow_id, fact)
    page = tmp_path / "page.html"
    print_story(await read_story(provider, flow_id, html=page))
    lines = capsys.readouterr().out.splitlines()
    column = next(line.index("━") for line in lines if "━" in line)
    on_terminal = [line.index("━") - column for line in lines if "━" in line]
    bars = re.findall(r'class="bar (?:superseded|finished)" x="([\d.]+)%"', page.read_text())
    on_page = [int(float(place) * WIDTH / 100) for place in bars]
    assert len(on_page) == 3
    assert on_terminal == on_page
    assert on_page[1] < WIDTH // 2, "the time in which nothing is known to have run is shortened"
