"""A sweep over grids: plans from the available result files, runs, and plans again."""

import time
from collections.abc import Generator, Sequence
from contextlib import closing, nullcontext
from pathlib import Path

from sfnn_pyro.experiments.grid import Grid, Run, plan
from sfnn_pyro.experiments.local import Made, grouped, make, together
from sfnn_pyro.experiments.on_ray import Cluster
from sfnn_pyro.experiments.results import read_results
from sfnn_pyro.system.extras import needed_for

with needed_for("a sweep"):
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
    )

LOG_SECONDS = 5.0
"""Time between two lines of a run's progress where they go to a file."""


def sweep(
    grids: Sequence[Grid],
    folder: Path,
    *,
    workers: int = 1,
    cores: int | None = None,
    device: str = "cpu",
    cluster: Cluster | None = None,
    console: Console | None = None,
) -> None:
    """Executes every run of the grids that has no result in the folder yet.

    May be killed and called again, on several machines too: copying their ``runs`` folders
    together merges them. Learning rates are chosen from the results, so that which runs are
    needed is planned again after each round.

    Arguments:
        grids: the grids to run.
        folder: folder of the results.
        workers: number of processes; a single one executes its runs itself, on all cores.
        cores: number of threads of each run, which is then a process of its own; 1 for several
            workers unless given.
        device: device to compute on.
        cluster: executes the runs on Ray instead; workers, cores and device are then the cluster's.
        console: where the progress of the whole sweep is shown.

    Raises:
        ValueError: ``workers`` or ``cores`` is below 1.
        RunError: a run was lost, and could not be made again.
    """
    if workers < 1 or (cores is not None and cores < 1):
        raise ValueError(f"workers={workers}, cores={cores}: must be at least 1")
    alone = cluster is None and workers == 1 and cores is None
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    taken: set[str] = set()
    console = console or Console()
    with (
        cluster.connected() if cluster else nullcontext(),
        Progress(*columns, console=console) as progress,
    ):
        whole = progress.add_task("runs", total=None, note="")
        done = 0
        while True:
            pending = [run for run in plan(grids, read_results(folder)) if run.name not in taken]
            if not pending:
                break
            # One worker plans again after every run, since each result may choose a rate.
            some = grouped(pending, folder, device)[0] if alone else pending
            if not console.is_terminal:  # a log, where no bar is drawn
                console.print(f"{len(pending)} to make: {some[0].name} first", soft_wrap=True)
            progress.update(whole, total=done + len(pending), note=some[0].name)
            finished: Generator[Made]
            if alone:
                finished = _alone(some, folder, device, progress)
            elif cluster is not None:
                finished = cluster.together(some, folder)
            else:
                finished = together(some, folder, device=device, workers=workers, cores=cores or 1)
            with closing(finished):  # also after Ctrl-C, before the engine is left
                for run, skipped in finished:
                    done += 1
                    taken |= {run.name} if skipped else set()
                    progress.update(whole, completed=done, note=run.name)
                    if not console.is_terminal:
                        left = ", left to another process" if skipped else ""
                        console.print(f"{done}: {run.name}{left}", soft_wrap=True)
        progress.update(whole, total=done, completed=done, note="nothing left to run")


def _alone(group: Sequence[Run], folder: Path, device: str, progress: Progress) -> Generator[Made]:
    task = progress.add_task(group[0].name, total=100, note="")
    written = time.monotonic()

    def on_progress(done: float, note: str) -> None:
        nonlocal written
        progress.update(task, completed=int(100 * done), note=note)
        if not progress.console.is_terminal and time.monotonic() - written >= LOG_SECONDS:
            written = time.monotonic()
            line = f"{group[0].name}: {100 * done:.0f} %, {note}"
            progress.console.print(line, soft_wrap=True)

    try:
        yield from make(group, folder, device, on_progress)
    finally:
        progress.remove_task(task)
