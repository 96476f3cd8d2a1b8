"""The names of the databases that have grown."""

__all__ = ["events_of", "growth_database"]

_PREFIX = "growth_"


def growth_database(events: int) -> str:
    """Name the database with so many events."""
    return f"{_PREFIX}{events}"


def events_of(database: str) -> int:
    """Give the number of events from the name."""
    return int(database.removeprefix(_PREFIX))
