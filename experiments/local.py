"""The runs of a sweep in processes of this machine."""

import multiprocessing
import os
import signal
import threading
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import joblib
import torch
from joblib.externals.loky.process_executor import TerminatedWorkerError

from sfnn_pyro.experiments.grid import Run
from sfnn_pyro.experiments.making import OnProgress
from sfnn_pyro.experiments.replicas import alike, execute_alike
from sfnn_pyro.experiments.runner import execute
from sfnn_pyro.runs import RunError
from sfnn_pyro.system.stop_requests import Interrupted

MEMORY_OF_A_RUN = 2**30
"""Bytes; a training on MNIST takes about 0.8 GiB."""

_leaving = threading.Event()
"""Set in a worker that was asked to stop: it begins no other run."""

Made = tuple[Run, bool]
"""A run, and whether it was left to another process."""


def fitting(cores: int = 1) -> int:
    """How many runs this machine makes at a time: as its cores and its memory allow.

    Arguments:
        cores: threads of each run.

    Example:
        >>> fitting(cores=10_000)
        1
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(joblib.cpu_count() // cores, memory // MEMORY_OF_A_RUN))


def together(
    runs: Sequence[Run], folder: Path, *, device: str, workers: int, cores: int
) -> Generator[Made]:
    """Makes runs in processes of their own, in whatever order they end.

    Raises:
        RunError: a process was killed; what others saved is kept.
        Interrupted: by SIGTERM, after the processes have saved.
    """
    with joblib.parallel_config("loky", inner_max_num_threads=cores), _passing_on():
        parallel = joblib.Parallel(workers, return_as="generator_unordered", batch_size=1)
        groups = grouped(runs, folder, device)
        calls = (joblib.delayed(in_worker)(group, folder, device, cores) for group in groups)
        try:
            for made in parallel(calls):
                yield from made
        except TerminatedWorkerError as error:
            raise RunError(
                "a process of the sweep was killed, perhaps for want of memory: the same command "
                "goes on; give fewer --workers"
            ) from error


def in_worker(group: Sequence[Run], folder: Path, device: str, cores: int) -> list[Made]:
    """Makes runs in a process that does nothing else."""
    torch.set_num_threads(cores)
    try:
        if not _leaving.is_set():
            return make(group, folder, device, lambda done, note: None)
    except Interrupted:  # saved; the signal came to the parent too
        _leaving.set()
    return [(run, True) for run in group]


@contextmanager
def _passing_on() -> Iterator[None]:
    """Tells the workers of a SIGTERM, which unlike Ctrl-C comes to one process alone."""
    told = []

    def handler(number: int, frame: Any) -> None:
        told.append(number)
        for worker in multiprocessing.active_children():
            os.kill(worker.pid, number)  # type: ignore[arg-type]

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    previous = signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)
    if told:
        raise Interrupted(
            signal.SIGTERM,
            "stopped by SIGTERM: the runs under way are saved and go on with the same command",
        )


def grouped(runs: Sequence[Run], folder: Path, device: str) -> list[list[Run]]:
    """The runs in their order, those that are best made as replicas together."""
    groups, left = [], list(runs)
    while left:
        groups.append(alike(left[0], left[1:], folder, device))
        left = [run for run in left if run not in groups[-1]]
    return groups


def make(group: Sequence[Run], folder: Path, device: str, on_progress: OnProgress) -> list[Made]:
    """Makes a run, or runs that are alike, or says that another process is making them."""
    try:
        if len(group) > 1:
            execute_alike(group, folder, device=device, on_progress=on_progress)
        else:
            execute(group[0], folder, device=device, on_progress=on_progress)
    except RunError as error:
        if "in use" not in str(error):
            raise
        if len(group) > 1:  # one is being made, the others need not wait
            return [made for run in group for made in make([run], folder, device, on_progress)]
        return [(group[0], True)]
    return [(run, False) for run in group]
