"""The commands about flows that are given to workers: their names, arguments and help.

What a command does is in `commands/operate/`, which is imported when it is called.
"""

from chem_persistence.cli import options as option
from chem_persistence.cli.exit import run
from chem_persistence.cli.options import AsJson, Data, FlowName, Schema, Target, Url

__all__ = [
    "COMMANDS",
    "answer",
    "audit",
    "branch",
    "cancel",
    "invalidate",
    "limits",
    "retry",
    "submit",
    "waiting",
    "worker",
    "workers",
]


def worker(
    flows: option.FlowsName,
    at_once: option.AtOnce = 64,
    limit: option.ResourceLimit = None,
    lease: option.LeaseSeconds = 30,
    grace: option.GraceSeconds = 20,
    metrics: option.MetricsAddress = None,
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """Run the flows of a module that are given to workers, until Ctrl-C or SIGTERM.

    Any number of workers may serve the same flows, on any number of machines. One that is told to
    stop lets its steps end for --grace seconds, and releases its flows to the others; told twice,
    it ends at once.
    """
    from chem_persistence.cli.commands.operate.worker import WorkerOptions, run_worker

    target = Target(database_url, data, schema)
    options = WorkerOptions(at_once, limit or [], lease, grace, metrics)
    run(lambda: run_worker(target, flows, options, as_json=as_json))


def submit(
    flow: option.ModuleFlow,
    inputs: option.FlowInputs = None,
    label: option.Label = None,
    due: option.DueTime = None,
    flow_id: option.NewFlowId = None,
    params: option.SetParams = None,
    no_reuse: option.NoReuse = False,
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """Submit a flow of a module to workers, once for each input, and print the ids.

    An input is a JSON value; the input - stands for the lines of standard input, a JSON value each.
    Without an input the flow is submitted once, with none. A worker that serves the flow runs it,
    whatever parameters are set.
    """
    from chem_persistence.cli.commands.operate.submit import SubmitOptions, submit_flows

    target = Target(database_url, data, schema)
    options = SubmitOptions(label, due, flow_id, params or (), reuse=not no_reuse)
    run(lambda: submit_flows(target, flow, inputs or [], options, as_json=as_json))


def retry(
    flow: FlowName,
    reason: option.Reason,
    actor: option.Actor = None,
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """Run the failed step of a flow again, as soon as a worker has claimed the flow."""
    from chem_persistence.cli.commands.operate.given_flow import retry_flow

    target = Target(database_url, data, schema)
    run(lambda: retry_flow(target, flow, reason, actor, as_json=as_json))


def cancel(
    flow: FlowName,
    reason: option.Reason,
    actor: option.Actor = None,
    force: option.Force = False,
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """Cancel a flow that is not completed; it never goes on.

    If one of its steps has waited, its worker is asked to end first what the step has under way.
    """
    from chem_persistence.cli.commands.operate.given_flow import cancel_flow

    target = Target(database_url, data, schema)
    run(lambda: cancel_flow(target, flow, reason, actor, force=force, as_json=as_json))


def answer(
    flow: FlowName,
    step: option.StepName,
    json: option.AnswerJson,
    actor: option.Answerer,
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
) -> None:
    """Answer the question of a step that waits for a person; its flow goes on.

    The command `waiting` lists the questions. The first answer counts.
    """
    from chem_persistence.cli.commands.operate.given_flow import answer_flow

    target = Target(database_url, data, schema)
    run(lambda: answer_flow(target, flow, step, json, actor))


def audit(
    flow: FlowName,
    code: option.FlowCode,
    actor: option.Auditor,
    rtol: option.RelativeTolerance = 0.0,
    atol: option.AbsoluteTolerance = 0.0,
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """Run a completed flow again, in memory, and compare what each step gives with the record.

    Its steps really run. Numbers agree within --atol plus --rtol times the recorded value. The
    result is stored with the flow. Exit code 1: a step gives something else.
    """
    from chem_persistence.cli.commands.operate.audit import audit_the_flow

    target, tolerance = Target(database_url, data, schema), (rtol, atol)
    run(lambda: audit_the_flow(target, flow, code, tolerance, actor, as_json=as_json))


def branch(
    flow: FlowName,
    code: option.NewFlowCode = None,
    from_step: option.FromStep = None,
    params: option.SetParams = None,
    reason: option.BranchReason = None,
    label: option.BranchLabel = None,
    actor: option.Actor = None,
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """Submit a flow that takes over the results of another one up to a step, and print its id.

    The new flow has the input of the old one. Steps before the first one that differs, in version
    or parameters, are not run again. With --set the steps have the parameters of the old flow, but
    for those that are set; without, those of the code. Without CODE a worker that has the code
    serves the branch if what was set fits it.
    """
    from chem_persistence.cli.commands.operate.submit import BranchOptions, branch_flow

    target = Target(database_url, data, schema)
    why = reason or ", ".join(params or ()) or f"from {from_step or 'the first other step'}"
    options = BranchOptions(why, from_step, label, actor, params or ())
    run(lambda: branch_flow(target, flow, code, options, as_json=as_json))


def invalidate(
    flow: FlowName,
    step: option.StepName,
    reason: option.Reason,
    actor: option.Invalidator,
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """Declare the result of a step invalid, so that no other flow takes it over from now on.

    The flow itself does not change, nor do those that have taken the result over: they are listed.
    A step that took its result over is refused: its origin is named.
    """
    from chem_persistence.cli.commands.operate.invalidate import invalidate_result

    target = Target(database_url, data, schema)
    run(lambda: invalidate_result(target, flow, step, reason, actor, as_json=as_json))


def waiting(
    limit: option.Limit = 20,
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """List the flows that were given to workers and that none runs, the longest due first.

    They are due, or wait for a time, a person, or the retry of a failed step. For each the workers
    are counted that serve its definition, and were seen in the last minute.
    """
    from chem_persistence.cli.commands.operate.waiting import list_waiting

    run(lambda: list_waiting(Target(database_url, data, schema), limit, as_json=as_json))


def workers(
    database_url: Url = None, data: Data = None, schema: Schema = "public", as_json: AsJson = False
) -> None:
    """List the workers that have not stopped: when each was seen, its flows, what it serves.

    One that was not seen for minutes has died, or cannot reach the database; its flows go on
    elsewhere.
    """
    from chem_persistence.cli.commands.operate.workers import list_the_workers

    run(lambda: list_the_workers(Target(database_url, data, schema), as_json=as_json))


def limits(
    changes: option.LimitChanges = None,
    database_url: Url = None,
    data: Data = None,
    schema: Schema = "public",
    as_json: AsJson = False,
) -> None:
    """List what steps may use at once over all workers, after setting limits.

    A step takes what it uses of a limited resource before it begins; its flow waits until that is
    free. For each resource the slots are listed, how many are used, how many flows wait, and which
    flows use it. If a limit is lowered, the steps that use more end as they would.
    """
    from chem_persistence.cli.commands.operate.limits import list_and_set_limits

    target = Target(database_url, data, schema)
    run(lambda: list_and_set_limits(target, changes or [], as_json=as_json))


COMMANDS = (
    worker,
    submit,
    retry,
    cancel,
    answer,
    audit,
    branch,
    invalidate,
    waiting,
    workers,
    limits,
)
"""The commands in the order of the help."""
