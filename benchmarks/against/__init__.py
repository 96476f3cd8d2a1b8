"""The library beside an earlier version of itself, in the same rounds on one server."""
