"""Archives of arrays: what is read is no larger than its file allows, and nothing but numbers."""

import io
import math
import os
import zipfile
from pathlib import Path

import numpy as np
from numpy.lib import format as numpy_format

_UNPACKED = 100  # times the size of a file, after the first 2²⁰ bytes
_HEADERS = {
    (1, 0): numpy_format.read_array_header_1_0,
    (2, 0): numpy_format.read_array_header_2_0,
}


def read(path: str | Path) -> dict[str, bytes]:
    """The contents of an archive by name. Raises `ValueError` for names that come twice and for
    contents that cannot be what such a small file was made of."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if len({entry.filename for entry in entries}) < len(entries):
            raise ValueError("it has two entries of one name")
        if any(e.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED) for e in entries):
            raise ValueError("it is compressed in another way")
        size = sum(entry.file_size for entry in entries)
        if size > _UNPACKED * os.path.getsize(path) + 2**20:
            raise ValueError(f"it would unpack to {size} bytes")
        return {entry.filename: archive.read(entry) for entry in entries}


def npy(values: np.ndarray) -> bytes:
    """`values` in NumPy's format."""
    buffer = io.BytesIO()
    np.save(buffer, values, allow_pickle=False)
    return buffer.getvalue()


def array(content: bytes) -> np.ndarray:
    """What `npy` was made of. Raises `ValueError` for objects, and for a shape that does not go
    with the number of bytes, before any memory is taken for it."""
    buffer = io.BytesIO(content)
    version = numpy_format.read_magic(buffer)
    if version not in _HEADERS:
        raise ValueError(f"an array is of version {version} of NumPy's format")
    shape, fortran, dtype = _HEADERS[version](buffer)
    if dtype.kind in "OV" or (dtype.itemsize == 0 and dtype.kind not in "US"):
        raise ValueError(f"an array is of {dtype}")
    start = buffer.tell()
    if min(shape, default=0) < 0 or math.prod(shape) * dtype.itemsize != len(content) - start:
        raise ValueError(f"an array of {len(content) - start} bytes has shape {shape} of {dtype}")
    if dtype.itemsize == 0:
        return np.empty(shape, dtype)
    flat = np.frombuffer(content, dtype, offset=start)
    return flat.reshape(shape, order="F" if fortran else "C").copy(order="K")
