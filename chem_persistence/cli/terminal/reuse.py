"""What a terminal shows of results that were taken over, and of those that are invalid."""

from chem_persistence.cli.flow_story import FlowStory
from chem_persistence.cli.terminal.printing import Cell, column, print_line, print_table
from chem_persistence.cli.terminal.styled import Text
from chem_persistence.cli.terminal.text import one_line, shown, shown_time

__all__ = ["print_reuse"]

MOST_LISTED = 10
"""The number of steps that a table lists."""


def print_reuse(story: FlowStory) -> None:
    """Print where results are from, which other steps took some over, and what was invalidated."""
    origins: list[tuple[Cell, ...]] = [
        (shown(step.id), str(step.origin.flow_id), str(step.origin.version))
        for step in story.steps
        if step.origin is not None
    ]
    takers: list[tuple[Cell, ...]] = [
        (shown(taken.step_id), str(taken.flow_id), str(taken.version)) for taken in story.taken_over
    ]
    _print("taken over", origins)
    _print("taken over by", takers)
    invalid = [(step.id, step.invalidated) for step in story.steps if step.invalidated is not None]
    if invalid:
        print_line("")
    for step_id, said in invalid:
        who = f"; {said.who}" if said.who else ""
        text = f"result of {step_id} since {shown_time(said.at)} UTC{who}: {said.reason}"
        print_line(Text("invalid ", style="red"), shown(one_line(text)))


def _print(title: str, rows: list[tuple[Cell, ...]]) -> None:
    if not rows:
        return
    print_line("")
    columns = [column(title, cut=True), column("flow", ids=True), column("event", right=True)]
    print_table(columns, rows[:MOST_LISTED])
    if len(rows) > MOST_LISTED:
        print_line(f"and {len(rows) - MOST_LISTED:,} more: --json has them")
