"""Who caused a flow's events and why, by ranges of events."""

from msgspec.structs import replace

from chem_persistence.domain.canonical_json.encode import canonical_json
from chem_persistence.domain.events import FlowEvent
from chem_persistence.views.flow_view import Attribution
from chem_persistence.views.wording import short

__all__ = ["Attributions", "event_actor"]

MOST_ATTRIBUTIONS = 50


class Attributions:
    """The first ranges of events that have the same actor and reason; `count` is of all ranges."""

    def __init__(self) -> None:
        self.count = 0
        self.first: list[Attribution] = []
        self._last: Attribution | None = None

    def take(self, event: FlowEvent) -> None:
        """Add the next event to the last range, or begin a new one."""
        who, why = event_actor(event), _text(event, "reason")
        if not who and not why:
            return
        last = self._last
        if last and (last.who, last.why, last.last) == (who, why, event.version - 1):
            self._last = replace(last, last=event.version)
            self.first[self.count - 1 :] = [self._last]
        else:
            self._last = Attribution(who, why, event.version, event.version)
            self.first.append(self._last)
            self.count += 1
        del self.first[MOST_ATTRIBUTIONS:]


def event_actor(event: FlowEvent) -> str:
    """Return who caused an event, and on whose behalf, as its metadata have it."""
    given = [_text(event, key) for key in ("actor", "on_behalf_of")]
    return ", on behalf of ".join(name for name in given if name)


def _text(event: FlowEvent, key: str) -> str:
    value = event.metadata.get(key, "")
    return short(value if isinstance(value, str) else canonical_json(value).decode())
