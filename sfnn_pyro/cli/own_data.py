"""The options that say how a file of a person's own becomes a task."""

from typing import Annotated

import typer

from sfnn_pyro.data.own import BINARISATIONS, INPUTS
from sfnn_pyro.data.splits import LIKELIHOODS
from sfnn_pyro.system.numbers import shown

OwnX = Annotated[
    str,
    typer.Option(
        help="Input of your own data: the name of an array; or columns of a table by their names, "
        "numbers from 0 or ranges such as 0-31, separated by commas."
    ),
]
OwnY = Annotated[
    str,
    typer.Option(help="Target of your own data, named like --x; or the path of a .npy file."),
]
OwnInput = Annotated[
    str,
    typer.Option(
        "--input",
        help="Part of each datapoint of your own that is the input, one of "
        f"{', '.join(INPUTS)}; the rest is the target. If not given, the upper half of pictures.",
    ),
]
OwnShape = Annotated[
    str,
    typer.Option(
        help="Rows and columns of the pictures of your own data, such as 28x28. Pictures of a "
        "folder are resized to it."
    ),
]
OwnScale = Annotated[
    float,
    typer.Option(
        help="Number by which the values of your own data are divided. 0 divides bytes by 255, "
        "unless all of them are 0 or 1, and leaves other values as they are."
    ),
]
OwnValidation = Annotated[
    float, typer.Option(help="Share of your own data that is set aside for validation.")
]
OwnTest = Annotated[
    float, typer.Option(help="Share of your own data that is set aside for the test.")
]
OwnSplitSeed = Annotated[int, typer.Option(help="Seed by which your own data are split.")]
Likelihood = Annotated[
    str,
    typer.Option(
        help=f"Likelihood of the targets, one of {', '.join(LIKELIHOODS)}. If not given, the one "
        "that fits the data."
    ),
]
Binarise = Annotated[
    str,
    typer.Option(
        help="When grey pictures are sampled as 0 or 1, one of "
        f"{', '.join(BINARISATIONS)}; epoch samples the training data anew in each epoch. If not "
        "given, once where the likelihood needs it."
    ),
]


def sides(text: str) -> tuple[int, ...]:
    """Rows and columns, of a text such as 28x28; none of an empty one.

    Raises:
        ValueError: it is no such text.
    """
    if not text:
        return ()
    try:
        rows, columns = (int(part) for part in text.split("x"))
    except ValueError:
        raise ValueError(f"shape={shown(text)}: give rows and columns like 28x28") from None
    return rows, columns
