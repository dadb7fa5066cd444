"""``sfnn reproduce``: the paper's tables and figures, run and reported."""

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from sfnn_pyro.cli.display import Json, Quiet, path_option, print_json
from sfnn_pyro.experiments.catalogue import EXPERIMENTS, choose
from sfnn_pyro.experiments.grid import plan
from sfnn_pyro.experiments.local import max_parallel_runs
from sfnn_pyro.experiments.on_ray import Cluster
from sfnn_pyro.experiments.report import as_table, has_results, write_report
from sfnn_pyro.experiments.results import read_results
from sfnn_pyro.experiments.sweep import sweep
from sfnn_pyro.system.allocator import keep_pages
from sfnn_pyro.system.devices import check_device
from sfnn_pyro.system.numbers import check_whole
from sfnn_pyro.system.shell_words import command
from sfnn_pyro.system.stop_requests import Interrupted

MAX_PARALLEL = 10_000
"""Of runs at a time, and of the threads of each."""

ENGINES = ("local", "ray")
_NAMES = ", ".join(EXPERIMENTS)


def reproduce(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="EXPERIMENT...",
            help=f"Experiments to run, of {_NAMES}, or all. With report alone, nothing is run.",
        ),
    ],
    quick: Annotated[
        bool,
        typer.Option(
            "--quick", help="Run the small version that some experiments have, in minutes."
        ),
    ] = False,
    out: Annotated[
        Path, path_option("Folder of the results. A sweep that it holds is resumed.")
    ] = Path("reproduction"),
    workers: Annotated[
        int | None,
        typer.Option(
            help="Number of parallel runs. If not given, as many as cores and memory allow; a "
            "single one uses all cores."
        ),
    ] = None,
    cores: Annotated[
        int | None,
        typer.Option(
            help="Number of threads of each run. If not given, 1 for parallel runs and all for a "
            "single one."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="Device to compute on, cpu or cuda.")] = "cpu",
    engine: Annotated[
        str,
        typer.Option(help="Where runs are made: local, on this machine; or ray, on a cluster."),
    ] = "local",
    address: Annotated[
        str | None,
        typer.Option(
            help="Address of a Ray cluster, auto for the one of this machine. If not given, Ray "
            "is started on this machine."
        ),
    ] = None,
    gpus: Annotated[
        float | None,
        typer.Option(
            help="Share of a GPU that Ray reserves for each run. If not given, 1 with --device "
            "cuda and 0 otherwise."
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the runs that would be made next, and exit.")
    ] = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Run the paper's experiments and write a report beside the paper's numbers.

    Of the experiments, theorem1, table1, table2, figure1 and figure2 are the paper's; faces is
    its table of faces with the Olivetti faces, tfd the same with a file of your own;
    initialisation and hidden-rates vary what the paper does not say; beyond applies later methods
    to table1; vae, vae-linear, vae-centred and vae-anchor compare estimators on variational
    autoencoders of MNIST, vae-others on those of Fashion-MNIST and Omniglot.

    The result of every run is a small file in OUT/runs. After any interruption the same command
    resumes the sweep; the results of several machines, copied together, are one sweep.
    """
    report_only = what == ["report"]
    if report_only and not read_results(out):
        raise ValueError(f"{out} holds no results: give the --out of an earlier sweep")
    check_device(device)
    for name, count in (("workers", workers), ("cores", cores)):
        if count is not None:
            check_whole(name, count, 1, MAX_PARALLEL)
    cluster = _cluster(engine, address, workers, cores, gpus, device)
    grids = choose(["all"] if report_only else what, quick)
    if dry_run:
        names = [run.name for run in plan(grids, read_results(out))]
        if as_json:
            print_json({"runs": names})
        else:
            print("".join(f"{name}\n" for name in names), end="")
        return
    if not report_only:
        keep_pages()
        if workers is None:  # on a GPU many runs are replicas of one process
            workers = max_parallel_runs(cores or 1) if device == "cpu" else 1
        with _resumable():
            sweep(
                grids,
                out,
                workers=workers,
                cores=cores,
                device=device,
                cluster=cluster,
                console=Console(stderr=True, markup=False, highlight=False, quiet=quiet),
            )
    results = read_results(out)
    begun = [grid for grid in choose(["all"], quick) if has_results(grid, results)]
    asked = [] if report_only and begun else grids
    grids = list({grid.name: grid for grid in [*asked, *begun]}.values())
    page = write_report(grids, out, quick=quick)
    if as_json:
        tables = [as_table(grid, results) for grid in grids]
        print_json({"report": str(page), "experiments": tables})
        return
    print(page.with_suffix(".md").read_text(encoding="utf-8"))
    print(f"Wrote {page}")


@contextmanager
def _resumable() -> Iterator[None]:
    """Says of an interrupted sweep which command resumes it: this one."""
    again = command("sfnn", *sys.argv[1:])
    try:
        yield
    except Interrupted as error:
        raise Interrupted(error.number, f"{error}; resume the sweep with {again}") from None
    except KeyboardInterrupt:
        raise Interrupted(
            signal.SIGINT, f"stopped by SIGINT; resume the sweep with {again}"
        ) from None


def _cluster(
    engine: str,
    address: str | None,
    workers: int | None,
    cores: int | None,
    gpus: float | None,
    device: str,
) -> Cluster | None:
    """The cluster that the options describe; None for processes of this machine."""
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
