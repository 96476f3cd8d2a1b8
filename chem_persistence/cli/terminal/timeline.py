"""A flow on a terminal: a bar for every attempt on the flow's time scale, artifacts, errors."""

from collections.abc import Sequence

from chem_persistence.cli.commands.flows import shown_progress
from chem_persistence.cli.flow_story import FlowStory, definition_rows, name_row
from chem_persistence.cli.terminal.printing import (
    Cell,
    bar,
    column,
    output_width,
    print_line,
    print_table,
)
from chem_persistence.cli.terminal.reuse import print_reuse
from chem_persistence.cli.terminal.styled import Text
from chem_persistence.cli.terminal.text import (
    one_line,
    shown,
    shown_ago,
    shown_error,
    shown_time,
)
from chem_persistence.domain.flow_state import FlowState
from chem_persistence.store.leasing.children import ChildState
from chem_persistence.views.event_line import event_line
from chem_persistence.views.flow_view import AttemptOutcome, AttemptView
from chem_persistence.views.origin.branches import BranchView
from chem_persistence.views.origin.parameters import OF_THE_STEP
from chem_persistence.views.time_scale import TimeScale, flow_scale, is_unanswered
from chem_persistence.views.wording import (
    NOT_INITIALIZED,
    counted,
    duration,
    hash_prefix,
    size_of,
    value_text,
)

__all__ = ["print_story"]

WIDTH_WITHOUT_TERMINAL = 40
"""The width of the bars in characters if the output is not a terminal."""

MOST_ARTIFACTS = 50

MOST_PROGRAMS = 10

MOST_CHILDREN = 10
"""The number of children of a step that are listed, the failed ones first."""

_STYLES = {
    AttemptOutcome.FINISHED: "green",
    AttemptOutcome.FAILED: "red",
    AttemptOutcome.ASKED: "cyan",
    AttemptOutcome.WAITED: "blue",
    AttemptOutcome.SUPERSEDED: "magenta",
    AttemptOutcome.OPEN: "yellow",
    AttemptOutcome.REUSED: "green dim",
}

_CHILD_STYLES = {
    ChildState.FAILED: "red",
    ChildState.CANCELLED: "magenta",
    ChildState.RUNNING: "yellow",
    ChildState.COMPLETED: "green",
}


def print_story(story: FlowStory) -> None:
    """Print a flow: its summary, attempts, artifacts and errors, and what it waits for."""
    _print_heading(story)
    if any(step.attempts for step in story.steps):
        _print_attempts(story)
    if story.children:
        _print_children(story)
    print_reuse(story)
    _print_branches(story)
    _print_artifacts(story)
    _print_preferences(story)
    _print_programs(story)
    _print_errors(story)
    _print_pauses(story)


def _print_heading(story: FlowStory) -> None:
    flow = story.summary
    took = duration(flow.last_event_at - flow.started_at)
    is_over = flow.state in {FlowState.COMPLETED, FlowState.CANCELLED, FlowState.FAILED}
    last = "" if is_over else f", the last {shown_ago(story.seen_at - flow.last_event_at)}"
    steps = "?" if flow.step_count is None else flow.step_count
    definition = NOT_INITIALIZED if flow.definition_hash is None else flow.definition_hash
    rows: list[tuple[Cell, Cell]] = [
        ("flow", str(flow.flow_id)),
        *name_row(flow.name, flow.label),
        ("state", shown_progress(flow)),
        ("steps", f"{flow.finished_steps} of {steps} finished"),
        (
            "began",
            f"{shown_time(flow.started_at)} UTC; {counted(flow.version, 'event')} in {took}{last}",
        ),
        ("definition", shown(definition)),
        *definition_rows(story.definition),
        *_parameter_rows(story),
    ]
    if flow.parent is not None:
        parent = flow.parent
        place = f"step {parent.step_index}, item {parent.item}"
        rows.append(("parent", f"{parent.flow_id}, {place}"))
    if story.input is not None:
        rows.append(("input", shown(story.input)))
    if story.flow_fingerprint is not None:
        rows.append(("fingerprint", shown(story.flow_fingerprint)))
    if story.cancelled is not None:
        rows.append(("cancelled", shown(one_line(story.cancelled))))
    print_table([column(""), column("", fold=True)], rows, heading=False)


def _parameter_rows(story: FlowStory) -> list[tuple[Cell, Cell]]:
    """Return the rows of the parameters that are not as the steps have them."""
    given = [each for each in story.parameters if each.set_by != OF_THE_STEP]
    return [
        (
            "set" if index == 0 else "",
            shown(
                one_line(f"{each.step}.{each.name} = {value_text(each.value)} by the {each.set_by}")
            ),
        )
        for index, each in enumerate(given[:MOST_ARTIFACTS])
    ]


def _print_attempts(story: FlowStory) -> None:
    flow = story.summary
    scale = flow_scale(
        story.steps,
        state=flow.state,
        began=flow.started_at,
        last_at=flow.last_event_at,
        seen_at=story.seen_at,
    )
    longest = max(len(shown(step.id)) for step in story.steps)
    width = max(
        10, min(output_width(most=longest + 46 + WIDTH_WITHOUT_TERMINAL) - longest - 46, 80)
    )
    rows: list[tuple[Cell, ...]] = []
    for step in story.steps:
        left_out = step.attempt_count - len(step.attempts)
        for place, attempt in enumerate(step.attempts):
            is_first = place == 0
            rows.append(
                (
                    str(step.index) if is_first else "",
                    shown(step.id)
                    if is_first
                    else f"({left_out} not shown)"
                    if left_out and place == 1
                    else "",
                    f"{attempt.number}" if attempt.number else "",
                    _bar(attempt, scale, width),
                    duration((attempt.ended or scale.end) - attempt.began),
                    Text(attempt.outcome.value, style=_STYLES[attempt.outcome]),
                )
            )
    print_line("")
    columns = [
        column("#", right=True),
        column("step", cut=True),
        column("try", right=True),
        column(""),
    ]
    print_table([*columns, column("took", right=True), column("")], rows)


def _bar(attempt: AttemptView, scale: TimeScale, width: int) -> Text:
    begin = scale.place(attempt.began) * width / 100
    length = scale.place(attempt.ended or scale.end) * width / 100 - begin
    drawn = bar(max(length, 1.0))
    start = min(int(begin), width - len(drawn))
    return Text(" " * start).append(drawn, style=_STYLES[attempt.outcome])


def _print_children(story: FlowStory) -> None:
    for children in story.children:
        print_line("")
        flows = counted(children.submitted, "flow")
        print_line(shown(f"step {children.step_id} has run {flows}: {children.in_words}"))
        rows: list[tuple[Cell, ...]] = [
            (
                str(child.item),
                str(child.flow_id),
                Text(child.state, style=_CHILD_STYLES[child.state]),
            )
            for child in children.listed[:MOST_CHILDREN]
        ]
        print_table([column("item", right=True), column("flow"), column("")], rows)
        if (more := children.submitted - len(rows)) > 0:
            print_line(f"and {more:,} more")


def _print_branches(story: FlowStory) -> None:
    """Print the tree of branches, in which the flow itself is marked."""
    tree = story.branches
    if not tree.flows:
        return
    rows: list[tuple[Cell, ...]] = [
        (
            stem + str(each.flow_id),
            Text("not stored", style="red")
            if each.state is None
            else Text(each.state, style=_CHILD_STYLES[each.state]),
            "this flow" if each.is_shown else "",
            shown(one_line(each.in_words)),
        )
        for each, stem in zip(tree.flows, _stems(tree.flows), strict=True)
    ]
    print_line("")
    print_table([column("branches"), column(""), column(""), column("", fold=True)], rows)
    if not tree.is_whole:
        print_line(f"only the first {len(rows):,} flows of the tree")


def _stems(flows: Sequence[BranchView]) -> list[str]:
    """Return the lines that lead to the flows of a tree, which are in the order of a walk."""
    stems: list[str] = []
    goes_on: set[int] = set()  # the generations of which another flow follows below
    for each in reversed(flows):
        if level := each.generation:
            lines = ("│  " if above in goes_on else "   " for above in range(1, level))
            stems.append("".join(lines) + ("├─ " if level in goes_on else "└─ "))
        else:
            stems.append("")
        goes_on = {above for above in goes_on if above < level} | {level}
    return stems[::-1]


def _print_artifacts(story: FlowStory) -> None:
    if not story.artifacts:
        return
    rows: list[tuple[Cell, ...]] = []
    for artifact in story.artifacts[:MOST_ARTIFACTS]:
        described = artifact.described
        if described is None:
            rows.append(
                (
                    hash_prefix(artifact.hash),
                    Text("is not stored", style="red"),
                    "",
                    shown(artifact.role),
                )
            )
            continue
        size = "" if described.content_bytes is None else size_of(described.content_bytes)
        what = f"{described.kind} ({described.media_type})" if size else described.kind
        rows.append((hash_prefix(artifact.hash), shown(what), size, shown(artifact.role)))
    print_line("")
    print_table(
        [
            column("artifact"),
            column("kind", cut=True),
            column("size", right=True),
            column("is", cut=True),
        ],
        rows,
    )
    if len(story.artifacts) > MOST_ARTIFACTS:
        print_line(f"and {len(story.artifacts) - MOST_ARTIFACTS:,} more: --json has them all")


def _print_preferences(story: FlowStory) -> None:
    """Print what policies have chosen, and by which scores."""
    if story.preferences:
        print_line("")
    for preference in story.preferences:
        print_line(Text("choice ", style="cyan"), shown(one_line(event_line(preference).sentence)))


def _print_programs(story: FlowStory) -> None:
    """Print what ran the flow: from which event to which, where, and the versions."""
    if not story.programs:
        return
    rows: list[tuple[Cell, ...]] = [
        (
            ran.events,
            shown(f"begun by {ran.where}" if ran.only_began else ran.where),
            shown(ran.in_words),
        )
        for ran in story.programs[:MOST_PROGRAMS]
    ]
    print_line("")
    print_table([column("events"), column("what ran"), column("", fold=True)], rows)
    if (more := len(story.programs) - len(rows)) > 0:
        print_line(f"and {more:,} more")


def _print_errors(story: FlowStory) -> None:
    errors = [
        (step, attempt, attempt.error)
        for step in story.steps
        for attempt in step.attempts
        if attempt.error is not None
    ]
    if errors:
        print_line("")
    for step, attempt, error in errors:
        print_line(
            Text("error ", style="red"),
            shown(f"in {step.id}, try {attempt.number}: ")
            + shown_error(error.error_class, error.message),
        )


def _print_pauses(story: FlowStory) -> None:
    """Print what a flow waits for: its unanswered questions, a time, its children, or a retry."""
    state = story.summary.state
    running = {each.step_index: each.running for each in story.children}
    lines: list[tuple[Text, str]] = []
    for step in story.steps:
        last = step.attempts[-1] if step.attempts else None
        if last is None:
            continue
        if state is FlowState.AWAITING_USER_INPUT and is_unanswered(last):
            hint = f": {last.question}" if last.question else ""
            lines.append((Text("question ", style="cyan"), f"in {step.id}{hint}"))
        elif (
            state is FlowState.WAITING and last.outcome is AttemptOutcome.WAITED and not last.ended
        ):
            if count := running.get(step.index):
                what = f"for {counted(count, 'flow')} that it runs"
            else:
                when = f"{shown_time(last.until)} UTC" if last.until else "something happens"
                what = f"until {when}"
            lines.append((Text("waits ", style="blue"), f"in {step.id} {what}"))
        elif state is FlowState.RUNNING and last.retry_at is not None:
            when = f"{shown_time(last.retry_at)} UTC"
            lines.append((Text("retries ", style="blue"), f"{step.id} not before {when}"))
    if lines:
        print_line("")
    for label, text in lines:
        print_line(label, shown(one_line(text)))
