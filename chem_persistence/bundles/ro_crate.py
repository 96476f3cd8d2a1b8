"""The metadata of a bundle: a Provenance Run Crate, which other programs read.

Sources: RO-Crate 1.1 (https://w3id.org/ro/crate/1.1), Workflow RO-Crate 1.0, and the profiles
Process, Workflow and Provenance Run Crate 0.5 (https://w3id.org/ro/wfrun). A flow definition is a
workflow, a step of it a tool and a step of the workflow, a flow the action that ran the workflow.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias

from chem_persistence.bundles.archive import Written
from chem_persistence.bundles.contents import BundledArtifact, BundledFlow, StepRun
from chem_persistence.domain.events import FlowCancelled, FlowCompleted

__all__ = ["crate_metadata"]

Entity: TypeAlias = dict[str, Any]

_CRATE = "https://w3id.org/ro/crate/1.1"
_WORKFLOW = "https://w3id.org/workflowhub/workflow-ro-crate/1.0"
_PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": "Process Run Crate",
    "https://w3id.org/ro/wfrun/workflow/0.5": "Workflow Run Crate",
    "https://w3id.org/ro/wfrun/provenance/0.5": "Provenance Run Crate",
}
_SHA256 = "https://w3id.org/ro/terms/workflow-run#sha256"
_ENGINE, _LANGUAGE, _LICENCE = "#engine", "#language", "#licence"
_PAGE = "https://pypi.org/project/chem-persistence/"


def crate_metadata(
    flows: Sequence[BundledFlow],
    artifacts: Sequence[BundledArtifact],
    written: Mapping[str, Written],
) -> bytes:
    """Return the file `ro-crate-metadata.json` of a bundle.

    `written` are the files of the archive so far. Nothing in it says when it was made, or by whom.
    """
    workflows = _workflows(flows, written)
    labels = {artifact.file: artifact for artifact in artifacts}
    files = {artifact.label.hash: file for file, artifact in labels.items()}
    graph = [*_root(flows, workflows, written), *_context_entities()]
    for name, content in written.items():
        if name not in workflows.values():
            graph.append(_file(name, content, labels.get(name)))
    for key, name in workflows.items():
        own = [flow for flow in flows if _key(flow) == key]
        graph += _workflow(key, own, name, written[name], labels.get(name))
    for flow in flows:
        graph += _run(flow, workflows[_key(flow)], files)
    context = [f"{_CRATE}/context", {"sha256": _SHA256}]
    return json.dumps({"@context": context, "@graph": graph}, indent=1, sort_keys=True).encode()


def _key(flow: BundledFlow) -> str:
    return flow.first.definition_hash if flow.first else str(flow.flow_id)


def _workflows(flows: Sequence[BundledFlow], written: Mapping[str, Written]) -> dict[str, str]:
    """Return the file that is the workflow of each definition: its own, or else the events."""
    workflows: dict[str, str] = {}
    for flow in flows:
        own = f"definitions/{_key(flow)}.json"
        workflows.setdefault(_key(flow), own if own in written else f"{flow.folder}/events.jsonl")
    return workflows


def _root(
    flows: Sequence[BundledFlow], workflows: Mapping[str, str], written: Mapping[str, Written]
) -> Iterator[Entity]:
    names = ", ".join(str(flow.flow_id) for flow in flows[:3])
    more = f" and {len(flows) - 3} more" if len(flows) > 3 else ""
    yield {
        "@id": "ro-crate-metadata.json",
        "@type": "CreativeWork",
        "about": {"@id": "./"},
        "conformsTo": [{"@id": _CRATE}, {"@id": _WORKFLOW}],
    }
    yield {
        "@id": "./",
        "@type": "Dataset",
        "name": f"Flow {names}{more}" if len(flows) == 1 else f"Flows {names}{more}",
        "description": "Flows with their events, in hash chains, and their artifacts",
        "datePublished": _time(max(flow.last_at for flow in flows)),
        "license": {"@id": _LICENCE},
        "conformsTo": [{"@id": profile} for profile in (*_PROFILES, _WORKFLOW)],
        "mainEntity": {"@id": next(iter(workflows.values()))},
        "mentions": [
            {"@id": f"#{what}/{flow.flow_id}"} for flow in flows for what in ("run", "organize")
        ],
        "hasPart": [{"@id": name} for name in (*written, "manifest.json", "verify.py")],
    }


def _context_entities() -> Iterator[Entity]:
    """Yield what is the same in every bundle."""
    for profile, name in {**_PROFILES, _WORKFLOW: "Workflow RO-Crate"}.items():
        version = profile.rpartition("/")[2]
        yield {"@id": profile, "@type": "CreativeWork", "name": name, "version": version}
    yield {
        "@id": _LICENCE,
        "@type": "CreativeWork",
        "name": "No licence is stated",
        "description": "Whoever made the flows decides what may be done with them",
    }
    described = {"name": "chem_persistence", "url": _PAGE}
    yield {"@id": _ENGINE, "@type": "SoftwareApplication", **described}
    yield {"@id": _LANGUAGE, "@type": "ComputerLanguage", **described}
    yield {
        "@id": "manifest.json",
        "@type": "File",
        "name": "SHA-256 of each file, and the end of each flow",
        "encodingFormat": "application/json",
    }
    yield {
        "@id": "verify.py",
        "@type": "File",
        "name": "Verifies the bundle: python3 -I verify.py BUNDLE",
        "encodingFormat": "text/x-python",
    }


def _file(name: str, content: Written, artifact: BundledArtifact | None) -> Entity:
    described = {
        "events.jsonl": ("The events of a flow, with their hash chain", "application/jsonl"),
        "page.html": ("The page of a flow", "text/html"),
        "artifacts.jsonl": ("The descriptions of the artifacts", "application/jsonl"),
        "anchors.jsonl": ("Heads of flows, recorded before the export", "application/jsonl"),
    }
    if artifact is not None:
        title, encoding = artifact.label.kind, artifact.label.media_type
    else:
        title, encoding = described[name.rpartition("/")[2]]
    return {
        "@id": name,
        "@type": "File",
        "name": title or name,
        "encodingFormat": encoding,
        "contentSize": str(content.size),
        "sha256": content.sha256,
    }


def _workflow(
    key: str,
    flows: Sequence[BundledFlow],
    name: str,
    content: Written,
    definition: BundledArtifact | None,
) -> Iterator[Entity]:
    """Yield a definition as a workflow, and its steps."""
    steps = {index: run.step_id for flow in flows for index, run in _steps(flow).items()}
    named = [flow.first.name for flow in flows if flow.first and isinstance(flow.first.name, str)]
    yield {
        **_file(name, content, definition),
        "@type": ["File", "SoftwareSourceCode", "ComputationalWorkflow", "HowTo"],
        "name": named[0] if named and named[0] else f"Flow definition {key[:12]}",
        "programmingLanguage": {"@id": _LANGUAGE},
        "hasPart": _named(f"#tool/{key}/{index}" for index in sorted(steps)),
        "step": _named(f"#step/{key}/{index}" for index in sorted(steps)),
    }
    for index, step_id in sorted(steps.items()):
        tool = f"#tool/{key}/{index}"
        yield {"@id": tool, "@type": "SoftwareApplication", "name": step_id or "step", "url": _PAGE}
        yield {
            "@id": f"#step/{key}/{index}",
            "@type": "HowToStep",
            "position": str(index),
            "workExample": {"@id": tool},
        }


def _steps(flow: BundledFlow) -> Mapping[int, StepRun]:
    """Return the steps of a flow by their index: one at least, since a workflow has parts."""
    defined = flow.definition.steps if flow.definition else ()
    steps = {index: StepRun(step.id) for index, step in enumerate(defined)} | flow.steps
    return steps or {0: StepRun("")}


def _run(flow: BundledFlow, workflow: str, files: Mapping[str, str]) -> Iterator[Entity]:
    """Yield the run of a flow, the runs of its steps, and what ties them together."""
    run, steps = f"#run/{flow.flow_id}", _steps(flow)
    given = [flow.first.input] if flow.first and flow.first.input else []
    objects = _named(files[each] for each in given)
    whole: Entity = {
        "@id": run,
        "@type": "CreateAction",
        "name": f"Run of flow {flow.flow_id}",
        "instrument": {"@id": workflow},
        "object": objects,
        "startTime": _time(flow.began),
        "endTime": _time(flow.last_at),
        "actionStatus": _status(flow),
    }
    for index, step in sorted(steps.items()):
        results = _named(files[each] for each in step.outputs)
        yield from _step_run(flow, index, step, objects, results)
        objects = results
    yield {**whole, "result": objects}
    yield {
        "@id": f"#organize/{flow.flow_id}",
        "@type": "OrganizeAction",
        "name": f"Execution of flow {flow.flow_id}",
        "instrument": {"@id": _ENGINE},
        "object": _named(f"#control/{flow.flow_id}/{index}" for index in sorted(steps)),
        "result": {"@id": run},
    }


def _step_run(
    flow: BundledFlow, index: int, step: StepRun, objects: Any, results: Any
) -> Iterator[Entity]:
    """Yield the run of a step, and what ties it to the step of the workflow."""
    run = f"#run/{flow.flow_id}/{index}"
    yield {
        "@id": run,
        "@type": "CreateAction",
        "name": f"Run of step {step.step_id}",
        "instrument": {"@id": f"#tool/{_key(flow)}/{index}"},
        "object": objects,
        "result": results,
        **_moments(step),
    }
    yield {
        "@id": f"#control/{flow.flow_id}/{index}",
        "@type": "ControlAction",
        "name": f"Control of step {step.step_id}",
        "instrument": {"@id": f"#step/{_key(flow)}/{index}"},
        "object": {"@id": run},
    }


def _named(ids: Iterable[str]) -> Any:
    """Return references to entities; one stands alone, as RO-Crate recommends."""
    named = [{"@id": each} for each in ids]
    return named[0] if len(named) == 1 else named


def _moments(step: StepRun) -> Entity:
    """Return when a step ran, and what became of it."""
    moments: Entity = {}
    if step.began is not None:
        moments["startTime"] = _time(step.began)
    if step.ended is not None:
        moments["endTime"] = _time(step.ended)
    if step.error is not None:
        moments["error"] = step.error
        return {**moments, "actionStatus": _STATUS.format("Failed")}
    if step.ended is not None:
        return {**moments, "actionStatus": _STATUS.format("Completed")}
    return {**moments, "actionStatus": _STATUS.format("Active" if moments else "Potential")}


_STATUS = "http://schema.org/{}ActionStatus"


def _status(flow: BundledFlow) -> str:
    match flow.ending:
        case FlowCompleted():
            return _STATUS.format("Completed")
        case FlowCancelled():
            return _STATUS.format("Failed")
        case _:
            return _STATUS.format("Active")


def _time(at: datetime) -> str:
    return at.isoformat(timespec="microseconds").replace("+00:00", "Z")
