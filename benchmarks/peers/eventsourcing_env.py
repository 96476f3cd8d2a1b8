"""The settings with which eventsourcing finds its database."""

from collections.abc import Mapping
from urllib.parse import parse_qs, urlsplit

__all__ = ["environment"]


def environment(url: str, *, functions: bool = False) -> Mapping[str, str]:
    """Return the settings that its PostgreSQL factory reads; all others keep their defaults.

    With `functions` it inserts by a function in the database, an option that saves round trips.
    """
    place = urlsplit(url)
    query = parse_qs(place.query)
    return {
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": place.path.lstrip("/"),
        "POSTGRES_HOST": query["host"][0],
        "POSTGRES_PORT": query["port"][0],
        "POSTGRES_USER": "postgres",
        "POSTGRES_PASSWORD": "",
        "POSTGRES_ENABLE_DB_FUNCTIONS": "y" if functions else "n",
    }
