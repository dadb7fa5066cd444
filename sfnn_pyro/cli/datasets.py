"""``sfnn data list``, ``sfnn data describe`` and ``sfnn data download``."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from sfnn_pyro.cli.display import Json, console, path_of, print_json
from sfnn_pyro.cli.own_data import (
    Binarise,
    Likelihood,
    OwnInput,
    OwnScale,
    OwnShape,
    OwnSplitSeed,
    OwnTest,
    OwnValidation,
    OwnX,
    OwnY,
    sides,
)
from sfnn_pyro.data import DATASET_NAMES, OwnData, download, load_dataset
from sfnn_pyro.data.own import KINDS, describe

data_app = typer.Typer(help="List, describe and download data.", no_args_is_help=True)


@data_app.command("list")
def data_list(as_json: Json = False) -> None:
    """List the known data sets and say which of them are on this machine."""
    table = Table("name", "here", "train / validation / test", "x -> y")
    found: dict[str, dict[str, Any]] = {}
    for name in DATASET_NAMES:
        try:
            data = load_dataset(name)
        except ValueError as error:
            table.add_row(name, "no", "", "")
            found[name] = {"here": False, "why": str(error)}
            continue
        sizes = [len(part) for part in (data.train, data.validation, data.test)]
        table.add_row(
            name,
            "yes",
            " / ".join(f"{size:,}" for size in sizes),
            f"{data.x_size} -> {data.y_size}",
        )
        found[name] = {
            "here": True,
            "train": sizes[0],
            "validation": sizes[1],
            "test": sizes[2],
            "x_size": data.x_size,
            "y_size": data.y_size,
            "likelihood": data.likelihood,
        }
    if as_json:
        print_json(found)
        return
    console.print(table)
    for entry in found.values():  # not in the table, which would cut names of folders
        if not entry["here"]:
            print(entry["why"])


@data_app.command("describe")
def data_describe(
    file: Annotated[
        Path,
        typer.Argument(
            parser=path_of, metavar="FILE", help=f"Your data: one of {', '.join(KINDS)}."
        ),
    ],
    x: OwnX = OwnData.x,
    y: OwnY = OwnData.y,
    input_part: OwnInput = OwnData.input,
    shape: OwnShape = "",
    scale: OwnScale = OwnData.scale,
    validation: OwnValidation = OwnData.validation,
    test: OwnTest = OwnData.test,
    split_seed: OwnSplitSeed = OwnData.split_seed,
    likelihood: Likelihood = "",
    binarise: Binarise = "",
    as_json: Json = False,
) -> None:
    """Say what a file of your own holds, which task it makes and which likelihood fits.

    The options are those of 'sfnn train'. Nothing is written.
    """
    own = OwnData(x, y, input_part, sides(shape), scale, validation, test, split_seed)
    found = describe(file, own, likelihood=likelihood, binarisation=binarise)
    if as_json:
        print_json(found.to_dict())
    else:
        print("\n".join(found.lines()))


@data_app.command("download")
def data_download(
    name: Annotated[
        str,
        typer.Argument(
            metavar="NAME", help="Data set to download: mnist, fashion-mnist, omniglot or olivetti."
        ),
    ],
    as_json: Json = False,
) -> None:
    """Download a data set and verify its checksum.

    It is written to the folder that SFNN_DATA names or, if that is not set, to the user's cache.
    """
    folder = download(name)
    if as_json:
        print_json({"data": name, "folder": str(folder)})
    else:
        print(f"Wrote {folder}")
