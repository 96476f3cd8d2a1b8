"""What telemetry records of an error: its class and SQLSTATE.

Its message is left out, because it may quote payloads.
"""

__all__ = ["error_class", "failure_cause"]


def error_class(error: BaseException) -> str:
    """Return the name of an error's class, with its module unless that is Python's or ours."""
    cls = type(error)
    if cls.__module__ in {"builtins", "chem_persistence.errors"}:
        return cls.__qualname__
    return f"{cls.__module__}.{cls.__qualname__}"


def failure_cause(error: BaseException) -> str:
    """Return the SQLSTATE of a failed database call, or the class of its error if it has none."""
    return getattr(error, "sqlstate", None) or error_class(error)
