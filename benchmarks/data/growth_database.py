"""The names of the databases that have grown."""

__all__ = ["events_of", "growth_database"]

_PREFIX = "growth_"


def growth_database(events: int) -> str:
    """Return the name of the database with this many events."""
    return f"{_PREFIX}{events}"


def events_of(database: str) -> int:
    """Return the number of events in a database of this name."""
    return int(database.removeprefix(_PREFIX))
