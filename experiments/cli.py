"""``sfnn reproduce``: the paper's tables and figures, run and reported."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sfnn_pyro.experiments.catalogue import EXPERIMENTS, choose
from sfnn_pyro.experiments.grid import plan
from sfnn_pyro.experiments.report import write_report
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
    workers: Annotated[int, typer.Option(help="Processes, of one thread each if several.")] = 1,
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
            console.print(run.name)
        return
    if not report_only:
        keep_pages()
        sweep(grids, out, workers=workers, device=device, console=console)
    page = write_report(grids, out, quick=quick)
    console.print(page.with_suffix(".md").read_text(encoding="utf-8"), markup=False)
    console.print(f"Wrote {page}", soft_wrap=True)
