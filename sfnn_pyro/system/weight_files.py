"""Files of weights in the safetensors format, with what they are as metadata, and a checksum.

The reader checks sizes itself, executes nothing and reads nothing but numbers:
https://huggingface.co/docs/safetensors.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from sfnn_pyro.system.atomic_files import replacing
from sfnn_pyro.system.first_format import altered, check_kind, foreign
from sfnn_pyro.system.regular_files import SealError, read_whole

FORMAT = 2
"""The version that is written."""

LENGTH = 8
"""Bytes of the number with which a file begins, the length of its header."""

NO_DIGEST = "0" * 64
"""What stands in the place of the checksum while it is computed."""


def write_weights(
    path: Path, kind: str, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Writes tensors that any reader of safetensors opens.

    The metadata hold also ``kind``, and ``sha256``: the checksum of the whole file with 64 zeros
    in its place. The same contents are the same bytes.

    Arguments:
        path: where the file shall be; written whole or not at all.
        kind: what the file is, such as ``"model"``.
        tensors: by their names.
        metadata: texts by their names.

    Raises:
        WriteError: it cannot be written; what was there is unchanged.

    Example:
        >>> import tempfile, torch
        >>> from safetensors.torch import load_file
        >>> path = Path(tempfile.mkdtemp()) / "note.safetensors"
        >>> write_weights(path, "note", {"a": torch.ones(2)}, {"by": "me"})
        >>> load_file(path)
        {'a': tensor([1., 1.])}
        >>> read_weights(path, "note")
        ({'a': tensor([1., 1.])}, {'by': 'me'})
    """
    from safetensors.torch import save

    copies = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    stated = {**metadata, "kind": f"{kind} {FORMAT}", "sha256": NO_DIGEST}
    raw = _in_order(save(copies, stated))
    digest = hashlib.sha256(raw).hexdigest()
    start = LENGTH + _header_length(raw)
    with replacing(path) as file:
        file.write(_with_digest(raw[:start], NO_DIGEST, digest))
        file.write(raw[start:])


def read_weights(path: Path, kind: str) -> tuple[dict[str, Tensor], dict[str, str]]:
    """The tensors of a file of ``write_weights`` and its metadata.

    Arguments:
        path: the file.
        kind: what it must be.

    Raises:
        SealError: it cannot be read, is another file, of another version, cut or altered.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    raw = bytes(read_whole(path))
    try:
        tensors = load(raw)
        metadata = json.loads(raw[LENGTH : LENGTH + _header_length(raw)])["__metadata__"]
        stated, digest = metadata.pop("kind"), metadata.pop("sha256")
    except (SafetensorError, LookupError, AttributeError, TypeError, ValueError) as error:
        raise foreign(path) from error
    except RuntimeError as error:  # PyTorch, of a shape that it does not make
        first = str(error).partition("\n")[0]
        raise SealError(f"{path} holds no tensors that can be read ({first})") from error
    check_kind(stated, f"{kind} {FORMAT}", path)
    start = LENGTH + _header_length(raw)
    whole = hashlib.sha256(_with_digest(raw[:start], digest, NO_DIGEST))
    whole.update(memoryview(raw)[start:])
    if whole.hexdigest() != digest:
        raise altered(path)
    return tensors, metadata


def _header_length(raw: bytes) -> int:
    return int.from_bytes(raw[:LENGTH], "little")


def _with_digest(header: bytes, old: str, new: str) -> bytes:
    return header.replace(f'"sha256":"{old}"'.encode(), f'"sha256":"{new}"'.encode(), 1)


def _in_order(raw: bytes) -> bytes:
    """The same file with its metadata in order, which the library writes in a random one."""
    start = LENGTH + _header_length(raw)
    header = json.loads(raw[LENGTH:start])
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % LENGTH)
    return len(text).to_bytes(LENGTH, "little") + text + raw[start:]
