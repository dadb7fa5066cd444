"""A sweep over grids: plans from the result files at hand, runs, and plans again."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import joblib
import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from sfnn_pyro.experiments.grid import Grid, Run, plan
from sfnn_pyro.experiments.results import read_results
from sfnn_pyro.experiments.runner import OnProgress, execute
from sfnn_pyro.interrupts import Interrupted
from sfnn_pyro.runs import RunError


def sweep(
    grids: Sequence[Grid],
    folder: Path,
    *,
    workers: int = 1,
    device: str = "cpu",
    console: Console | None = None,
) -> None:
    """Makes every run of the grids that has no result in the folder yet.

    May be killed and called again, on several machines too: copying their ``runs`` folders
    together merges them. Learning rates are chosen from the results, so that which runs are
    needed is planned again after each round.

    Arguments:
        grids: what to run.
        folder: of results.
        workers: processes; more than one use one thread each.
        device: where to compute.
        console: where the progress of the whole sweep is shown.

    Raises:
        ValueError: ``workers`` is below 1.
    """
    if workers < 1:
        raise ValueError(f"workers={workers}: must be at least 1")
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[note]}"),
    )
    taken: set[str] = set()
    console = console or Console()
    with Progress(*columns, console=console) as progress:
        whole = progress.add_task("runs", total=None, note="")
        done = 0
        while True:
            pending = [run for run in plan(grids, read_results(folder)) if run.name not in taken]
            if not pending:
                break
            # One worker plans again after every run, since each result may choose a rate.
            some = pending[:1] if workers == 1 else pending
            progress.update(whole, total=done + len(pending), note=some[0].name)
            if workers == 1:
                finished = _alone(some[0], folder, device, progress)
            else:
                finished = _together(some, folder, device, workers)
            for run, skipped in finished:
                done += 1
                taken |= {run.name} if skipped else set()
                progress.update(whole, completed=done, note=run.name)
                if not console.is_terminal:  # a log, where no bar is drawn
                    left = ", left to another process" if skipped else ""
                    console.print(f"{done}: {run.name}{left}", soft_wrap=True)
        progress.update(whole, total=done, completed=done, note="nothing left to run")


def _alone(run: Run, folder: Path, device: str, progress: Progress) -> Iterator[tuple[Run, bool]]:
    task = progress.add_task(run.name, total=100, note="")

    def on_progress(done: float, note: str) -> None:
        progress.update(task, completed=int(100 * done), note=note)

    try:
        yield _execute(run, folder, device, on_progress)
    finally:
        progress.remove_task(task)


def _together(
    runs: Sequence[Run], folder: Path, device: str, workers: int
) -> Iterator[tuple[Run, bool]]:
    with joblib.parallel_config("loky", inner_max_num_threads=1):
        parallel = joblib.Parallel(workers, return_as="generator_unordered", batch_size=1)
        yield from parallel(joblib.delayed(_worker)(run, folder, device) for run in runs)


def _worker(run: Run, folder: Path, device: str) -> tuple[Run, bool]:
    torch.set_num_threads(1)
    try:
        return _execute(run, folder, device, lambda done, note: None)
    except Interrupted:  # saved; the signal came to the parent too
        return run, True


def _execute(run: Run, folder: Path, device: str, on_progress: OnProgress) -> tuple[Run, bool]:
    """Makes a run, or says that another process is making it."""
    try:
        execute(run, folder, device=device, on_progress=on_progress)
    except RunError as error:
        if "in use" not in str(error):
            raise
        return run, True
    return run, False
