"""``sfnn reproduce``: the paper's tables and figures, run and reported."""

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sfnn_pyro.experiments.catalogue import EXPERIMENTS, choose
from sfnn_pyro.experiments.grid import plan
from sfnn_pyro.experiments.report import has_results, write_report
from sfnn_pyro.experiments.results import read_results
from sfnn_pyro.experiments.sweep import sweep
from sfnn_pyro.memory import keep_pages

_NAMES = ", ".join(EXPERIMENTS)


def reproduce(
    what: Annotated[list[str], typer.Argument(help=f"Of {_NAMES}, all; or report.")],
    quick: Annotated[
        bool, typer.Option("--quick", help="Minutes instead of hours: the shape of the result.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder of results; a sweep goes on in it.")] = Path(
        "reproduction"
    ),
    workers: Annotated[
        int | None,
        typer.Option(help="Processes; 1, and with --quick one per core, unless given."),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the runs that come next, and leave.")
    ] = False,
) -> None:
    """Run the paper's experiments and write a report beside the paper's numbers.

    Every run's result is a small file in OUT/runs: killed, the sweep goes on where it stopped;
    copied together, the results of several machines are one sweep.
    """
    console = Console()
    report_only = what == ["report"]
    grids = choose(["all"] if report_only else what, quick)
    if dry_run:
        for run in plan(grids, read_results(out)):
            print(run.name)
        return
    if not report_only:
        keep_pages()
        if workers is None:
            workers = os.cpu_count() or 1 if quick else 1
        sweep(grids, out, workers=workers, device=device, console=console)
    results = read_results(out)
    begun = [grid for grid in choose(["all"], quick) if has_results(grid, results)]
    grids = list({grid.name: grid for grid in [*grids, *begun]}.values())
    page = write_report(grids, out, quick=quick)
    print(page.with_suffix(".md").read_text(encoding="utf-8"))
    print(f"Wrote {page}")
