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
    text = "".join([step_definition_hash, *inputs])
    if text.isascii() and text.isalnum():  # hashes, as nearly always: nothing in them is escaped
        listed = '","'.join(inputs)
        listed = f'["{listed}"]' if inputs else "[]"
        own = f'{{"inputs":{listed},"schema":{SCHEMA},"step":"{step_definition_hash}"}}'
        return sha256(own.encode()).hexdigest()
    return content_hash({"schema": SCHEMA, "step": step_definition_hash, "inputs": list(inputs)})


def flow_fingerprint(definition_hash: str, instance: FlowInstance) -> str:
    """Hash {schema, definition, steps: [{fingerprint, outputs}, in step order]} of a flow.

    Raises:
        FlowNotCompleted: a step is not finished.
    """
    if any(slot.status is not StepStatus.FINISHED for slot in instance.steps):
        raise FlowNotCompleted(instance.id)
    steps = [{"fingerprint": slot.fingerprint, "outputs": slot.outputs} for slot in instance.steps]
    return content_hash({"schema": SCHEMA, "definition": definition_hash, "steps": steps})
