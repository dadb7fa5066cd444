"""``sfnn data list`` and ``sfnn data download``."""

from typing import Annotated

import typer
from rich.table import Table

from sfnn_pyro.cli.display import console
from sfnn_pyro.data import DATASET_NAMES, download, load_dataset

data_app = typer.Typer(help="List and download data sets.", no_args_is_help=True)


@data_app.command("list")
def data_list() -> None:
    """List the known data sets and say which of them are on this machine."""
    table = Table("name", "here", "train / validation / test", "x -> y")
    for name in DATASET_NAMES:
        try:
            data = load_dataset(name)
        except ValueError as error:
            table.add_row(name, "no", str(error), "")
            continue
        sizes = " / ".join(f"{len(s):,}" for s in (data.train, data.validation, data.test))
        table.add_row(name, "yes", sizes, f"{data.x_size} -> {data.y_size}")
    console.print(table)


@data_app.command("download")
def data_download(
    name: Annotated[str, typer.Argument(help="Data set to download, mnist or olivetti.")],
) -> None:
    """Download a data set and verify its checksum.

    It is written to the folder that SFNN_DATA names or, if that is not set, to the user's cache.
    """
    print(f"Wrote {download(name)}")
