"""The Olivetti faces, which stand in for the Toronto Face Database."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from sfnn_pyro.data.cache import read_source
from sfnn_pyro.data.errors import DataError
from sfnn_pyro.data.faces import SHAPE, by_person
from sfnn_pyro.data.images import reduced
from sfnn_pyro.data.mat import parse_mat
from sfnn_pyro.data.reading import sha256
from sfnn_pyro.data.sources import OLIVETTI
from sfnn_pyro.data.splits import Dataset

SIDE = 64
PER_PERSON = 10
SIZES = (26, 4, 10)


def load_olivetti(split_seed: int = 0, root: Path | str | None = None) -> Dataset:
    """Predict a person's ten images from their mean, for people never seen in training.

    These faces stand in for the Toronto Face Database of section 3 of the paper, which is not
    public: the task is the same, the numbers are not comparable. The 64 x 64 images are
    reduced to 48 x 48 by PyTorch's anti-aliased bilinear filter and scaled to [0, 1]. Of the
    forty people 26 are for training, 4 for validation and 10 for test, chosen by
    ``split_seed``.

    Credit: AT&T Laboratories Cambridge; this version is Sam Roweis's.

    Returns:
        a data set with ``x`` and ``y`` of shape ``(N, 2304)``, drawn as 48 x 48; 260 training, 40
        validation and 100 test images.

    Raises:
        DataError: the file is missing or is not the standard one.
    """
    path, contents = read_source(OLIVETTI, OLIVETTI.files[0], root)
    images = _images(contents, str(path))
    person = torch.arange(len(images), device=images.device) // PER_PERSON
    provenance: dict[str, str | int] = {
        "source": OLIVETTI.files[0].name,
        "source_sha256": sha256(contents),
        "credit": "AT&T Laboratories Cambridge; version of Sam Roweis",
        "stands_in_for": "Toronto Face Database",
        "resize": "64x64 to 48x48, torch interpolate, bilinear, antialias",
    }
    return by_person("olivetti", images, person, SIZES, split_seed, provenance)


def _images(contents: bytes, file: str) -> Tensor:
    faces = parse_mat(contents, ["faces"], file)["faces"]
    expected = (SIDE * SIDE, PER_PERSON * sum(SIZES))
    if faces.shape != expected or faces.dtype != "u1":
        raise DataError(
            f"{file} has faces of shape {faces.shape} and dtype {faces.dtype}, "
            f"not {expected} and uint8: fetch the file again"
        )
    # MATLAB stores images column by column, hence the transposition of each.
    images = torch.from_numpy(faces.T.copy()).reshape(-1, SIDE, SIDE).mT  # (400, 64, 64)
    return reduced(images.to(torch.float32) / 255, SHAPE)
