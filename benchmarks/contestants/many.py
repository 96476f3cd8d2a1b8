"""chem_persistence, the appends of many flows by one caller; by itself, for versions without it."""

from benchmarks.contestants.load import Load, Slice, drive
from benchmarks.contestants.ours import Events
from chem_persistence import FlowAppend

__all__ = ["Many"]


class Many(Events):
    """One event of each flow, as `Events` has them, by one call of `append_many`."""

    async def run(self, load: Load) -> Slice:
        """Run a slice with one task for all flows."""
        flows = [self._events() for _ in range(load.flows)]

        async def append() -> int:
            ahead = (next(events) for events in flows)
            answers = await self._store.append_many(
                [FlowAppend(flow_id, (kind,), (), version) for flow_id, version, kind in ahead]
            )
            if not all(isinstance(answer, list) for answer in answers):
                raise AssertionError(answers)
            return len(answers)

        return await drive([append], load)
