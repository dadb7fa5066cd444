"""``sfnn reproduce``: the paper's tables and figures, run and reported."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sfnn_pyro.experiments.catalogue import EXPERIMENTS, choose
from sfnn_pyro.experiments.grid import plan
from sfnn_pyro.experiments.local import fitting
from sfnn_pyro.experiments.on_ray import Cluster
from sfnn_pyro.experiments.report import has_results, write_report
from sfnn_pyro.experiments.results import read_results
from sfnn_pyro.experiments.sweep import sweep
from sfnn_pyro.memory import keep_pages

ENGINES = ("local", "ray")
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
        typer.Option(help="Runs at a time; as many as fit, unless given. 1 uses all cores."),
    ] = None,
    cores: Annotated[int | None, typer.Option(help="Threads of each run; 1 of several.")] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    engine: Annotated[
        str, typer.Option(help="local: processes of this machine; ray: tasks of Ray.")
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(help="Of a Ray cluster, auto for this machine's; else one is started."),
    ] = None,
    gpus: Annotated[
        float | None, typer.Option(help="Share of a GPU of each run, for Ray to place them.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the runs that come next, and leave.")
    ] = False,
) -> None:
    """Run the paper's experiments and write a report beside the paper's numbers.

    Every run's result is a small file in OUT/runs: killed or stopped by Ctrl-C, the sweep goes on;
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
        cluster = _cluster(engine, address, workers, cores, gpus, device)
        if workers is None:  # on a GPU many runs are replicas of one process
            workers = fitting(cores or 1) if device == "cpu" else 1
        sweep(
            grids,
            out,
            workers=workers,
            cores=cores,
            device=device,
            cluster=cluster,
            console=console,
        )
    results = read_results(out)
    begun = [grid for grid in choose(["all"], quick) if has_results(grid, results)]
    grids = list({grid.name: grid for grid in [*grids, *begun]}.values())
    page = write_report(grids, out, quick=quick)
    print(page.with_suffix(".md").read_text(encoding="utf-8"))
    print(f"Wrote {page}")


def _cluster(
    engine: str,
    address: str | None,
    workers: int | None,
    cores: int | None,
    gpus: float | None,
    device: str,
) -> Cluster | None:
    """What the engine's options say; None for processes of this machine."""
    if engine not in ENGINES:
        raise ValueError(f"engine={engine!r}: choose one of {', '.join(ENGINES)}")
    if engine == "local":
        for name, value in (("address", address), ("gpus", gpus)):
            if value is not None:
                raise ValueError(f"--{name} has no effect without --engine ray: leave it out")
        return None
    if address is not None and workers is not None:
        raise ValueError(
            "--workers has no effect on a cluster, which makes as many runs at a time as fit: "
            "leave it out, or give --cores"
        )
    if gpus is None:
        gpus = 1.0 if device == "cuda" else 0.0
    return Cluster(address, workers, cores or 1, gpus, device)
