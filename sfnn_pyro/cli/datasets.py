"""``sfnn data list`` and ``sfnn data download``."""

from typing import Annotated, Any

import typer
from rich.table import Table

from sfnn_pyro.cli.display import Json, console, print_json
from sfnn_pyro.data import DATASET_NAMES, download, load_dataset

data_app = typer.Typer(help="List and download data sets.", no_args_is_help=True)


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


@data_app.command("download")
def data_download(
    name: Annotated[str, typer.Argument(help="Data set to download, mnist or olivetti.")],
) -> None:
    """Download a data set and verify its checksum.

    It is written to the folder that SFNN_DATA names or, if that is not set, to the user's cache.
    """
    print(f"Wrote {download(name)}")
