"""A person's own data: arrays, tables and folders of pictures as tasks."""

from sfnn_pyro.data.own.choices import BINARISATIONS, INPUTS, OwnData
from sfnn_pyro.data.own.contents import KINDS, Contents, checksum_of, read_contents
from sfnn_pyro.data.own.description import describe
from sfnn_pyro.data.own.mask import read_mask
from sfnn_pyro.data.own.task import load_own

__all__ = [
    "BINARISATIONS",
    "INPUTS",
    "KINDS",
    "Contents",
    "OwnData",
    "checksum_of",
    "describe",
    "load_own",
    "read_contents",
    "read_mask",
]
