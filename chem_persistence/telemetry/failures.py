"""What is told of an error: its class and its SQLSTATE, never its text, which may quote payloads."""

__all__ = ["error_class", "failure_cause"]


def error_class(error: BaseException) -> str:
    """Name an error's class, with its module unless that is Python's or the library's own."""
    cls = type(error)
    if cls.__module__ in {"builtins", "chem_persistence.errors"}:
        return cls.__qualname__
    return f"{cls.__module__}.{cls.__qualname__}"


def failure_cause(error: BaseException) -> str:
    """Name why a call of the database failed: its SQLSTATE if the server gave one, else its class."""
    return getattr(error, "sqlstate", None) or error_class(error)
