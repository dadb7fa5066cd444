"""What a person chooses about a file of their own."""

from __future__ import annotations

from dataclasses import dataclass

from sfnn_pyro.data.errors import DataError
from sfnn_pyro.system.arguments import check_object, described
from sfnn_pyro.system.numbers import LARGEST_FLOAT32, check_real, check_whole

INPUTS = ("upper-half", "left-half", "none")
BINARISATIONS = ("once", "epoch", "none")
MAX_SIDE = 2**16
MAX_SEED = 2**63


@dataclass(frozen=True)
class OwnData:
    """How a file becomes training, validation and test data.

    Arguments:
        x: what the input is: the name of an array; or columns of a table, by name, by number from
            0, or as a range ``0-31``, separated by commas; or both, ``table:0-31``.
        y: what the target is, in the same way; or the path of a second ``.npy`` file.
        input: the part of each datapoint that is the input where ``y`` is not given:
            ``"upper-half"``, ``"left-half"`` or ``"none"``.
        shape: rows and columns of each picture. Pictures of a folder are resized to it, rows of
            a table are pictures of it.
        scale: what values are divided by; 0 for 255 of ``uint8``, unless all are 0 or 1, and for 1
            of anything else.
        validation: share of the datapoints that is set aside for validation.
        test: share of the datapoints that is set aside for the test.
        split_seed: seed of the choice of both.
        binarisation_seed: seed of the sampling of grey values to 0 and 1.
        sha256: checksum that the file must have; empty for any.

    Raises:
        DataError: a value is out of range.

    Example:
        >>> OwnData(input="lower-half")
        Traceback (most recent call last):
            ...
        sfnn_pyro.data.errors.DataError: input='lower-half': choose one of upper-half, ...
    """

    x: str = ""
    y: str = ""
    input: str = ""
    shape: tuple[int, ...] = ()
    scale: float = 0.0
    validation: float = 0.1
    test: float = 0.1
    split_seed: int = 0
    binarisation_seed: int = 0
    sha256: str = ""

    def __post_init__(self) -> None:
        for name in ("x", "y", "input", "sha256"):
            check_object(name, getattr(self, name), str, "give a text", DataError)
        if not isinstance(self.shape, tuple | list):
            raise DataError(
                f"shape is {described(self.shape)}: give rows and columns, such as (28, 28)"
            )
        if self.input and self.input not in INPUTS:
            raise DataError(f"input={self.input!r}: choose one of {', '.join(INPUTS)}")
        if self.input and self.y:
            raise DataError(
                f"input={self.input!r}, y={self.y!r}: the input is cut from a datapoint, or x and "
                "y are named; leave one of the two out"
            )
        if self.shape and len(self.shape) != 2:
            raise DataError(f"shape={list(self.shape)}: give rows and columns, such as 28x28")
        for side in self.shape:
            check_whole("shape", side, 1, MAX_SIDE, DataError)
        for name in ("validation", "test"):
            check_real(
                name,
                getattr(self, name),
                lambda share: 0 <= share < 1,
                "must be a share from 0 to 1, such as 0.1",
                DataError,
            )
        if not self.validation + self.test < 1:
            raise DataError(
                f"validation={self.validation}, test={self.test}: nothing is left for training; "
                "their sum must be below 1"
            )
        check_real(
            "scale",
            self.scale,
            lambda scale: 0 <= scale <= LARGEST_FLOAT32,
            "must be a positive number, such as 255",
            DataError,
        )
        for name in ("split_seed", "binarisation_seed"):
            check_whole(name, getattr(self, name), 0, MAX_SEED - 1, DataError)
