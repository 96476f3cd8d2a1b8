"""The command `diff`."""

from collections.abc import Sequence
from uuid import UUID

import msgspec

from chem_persistence.cli.database import open_database
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.lookup import definition_of, find_flow
from chem_persistence.cli.options import Target
from chem_persistence.cli.terminal.printing import column, print_json, print_line, print_table
from chem_persistence.cli.terminal.text import one_line, shown
from chem_persistence.domain.artifacts import is_content_hash
from chem_persistence.domain.definition import Difference as DefinitionDifference
from chem_persistence.domain.definition import FlowDefinition, definition_differences
from chem_persistence.domain.instance import StepSlot, StepStatus
from chem_persistence.postgres.event_store import PgEventStore
from chem_persistence.views.agreement import Tolerance
from chem_persistence.views.compared_flows import (
    FirstDifference,
    OutputDifference,
    compare_outputs,
    first_difference,
)
from chem_persistence.views.observed_flow import ObservedFlow, replay_observed
from chem_persistence.views.origin.programs import version_differences
from chem_persistence.views.wording import counted, hash_prefix, value_text

__all__ = ["Difference", "compare_flows"]

Value = str | list[str] | None

MOST_VALUES, MOST_SHOWN = 10_000, 20
"""The numbers of differing values that are in the JSON, and printed."""

_HASHES = {"definition", "input", "fingerprint", "outputs"}


class Difference(msgspec.Struct, frozen=True):
    """A difference between two flows; `step` is None if it concerns the whole flow."""

    step: int | None
    what: str
    left: Value
    right: Value


async def compare_flows(
    target: Target, left: str, right: str, tolerance: tuple[float, float], *, as_json: bool
) -> int:
    """Print what differs between two flows; return FOUND if anything does."""
    async with open_database(target) as provider:
        ids = [await find_flow(provider, name) for name in (left, right)]
        store = PgEventStore(provider)
        flows = [await store.list(flow_id) for flow_id in ids]
        definitions = [await definition_of(store, events) for events in flows]
        own, other = [
            replay_observed(flow_id, events, None, definition)
            for flow_id, events, definition in zip(ids, flows, definitions, strict=True)
        ]
        both = own.instance, other.instance
        values = await compare_outputs(store, *both, Tolerance(*tolerance))
    differences = _with_definitions(_differences(_compared(own), _compared(other)), *definitions)
    first = first_difference(*both, (definitions[0], definitions[1]))
    same = not differences or _are_close(differences, values)
    versions = version_differences(*flows)
    if as_json:
        print_json(
            {
                "left": ids[0],
                "right": ids[1],
                "same": same,
                "first": first,
                "differences": differences,
                "values": values[:MOST_VALUES],
                "versions": versions,
            }
        )
    else:
        _print(ids, differences, first, values)
        if differences and same:
            print_line("the same within the tolerance")
        if versions:  # that is no difference between the results
            print_line(shown(f"run with: {'; '.join(each.in_words for each in versions)}"))
    return ExitCode.WELL if same else ExitCode.FOUND


def _are_close(differences: Sequence[Difference], values: Sequence[OutputDifference]) -> bool:
    """Return whether two flows differ only by values that are within the tolerance."""
    hashes = all(each.what in {"outputs", "fingerprint"} for each in differences)
    return hashes and bool(values) and all(each.is_close for each in values)


def _with_definitions(
    differences: list[Difference], left: FlowDefinition | None, right: FlowDefinition | None
) -> list[Difference]:
    """Add what differs between the definitions, if both are stored: versions and parameters."""
    if left is None or right is None:
        return differences
    places = {step.id: index for index, step in enumerate(left.steps)}
    places |= {step.id: index for index, step in enumerate(right.steps)}
    found = [
        Difference(None if each.step is None else places[each.step], *_values(each))
        for each in definition_differences(left, right)
    ]
    return sorted([*differences, *found], key=lambda each: -1 if each.step is None else each.step)


def _values(each: DefinitionDifference) -> tuple[str, Value, Value]:
    what = "order of the steps" if each.what == "order" else each.what
    return what, each.left, each.right


def _compared(observed: ObservedFlow) -> dict[tuple[int | None, str], Value]:
    """Return everything that is compared of a flow."""
    values: dict[tuple[int | None, str], Value] = {
        (None, "definition"): observed.definition_hash,
        (None, "input"): observed.instance.input,
        (None, "state"): observed.state.value,
        (None, "fingerprint"): observed.flow_fingerprint,
    }
    for index, slot in enumerate(observed.instance.steps):
        values |= {(index, what): value for what, value in _of_step(slot).items()}
    return values


def _of_step(slot: StepSlot) -> dict[str, Value]:
    return {
        "id": slot.step_id or None,
        "status": slot.status.value,
        "fingerprint": slot.fingerprint,
        "outputs": list(slot.outputs),
        "error": _standing_error(slot),
    }


def _standing_error(slot: StepSlot) -> str | None:
    """Return the error of a failed step; one before a retry is not part of the result."""
    if slot.error is None or slot.status is not StepStatus.FAILED:
        return None
    return f"{slot.error.error_class}: {slot.error.message}"


def _differences(
    left: dict[tuple[int | None, str], Value], right: dict[tuple[int | None, str], Value]
) -> list[Difference]:
    keys = dict.fromkeys([*left, *right])  # in order: the flow, then its steps
    return [
        Difference(step, what, left.get((step, what)), right.get((step, what)))
        for step, what in sorted(keys, key=lambda key: -1 if key[0] is None else key[0])
        if (left.get((step, what)) or None)
        != (right.get((step, what)) or None)  # no outputs are as no step
        and not (
            what == "id" and None in {left.get((step, what)), right.get((step, what))}
        )  # not known
    ]


def _print(
    ids: Sequence[UUID],
    differences: Sequence[Difference],
    first: FirstDifference | None,
    values: Sequence[OutputDifference],
) -> None:
    if not differences:
        print_line("the same: definition, input, steps, outputs and fingerprints")
        return
    rows = [
        (
            "flow" if difference.step is None else f"step {difference.step}",
            difference.what,
            _said(difference.what, difference.left),
            _said(difference.what, difference.right),
        )
        for difference in differences
    ]
    print_line(f"left   {ids[0]}")
    print_line(f"right  {ids[1]}")
    print_line("")
    print_table(
        [column(""), column(""), column("left", fold=True), column("right", fold=True)], rows
    )
    print_line(counted(len(differences), "difference"))
    if first is not None:
        named = f"step {first.step}" + ("" if first.step_id is None else f" ({first.step_id})")
        print_line(shown(one_line(f"first: {named}, because of {', '.join(first.because)}")))
    if shown_values := [each for each in values if each.path is not None]:
        print_line("")
        _print_values(shown_values)


def _print_values(values: Sequence[OutputDifference]) -> None:
    """Print the values that differ, or the first of them."""
    columns = [
        column("step", right=True),
        column("path", fold=True),
        column("left", fold=True),
        column("right", fold=True),
        column(""),
    ]
    rows = [
        (
            str(each.step) if not each.output else f"{each.step}, output {each.output}",
            shown(each.path or ""),
            shown(value_text(each.left)),
            shown(value_text(each.right)),
            "close" if each.is_close else "",
        )
        for each in values[:MOST_SHOWN]
    ]
    print_table(columns, rows)
    if len(values) > MOST_SHOWN:
        print_line(f"and {len(values) - MOST_SHOWN:,} more values: --json")


def _said(what: str, value: Value) -> str:
    """Return a value as the text of a cell, with hashes shortened."""
    if not value:
        return "none"
    texts = value if isinstance(value, list) else [value]
    return ", ".join(
        hash_prefix(text) if what in _HASHES and is_content_hash(text) else shown(one_line(text))
        for text in texts
    )
