"""The reader of what ``torch.save`` wrote, for files of unknown origin.

``torch.load`` with ``weights_only=True`` executes no code, but trusts the file: a storage that
states more numbers than its record holds is read past its end. Here every size is compared with
what there is, and nothing but tables, lists, plain values and plain tensors is made.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from math import prod
from typing import Any, ClassVar

import torch
from torch import Tensor

STORAGES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
"""The kinds of numbers, by the names that archives have for them."""

MAX_DIMENSIONS = 16


OPCODES = frozenset(
    code[0]
    for code in (
        *(pickle.PROTO, pickle.STOP, pickle.MARK, pickle.BINPUT, pickle.LONG_BINPUT),
        *(pickle.BINGET, pickle.LONG_BINGET, pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE),
        *(pickle.BININT, pickle.BININT1, pickle.BININT2, pickle.LONG1, pickle.BINFLOAT),
        *(pickle.BINUNICODE, pickle.EMPTY_TUPLE, pickle.TUPLE, pickle.TUPLE1, pickle.TUPLE2),
        *(pickle.TUPLE3, pickle.EMPTY_LIST, pickle.APPEND, pickle.APPENDS, pickle.EMPTY_DICT),
        *(pickle.SETITEM, pickle.SETITEMS, pickle.GLOBAL, pickle.REDUCE, pickle.BINPERSID),
    )
)
"""What archives of tables, lists, plain values and tensors consist of."""


class ArchiveError(ValueError):
    """An archive that does not hold what it states."""


def read_archive(raw: bytes | memoryview) -> Any:
    """The tables, lists, plain values and tensors of an archive; tensors share no memory.

    Raises:
        ArchiveError: it holds something else, or a tensor is larger than its record.

    Example:
        >>> buffer = io.BytesIO()
        >>> torch.save({"a": torch.ones(2, 2).T}, buffer)
        >>> read_archive(buffer.getvalue())
        {'a': tensor([[1., 1.],
                [1., 1.]])}
    """
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        entries = archive.infolist()
        if sum(entry.file_size for entry in entries) > len(raw):
            raise ArchiveError("it states more than it holds")
        records = {entry.filename.partition("/")[2]: archive.read(entry) for entry in entries}
    if "data.pkl" not in records:
        raise ArchiveError("it has no record data.pkl")
    if records.get("byteorder", b"little") != b"little":
        raise ArchiveError("its numbers are of another byte order")
    return _Reader(records).load()


class _Kind:
    """A storage's class, of which only the dtype is read."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype


# The one in Python, whose memory does not depend on numbers that the file states.
class _Reader(pickle._Unpickler):
    """An unpickler that knows the two classes of an archive and no other."""

    dispatch: ClassVar[Any] = {
        code: step for code, step in pickle._Unpickler.dispatch.items() if code in OPCODES
    }

    def __init__(self, records: Mapping[str, bytes]) -> None:
        super().__init__(io.BytesIO(records["data.pkl"]))
        self.records = records

    def load_build(self) -> None:
        """Leaves out the attributes of a table, such as the versions of a model's layers."""
        reader: Any = self
        reader.stack.pop()

    dispatch[pickle.BUILD[0]] = load_build

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if module == "torch" and name in STORAGES:
            return _Kind(STORAGES[name])
        raise ArchiveError(f"it holds a {module}.{name}")

    def persistent_load(self, stated: Any) -> Tensor:
        """The numbers of a storage, all of its record."""
        if not isinstance(stated, tuple) or len(stated) != 5 or stated[0] != "storage":
            raise ArchiveError("it holds an unknown kind of reference")
        _, kind, key, _, count = stated
        if not isinstance(kind, _Kind) or not isinstance(key, str) or type(count) is not int:
            raise ArchiveError("it holds a storage of an unknown kind")
        record = self.records.get(f"data/{key}")
        if record is None or len(record) != count * kind.dtype.itemsize:
            held = "no such record" if record is None else f"{len(record)} bytes"
            raise ArchiveError(f"storage {key} states {count} numbers and holds {held}")
        if not count:
            return torch.empty(0, dtype=kind.dtype)
        if kind.dtype == torch.bool and max(record) > 1:
            raise ArchiveError(f"storage {key} holds truth values that are none")
        return torch.frombuffer(bytearray(record), dtype=kind.dtype)


def _tensor(
    storage: Any, offset: Any, size: Any, stride: Any, requires_grad: Any, hooks: Any, *rest: Any
) -> Tensor:
    """A tensor of its own, of which every number lies inside the storage."""
    whole = isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride)
    if not whole or len(size) > MAX_DIMENSIONS or not torch.is_tensor(storage):
        raise ArchiveError("a tensor has no shape")
    if any(type(one) is not int or one < 0 for one in (offset, *size, *stride)):
        raise ArchiveError("a tensor has a shape that is no list of whole numbers")
    if rest and rest != (None,) and rest != ({},):
        raise ArchiveError("a tensor has settings that are unknown here")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 not in size and (last >= len(storage) or prod(size) > len(storage)):
        raise ArchiveError(f"a tensor of shape {size} is larger than its storage")
    if 0 in size:
        return torch.empty(size, dtype=storage.dtype)
    return storage.as_strided(size, stride, offset).clone(memory_format=torch.contiguous_format)
