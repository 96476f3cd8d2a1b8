"""The arguments and options of the commands, with their help."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import typer

__all__ = [
    "AbsoluteTolerance",
    "Actor",
    "AnswerJson",
    "Answerer",
    "Application",
    "Archivist",
    "AsJson",
    "AtOnce",
    "AtStep",
    "Auditor",
    "Before",
    "BegunSince",
    "BranchLabel",
    "BranchReason",
    "BundleIn",
    "BundleOut",
    "BundleToVerify",
    "BundledAnchors",
    "ConsumerName",
    "Data",
    "Definition",
    "DueTime",
    "FailedWith",
    "FlowCode",
    "FlowInputs",
    "FlowName",
    "FlowNames",
    "Flows",
    "FlowsLabel",
    "FlowsName",
    "Follow",
    "Force",
    "FromStep",
    "GraceSeconds",
    "HashName",
    "HtmlPage",
    "InputAnchors",
    "Interval",
    "Label",
    "LeaseSeconds",
    "Limit",
    "LimitChanges",
    "Lines",
    "MetricsAddress",
    "ModuleFlow",
    "NewFlowCode",
    "NewFlowId",
    "NewPosition",
    "OtherFlow",
    "Output",
    "OutputAnchors",
    "Owner",
    "PartCount",
    "PoolSize",
    "Processes",
    "ProjectionName",
    "PublicKey",
    "Reader",
    "Reason",
    "RelativeTolerance",
    "ResourceLimit",
    "RoleOptions",
    "Roots",
    "Schema",
    "SeenEvents",
    "SeenPosition",
    "SetParams",
    "SigningKey",
    "StateName",
    "StepName",
    "TailedFlow",
    "Target",
    "Tree",
    "Url",
    "Version",
    "number",
]


class Target(NamedTuple):
    """The database of a command (a URL, an embedded server's data, or neither) and the schema."""

    database_url: str | None
    data: Path | None
    schema: str


class RoleOptions(NamedTuple):
    """The names of the roles, None for those that no option names."""

    owner: str | None
    application: str | None
    reader: str | None
    archivist: str | None

    def given(self) -> dict[str, str]:
        """Return the names that options give."""
        return {part: name for part, name in self._asdict().items() if name is not None}


def _argument(metavar: str, text: str) -> Any:
    return typer.Argument(metavar=metavar, help=text)


def _option(metavar: str, text: str, *names: str, default: str | bool = True) -> Any:
    """Describe an option; `default` is shown in its help instead of the parameter's."""
    return typer.Option(*names, metavar=metavar, help=text, show_default=default)


def number(
    metavar: str, text: str, *names: str, least: float, kind: type[int] | type[float] = int
) -> Any:
    """Describe an option whose value is a number of at least `least`."""
    noun = "a whole number" if kind is int else "a number"

    def parse(value: str | float) -> float:
        with suppress(ValueError):
            if (read := kind(value)) >= least:
                return read
        raise typer.BadParameter(f"{value} is not {noun} of at least {least}")

    return typer.Option(*names, metavar=metavar, help=text, parser=parse)


# ---- of most commands

Url = Annotated[
    str | None,
    _option(
        "URL",
        "The database, as libpq takes it. Without it: --data, else the variable DATABASE_URL, "
        "else the file .env, else an embedded server in your own data directory.",
    ),
]
Data = Annotated[
    Path | None,
    _option("DIRECTORY", "The data of an embedded server; that of `make demo` is in data/demo."),
]
Schema = Annotated[str, _option("NAME", "The schema that holds the tables.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
FlowName = Annotated[
    str, _argument("FLOW", "The id of a flow, or the beginning of only one flow's id.")
]
OtherFlow = Annotated[str, _argument("FLOW", "The flow that it is compared with.")]

# ---- of `demo` and `show`

HtmlPage = Annotated[
    Path | None, _option("FILE", "Write a page for a browser, complete in one file.")
]

# ---- of `flows`; the names are the values of FlowState, which would be imported for every help

StateName = Annotated[
    Literal[
        "pending", "running", "waiting", "awaiting_user_input", "failed", "completed", "cancelled"
    ]
    | None,
    _option(
        "STATE",
        "Only flows that are pending, running, waiting, awaiting_user_input, failed, completed or "
        "cancelled.",
    ),
]
Definition = Annotated[
    str | None,
    _option("HASH", "Only flows of this definition: its hash, or the beginning of only one hash."),
]
Before = Annotated[
    str | None, _option("FLOW", "Only flows that began before this one: the next page.")
]
Limit = Annotated[int, number("N", "List at most N flows.", "--limit", "-n", least=1)]
FlowsLabel = Annotated[str | None, _option("TEXT", "Only flows whose label begins so.")]
Roots = Annotated[bool, typer.Option("--roots", help="Leave out flows that others run.")]
AtStep = Annotated[str | None, _option("STEP", "Only flows that are at this step.")]
FailedWith = Annotated[str | None, _option("CLASS", "Only flows that failed with such an error.")]
BegunSince = Annotated[str | None, _option("TIME", "Only flows begun then or later (ISO 8601).")]

# ---- of `tail`

TailedFlow = Annotated[str | None, _argument("FLOW", "Only the events of this flow.")]
Lines = Annotated[int, number("N", "Print the last N events.", "--lines", "-n", least=0)]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Print new events too, until Ctrl-C.")]
Interval = Annotated[float, number("SECONDS", "How often --follow looks.", least=0.05, kind=float)]

# ---- of `replay`, `artifact get` and `rebuild`

Version = Annotated[
    str | None,
    _option("VERSION|TIME", "Up to this version, from 0 on, or this time (ISO 8601)."),
]
HashName = Annotated[
    str, _argument("HASH", "The hash of an artifact, or the beginning of only one hash.")
]
Output = Annotated[
    Path | None, _option("FILE", "Write a file: all bytes, or none.", "--output", "-o")
]
ProjectionName = Annotated[
    Literal["workflow_step_executions"],
    _argument("PROJECTION", "The only projection is workflow_step_executions."),
]

# ---- of `worker`

FlowsName = Annotated[
    str, _argument("FLOWS", "A flow, or a list of flows, in a module: package.module:flows.")
]
AtOnce = Annotated[int, number("N", "Run at most N flows at the same time.", least=1)]
MetricsAddress = Annotated[
    str | None,
    _option("[HOST:]PORT", "Serve metrics to Prometheus there; on 127.0.0.1 without a host."),
]
ResourceLimit = Annotated[
    list[str] | None,
    _option(
        "NAME=N",
        "What the steps of this process may use at once of a resource, such as cores=16; may be "
        "given several times.",
        default="no limit",
    ),
]
LimitChanges = Annotated[
    list[str] | None,
    _argument(
        "RESOURCE=N",
        "Limit a resource to N slots over all workers, such as gpu=4; gpu=none ends the limit.",
    ),
]
LeaseSeconds = Annotated[
    float,
    number(
        "SECONDS",
        "For how long a flow is held without a renewal: so long after the death of a worker, "
        "others go on with its flows.",
        "--lease",
        least=1,
        kind=float,
    ),
]
GraceSeconds = Annotated[
    float,
    number(
        "SECONDS",
        "How long a worker that is told to stop waits for its steps, and how long a step may be "
        "past its time limit before others go on with its flow.",
        "--grace",
        least=0,
        kind=float,
    ),
]

ReuseReport = Annotated[
    bool,
    typer.Option(
        "--reuse", help="Print instead how often results were taken over, and what that saved."
    ),
]

# ---- of `submit`, `retry` and `cancel`

ModuleFlow = Annotated[str, _argument("FLOW", "A flow in a module: package.module:flow.")]
FlowInputs = Annotated[
    list[str] | None, _argument("INPUT", "Inputs as JSON; - reads one from each line of stdin.")
]
Label = Annotated[str | None, _option("TEXT", "What is shown beside the ids of the flows.")]
DueTime = Annotated[
    str | None,
    _option("TIME", "When the flows begin, by ISO 8601 with a time zone.", default="now"),
]
NewFlowId = Annotated[
    str | None,
    _option("UUID", "The id of the only flow; the same submission again then has no effect."),
]
NoReuse = Annotated[
    bool, typer.Option("--no-reuse", help="Run all steps; take no result of another flow over.")
]
Reason = Annotated[str, _option("TEXT", "Why, for the log.")]
Actor = Annotated[str | None, _option("NAME", "Who asks, for the log.")]
Answerer = Annotated[str, _option("NAME", "Who answers, for the log.")]
AnswerJson = Annotated[
    str, _option("JSON", "The answer, as the question's schema says; - reads it from stdin.")
]
FlowCode = Annotated[str, _argument("CODE", "The flow's code: package.module:flow.")]
NewFlowCode = Annotated[
    str | None,
    _argument("CODE", "The new flow's code: package.module:flow. Without it: the recorded steps."),
]
Auditor = Annotated[str, _option("NAME", "Who audits, for the log.")]
Invalidator = Annotated[str, _option("NAME", "Who says so, for the log.")]
RelativeTolerance = Annotated[
    float, number("X", "How far numbers may differ, by their size.", least=0, kind=float)
]
AbsoluteTolerance = Annotated[
    float, number("X", "How far they may differ beside.", least=0, kind=float)
]
FromStep = Annotated[
    str | None,
    _option("STEP", "The first step to run.", "--from", default="the first that differs"),
]
SetParams = Annotated[
    list[str] | None,
    _option(
        "STEP.NAME=JSON",
        "Set a parameter of a step, such as embed.iterations=500; may be repeated.",
        "--set",
        default="none",
    ),
]
BranchReason = Annotated[
    str | None, _option("TEXT", "Why, for the log.", default="what is set, or the first step")
]
BranchLabel = Annotated[str | None, _option("TEXT", "What is shown beside the id.")]
StepName = Annotated[str, _argument("STEP", "The id of a step.")]
Force = Annotated[
    bool, typer.Option("--force", help="Cancel at once, whatever a step has under way.")
]

# ---- of `doctor` and `roles`

PoolSize = Annotated[int, number("N", "Connections in the pool of each program.", least=1)]
Processes = Annotated[int, number("N", "Programs that have a pool.", least=1)]
Owner = Annotated[
    str | None,
    _option(
        "ROLE",
        "The role that owns the tables and migrates.",
        default="chem_owner, with the schema unless it is public",
    ),
]
Application = Annotated[
    str | None,
    _option("ROLE", "The role that reads and appends.", default="chem_application, likewise"),
]
Reader = Annotated[
    str | None, _option("ROLE", "The role that reads.", default="chem_reader, likewise")
]
Archivist = Annotated[
    str | None,
    _option("ROLE", "The role that reads and archives.", default="chem_archivist, likewise"),
]

# ---- of `verify`

Flows = Annotated[
    list[str] | None,
    _option("FLOW", "Only this flow, by its id or a beginning; repeatable.", "--flow"),
]
InputAnchors = Annotated[Path | None, _option("FILE", "Compare with the heads in this file.")]
PublicKey = Annotated[
    Path | None, _option("FILE", "Require that the anchors are signed: PEM, Ed25519.")
]
OutputAnchors = Annotated[Path | None, _option("FILE", "Write all heads, if nothing is found.")]
SigningKey = Annotated[Path | None, _option("FILE", "Sign the written anchors: PEM, Ed25519.")]

BundleToVerify = Annotated[
    Path | None, _argument("BUNDLE", "A bundle: it is verified instead of the log.")
]

# ---- of `export` and `import`

FlowNames = Annotated[list[str], _argument("FLOW...", "Flows, by their ids or beginnings of them.")]
BundleOut = Annotated[Path, _argument("FILE", "The bundle to write.")]
BundledAnchors = Annotated[
    Path | None,
    _option(
        "FILE", "Include the heads in this file, and compare the flows with them.", "--anchors"
    ),
]
BundleIn = Annotated[Path, _argument("FILE", "The bundle to read.")]
Tree = Annotated[
    bool, typer.Option("--tree", help="Also the children and branches of the flows, and of these.")
]

# ---- of `lost`

SeenPosition = Annotated[
    Path | None,
    _option("FILE", "A subscriber's position, or several of them, one a line.", "--position"),
]
SeenEvents = Annotated[
    Path | None,
    _option("FILE", "Events that a subscriber has, as `tail --json` prints them.", "--events"),
]

# ---- of `consumers`

ConsumerName = Annotated[str, _argument("NAME", "The name of a consumer.")]
NewPosition = Annotated[
    str, _option("SEQ", "The seq of the last event before it; 0 is the beginning, or end.", "--to")
]
PartCount = Annotated[int, typer.Argument(metavar="PARTS", help="1 to 256.", min=1, max=256)]
