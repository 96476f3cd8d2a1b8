"""What the pages of the explorer read from."""

from dataclasses import dataclass

from starlette.requests import Request

from chem_persistence.explorer.changes import Changes
from chem_persistence.postgres.connection.ports import ConnectionProvider
from chem_persistence.postgres.event_store import PgEventStore
from chem_persistence.postgres.read_models import PgReadModels

__all__ = ["Sources", "sources_of"]


@dataclass(frozen=True)
class Sources:
    """A log: its connections, its events and artifacts, its read models, and its growth."""

    provider: ConnectionProvider
    store: PgEventStore
    models: PgReadModels
    changes: Changes

    @classmethod
    def of(cls, provider: ConnectionProvider) -> "Sources":
        """Return the sources over the connections of `provider`."""
        return cls(provider, PgEventStore(provider), PgReadModels(provider), Changes(provider))


def sources_of(request: Request) -> Sources:
    """Return the sources of the application that answers a request."""
    sources: Sources = request.app.state.sources
    return sources
