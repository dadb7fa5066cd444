"""Data sets of the paper, and stand-ins, as splits of tensors; knows nothing of models."""

from sfnn_pyro.data.errors import DataError
from sfnn_pyro.data.idx import read_idx
from sfnn_pyro.data.images import binarise
from sfnn_pyro.data.load import DATASET_NAMES, load_dataset
from sfnn_pyro.data.mirrors import download
from sfnn_pyro.data.mnist import mnist_grey
from sfnn_pyro.data.own import OwnData, load_own
from sfnn_pyro.data.splits import Dataset, Split
from sfnn_pyro.data.unsupervised import IMAGE_NAMES, load_images

__all__ = [
    "DATASET_NAMES",
    "IMAGE_NAMES",
    "DataError",
    "Dataset",
    "OwnData",
    "Split",
    "binarise",
    "download",
    "load_dataset",
    "load_images",
    "load_own",
    "mnist_grey",
    "read_idx",
]
