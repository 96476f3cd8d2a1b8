"""Fingerprints: equal work on equal input has the same one, in every run and every store.

Never hashed: time, ids, seq, attempts, waits, reasons, names, metadata, the library's version.
"""

from collections.abc import Sequence
from hashlib import sha256

from chem_persistence.domain.canonical_json.encode import content_hash
from chem_persistence.domain.instance import FlowInstance, StepStatus
from chem_persistence.errors import FlowNotCompleted

__all__ = ["flow_fingerprint", "step_fingerprint"]

SCHEMA = 1


def step_fingerprint(step_definition_hash: str, inputs: Sequence[str]) -> str:
    """Hash {schema, step, inputs}, before the step runs; `inputs` are artifact hashes, in order."""
    if _are_plain([step_definition_hash, *inputs]):
        own = f'{{"inputs":{_listed(inputs)},"schema":{SCHEMA},"step":"{step_definition_hash}"}}'
        return sha256(own.encode()).hexdigest()
    return content_hash({"schema": SCHEMA, "step": step_definition_hash, "inputs": list(inputs)})


def flow_fingerprint(definition_hash: str, instance: FlowInstance) -> str:
    """Hash {schema, definition, steps: [{fingerprint, outputs}, in step order]} of a flow.

    Raises:
        FlowNotCompleted: a step is not finished.
    """
    slots = instance.steps
    if any(slot.status is not StepStatus.FINISHED for slot in slots):
        raise FlowNotCompleted(instance.id)
    named = [name for slot in slots for name in (slot.fingerprint or "-", *slot.outputs)]
    if _are_plain([definition_hash, *named]):
        each = [
            f'{{"fingerprint":"{slot.fingerprint}","outputs":{_listed(slot.outputs)}}}'
            for slot in slots
        ]
        steps = f"[{','.join(each)}]"
        own = f'{{"definition":"{definition_hash}","schema":{SCHEMA},"steps":{steps}}}'
        return sha256(own.encode()).hexdigest()
    parts = [{"fingerprint": slot.fingerprint, "outputs": slot.outputs} for slot in slots]
    return content_hash({"schema": SCHEMA, "definition": definition_hash, "steps": parts})


def _are_plain(hashes: Sequence[str]) -> bool:
    """Return whether nothing in hashes is escaped in JSON, as nearly always."""
    text = "".join(hashes)
    return text.isascii() and text.isalnum()


def _listed(hashes: Sequence[str]) -> str:
    """Return the canonical JSON of a list of hashes that are plain."""
    listed = '","'.join(hashes)
    return f'["{listed}"]' if hashes else "[]"
