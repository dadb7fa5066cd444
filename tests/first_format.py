"""Files of the first format, which are read and no longer written."""

import io

import torch

from sfnn_pyro.system.first_format import header


def write_first_format(path, kind, contents):
    """Writes what ``read_sealed`` reads as a file of a kind with its version, ``"model 1"``."""
    buffer = io.BytesIO()
    torch.save(contents, buffer)
    payload = buffer.getbuffer()
    path.write_bytes(header(kind, payload) + bytes(payload))
