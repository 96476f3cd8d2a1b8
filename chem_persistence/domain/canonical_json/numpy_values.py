"""Numbers of numpy as the Python numbers that they are.

numpy is never imported here: a value of it can exist only in a program that has imported it.
"""

import sys
from typing import Any, Final

__all__ = ["MAX_ARRAY_ITEMS", "NOT_NUMPY", "NotJson", "as_integer", "as_python"]

MAX_ARRAY_ITEMS = 10_000
"""An array of this many items is taken as nested lists; a larger one belongs in an artifact."""

NOT_NUMPY: Final = object()
"""The value is not one of numpy's."""


class NotJson(Exception):
    """A value of numpy that JSON does not have; its text is the reason."""


def as_python(value: Any) -> Any:
    """Return a scalar as a Python number, an array as the list of its rows, or `NOT_NUMPY`.

    Scalars are exact. `float32` and `float16` become the float64 that is written the same: 0.1, not
    0.10000000149011612. The rows of an array are arrays or scalars again.

    Raises:
        NotJson: a complex number, a time, bytes, a record, a masked value, a `longdouble` that no
            float64 equals, or an array of more than `MAX_ARRAY_ITEMS` items.
    """
    numpy: Any = sys.modules.get("numpy")
    if numpy is None or not hasattr(numpy, "ndarray"):  # it is being imported
        return NOT_NUMPY
    if isinstance(value, numpy.ndarray):
        return _array(value, numpy)
    if isinstance(value, numpy.generic):
        return _scalar(value, numpy)
    return NOT_NUMPY


def as_integer(value: Any) -> int | None:
    """Return an integer scalar as a Python integer, or None if the value is something else."""
    numpy: Any = sys.modules.get("numpy")
    if numpy is None or not hasattr(numpy, "ndarray"):
        return None
    is_integer = isinstance(value, numpy.integer) and not isinstance(value, numpy.timedelta64)
    return int(value) if is_integer else None


def _array(value: Any, numpy: Any) -> Any:
    masked = getattr(numpy, "ma", None)
    if masked is not None and isinstance(value, masked.MaskedArray) and masked.is_masked(value):
        raise NotJson("has masked values: fill them (`array.filled(...)`), or leave them out")
    if value.size > MAX_ARRAY_ITEMS:
        raise NotJson(
            f"is an array of {value.size:_} items, more than {MAX_ARRAY_ITEMS:_}: store it with "
            "`Artifact.from_array`, and keep the artifact's hash"
        )
    if isinstance(value, getattr(numpy, "matrix", ())):
        value = numpy.asarray(value)  # the rows of a matrix are matrices again, without end
    return list(value) if value.ndim else value[()]


def _scalar(value: Any, numpy: Any) -> Any:
    if isinstance(value, numpy.bool_):
        return bool(value)
    if isinstance(value, numpy.timedelta64 | numpy.datetime64):  # a timedelta64 is an integer
        raise NotJson(f"is a {type(value).__name__}: give a datetime with a time zone, or a number")
    if isinstance(value, numpy.integer):
        return int(value)
    if isinstance(value, numpy.floating):
        return _float(value, numpy)
    if isinstance(value, numpy.str_):
        return str(value)
    raise NotJson(f"cannot be JSON: numpy.{type(value).__name__}")


def _float(value: Any, numpy: Any) -> float:
    if isinstance(value, numpy.float32 | numpy.float16):
        return float(str(value))
    exact = float(value)
    if numpy.isfinite(value) and type(value)(exact) != value:
        raise NotJson("is a longdouble that no float64 equals: round it with `float()`")
    return exact
