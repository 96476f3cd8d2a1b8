"""numpy arrays as bytes: the NPY format, version 1.0 (numpy manual, `numpy.lib.format`).

The header is written here, since numpy's own differs between its versions: equal arrays shall have
equal bytes. Data is little-endian and in C order. numpy is imported only to read.
"""

import io
import math
import sys
from importlib import import_module
from typing import Any

from chem_persistence.errors import InvalidArgument

__all__ = ["NPY_MEDIA_TYPE", "read_npy", "write_npy"]

NPY_MEDIA_TYPE = "application/x-npy"

_MAGIC = b"\x93NUMPY\x01\x00"
_ALIGNMENT = 64


def write_npy(array: Any) -> tuple[bytes, dict[str, Any]]:
    """Return an array's bytes, and a description of it: `dtype` and `shape`.

    Raises:
        InvalidArgument: it is not a numpy array, holds Python objects, or has masked values.
    """
    numpy: Any = sys.modules.get("numpy")
    if numpy is None or not isinstance(array, numpy.ndarray):
        raise InvalidArgument(
            "array", f"must be a numpy array, not {type(array).__qualname__}: use `numpy.asarray`"
        )
    if array.dtype.hasobject:
        raise InvalidArgument("array", "holds Python objects, which need pickle: convert it")
    if isinstance(array, numpy.ma.MaskedArray) and numpy.ma.is_masked(array):
        raise InvalidArgument("array", "has masked values: fill them (`array.filled(...)`)")
    data = numpy.asarray(array, dtype=array.dtype.newbyteorder("<"), order="C")
    descr = numpy.lib.format.dtype_to_descr(data.dtype)
    header = f"{{'descr': {descr!r}, 'fortran_order': False, 'shape': {data.shape!r}, }}".encode()
    length = math.ceil((len(_MAGIC) + 2 + len(header) + 1) / _ALIGNMENT) * _ALIGNMENT
    header = header.ljust(length - len(_MAGIC) - 3) + b"\n"
    if len(header) >= 2**16:
        raise InvalidArgument("array", "has a dtype whose description is too long")
    content = _MAGIC + len(header).to_bytes(2, "little") + header + data.tobytes()
    return content, {"dtype": str(data.dtype), "shape": [int(size) for size in data.shape]}


def read_npy(content: bytes) -> Any:
    """Return the array that bytes in the NPY format hold.

    Raises:
        InvalidArgument: they are not in that format or need pickle, or numpy is not installed.
    """
    try:
        npy: Any = import_module("numpy.lib.format")  # optional: only for those who store arrays
    except ImportError:
        raise InvalidArgument("artifact", "holds an array: pip install numpy") from None

    try:
        return npy.read_array(io.BytesIO(content), allow_pickle=False)
    except (ValueError, SyntaxError, EOFError) as error:
        raise InvalidArgument(
            "artifact", f"its content is not in the NPY format: {error}"
        ) from error
