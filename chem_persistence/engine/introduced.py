"""Which flows an engine has left as they are: what runs them is in their logs already."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

from chem_persistence.domain.instance import FlowInstance
from chem_persistence.engine.flow import Flow
from chem_persistence.store.program.what_ran import beginning, introduction

__all__ = ["Introduced"]

MOST_FLOWS = 1_000
"""The number of flows that are remembered, those that were run last."""


class Introduced:
    """Remembers at which version an engine has left its flows.

    A flow that is at another one, or was forgotten, may have been run by another process since: the
    next append says again what runs it.
    """

    def __init__(self) -> None:
        self._versions: OrderedDict[object, int] = OrderedDict()

    def introduction(
        self, instance: FlowInstance, flow: Flow[Any, Any]
    ) -> Mapping[str, Any] | None:
        """Return the metadata of the next append of a flow; None if it was left by this engine."""
        records = flow.records
        if instance.version == 0:
            return beginning(records, flow.parameter_layers)
        is_known = self._versions.get(instance.id) == instance.version
        return None if is_known else introduction(None, records)

    def leave(self, instance: FlowInstance) -> None:
        """Remember a flow whose events say what has run it until now."""
        self._versions[instance.id] = instance.version
        self._versions.move_to_end(instance.id)
        if len(self._versions) > MOST_FLOWS:
            self._versions.popitem(last=False)
