"""The command `worker`."""

import sys
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from chem_persistence.cli.database import open_database
from chem_persistence.cli.exit import ExitCode
from chem_persistence.cli.flow_module import find_flows_of_module
from chem_persistence.cli.options import Target
from chem_persistence.cli.terminal.printing import print_json, print_line
from chem_persistence.engine.flow import Flow
from chem_persistence.errors import InvalidArgument
from chem_persistence.telemetry.prometheus import serve_metrics
from chem_persistence.worker.signals import stop_on_signals
from chem_persistence.worker.worker import Worker

__all__ = ["WorkerOptions", "run_worker"]

CONNECTIONS = 8


class WorkerOptions(NamedTuple):
    """How many flows run at once, limits such as cores=16, lengths of time in seconds.

    `metrics` is where they are served, such as 9464, or None.
    """

    at_once: int
    limits: Sequence[str]
    lease: float
    grace: float
    metrics: str | None


async def run_worker(target: Target, name: str, options: WorkerOptions, *, as_json: bool) -> int:
    """Run a worker of the flows that `name` names until it is told to stop."""
    flows = find_flows_of_module(name)
    metrics = None if options.metrics is None else serve_metrics(options.metrics)
    async with open_database(target, connections=CONNECTIONS) as provider:
        worker = Worker(
            provider,
            flows,
            at_once=options.at_once,
            limits=dict(map(_limit, options.limits)),
            lease=timedelta(seconds=options.lease),
            grace=timedelta(seconds=options.grace),
        )
        with stop_on_signals(worker.stop):  # who reads that it serves may stop it at once
            _print_what_it_serves(worker, flows, options, metrics, as_json=as_json)
            await worker.run()
    return ExitCode.WELL


def _print_what_it_serves(
    worker: Worker,
    flows: Sequence[Flow[Any, Any]],
    options: WorkerOptions,
    metrics: str | None,
    *,
    as_json: bool,
) -> None:
    at_once = options.at_once
    if as_json:
        definitions = sorted({flow.definition_hash for flow in flows})
        described = {"definitions": definitions, "at_once": at_once, "metrics": metrics}
        print_json({"worker": worker.id} | described)
    else:
        noun = "flow" if len(flows) == 1 else "flows"
        print_line(f"serving {len(flows)} {noun}, at most {at_once} at once; Ctrl-C stops")
        if metrics is not None:
            print_line(f"metrics: {metrics}")
    sys.stdout.flush()


def _limit(text: str) -> tuple[str, int]:
    name, _, number = text.partition("=")
    if not name or not number.isdecimal():
        raise InvalidArgument("--limit", f"must be like cores=16, not {text!r}")
    return name, int(number)
