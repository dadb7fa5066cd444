"""Small files of every format, made without the code under test."""

import gzip
import struct
import zlib

import numpy as np

IDX_CODES = {"u1": 8, "i1": 9, ">i2": 11, ">i4": 12, ">f4": 13, ">f8": 14}


def idx(values, code="u1"):
    values = np.asarray(values)
    dimensions = struct.pack(f">{values.ndim}I", *values.shape)
    return bytes([0, 0, IDX_CODES[code], values.ndim]) + dimensions + values.astype(code).tobytes()


def element(kind, data, order="<"):
    return struct.pack(f"{order}II", kind, len(data)) + data + bytes(-len(data) % 8)


def matrix(name, values, order="<", *, kind=2, mx_class=9, flags=0, shape=None, data=None):
    """A variable of a MAT-file; by default uint8."""
    shape = np.shape(values) if shape is None else shape
    data = np.asarray(values, "u1").tobytes(order="F") if data is None else data
    parts = [
        element(6, struct.pack(f"{order}II", mx_class | flags, 0), order),
        element(5, struct.pack(f"{order}{len(shape)}i", *shape), order),
        element(1, name.encode("latin-1"), order),
        element(kind, data, order),
    ]
    return element(14, b"".join(parts), order)


def compressed(variable, order="<"):
    packed = zlib.compress(variable)
    return struct.pack(f"{order}II", 15, len(packed)) + packed


def mat(*variables, order="<", version=0x0100):
    mark = {"<": b"IM", ">": b"MI"}[order]
    return b"MATLAB 5.0".ljust(124) + struct.pack(f"{order}H", version) + mark + b"".join(variables)


def nested_cells(name, depth):
    """A cell in a cell in a cell ..., which makes a reader that follows it fall over."""
    heading = (
        element(6, struct.pack("<II", 1, 0))
        + element(5, struct.pack("<2i", 1, 1))
        + element(1, b"")
    )
    size, parts = 0, []
    for _ in range(depth):
        size += len(heading)
        parts.append(struct.pack("<II", 14, size) + heading)
        size += 8
    inner = b"".join(reversed(parts))
    named = element(6, struct.pack("<II", 1, 0)) + element(5, struct.pack("<2i", 1, 1))
    return element(14, named + element(1, name.encode()) + inner)


def zipped(contents):
    return gzip.compress(contents, mtime=0)


def tfd(images, labs_ex, labs_id):
    """A file of the structure of TFD_48x48.mat; labels are int16 columns."""

    def column(name, values):
        packed = np.asarray(values, "<i2")
        return matrix(
            name, None, kind=3, mx_class=10, shape=(len(packed), 1), data=packed.tobytes()
        )

    folds = np.zeros((len(images), 5))
    return mat(
        compressed(matrix("folds", folds)),
        compressed(matrix("images", images)),
        compressed(column("labs_ex", labs_ex)),
        compressed(column("labs_id", labs_id)),
    )
