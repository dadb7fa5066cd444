"""The runs of a sweep in processes of this machine."""

import functools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from sfnn_pyro.experiments.checkpointed_run import OnProgress
from sfnn_pyro.experiments.grid import Run
from sfnn_pyro.experiments.replica_runs import alike, execute_alike
from sfnn_pyro.experiments.runner import execute
from sfnn_pyro.runs import RunError, RunInUseError
from sfnn_pyro.system.stop_requests import Interrupted, stop_signals
from sfnn_pyro.system.threads import available_cores

MEMORY_OF_A_RUN = 2**30
"""Bytes; a training on MNIST takes about 0.8 GiB."""

WATCH_SECONDS = 0.5
"""Seconds between two checks of a worker that its parent is running."""

SAVE_SECONDS = 10.0
"""Seconds that an orphaned worker has to save its run."""

_leaving = threading.Event()
"""Set in a worker after a stop request: it begins no further run."""

Made = tuple[Run, bool]
"""A run, and whether it was left to another process."""


def max_parallel_runs(cores: int = 1) -> int:
    """How many parallel runs the cores and the memory of this machine allow.

    Arguments:
        cores: number of threads of each run.

    Example:
        >>> max_parallel_runs(cores=10_000)
        1
    """
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(1, min(available_cores() // cores, memory // MEMORY_OF_A_RUN))


def together(
    runs: Sequence[Run], folder: Path, *, device: str, workers: int, cores: int
) -> Generator[Made]:
    """Executes runs in separate processes, and yields them in the order in which they end.

    The processes are started afresh, so that a script that calls this does so below
    ``if __name__ == "__main__":``.

    Raises:
        RunError: a process was killed; what others saved is kept.
        Interrupted: by a signal, after the processes have saved.
    """
    groups = grouped(runs, folder, device)
    pool = ProcessPoolExecutor(
        min(workers, max(1, len(groups))),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_begin_worker,
    )
    with _forwarding_stop_requests() as received:
        try:
            calls = [
                pool.submit(in_worker, group, folder, device, cores, os.getpid())
                for group in groups
            ]
            for call in as_completed(calls):
                yield from call.result()
        except BrokenProcessPool as error:
            if not received:
                raise RunError(
                    "a process of the sweep was killed, perhaps for lack of memory: the same "
                    "command resumes the sweep; give fewer --workers"
                ) from error
        except BaseException:
            _stop_workers()
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    """Leaves Ctrl-C to the parent, which forwards it, and survives a signal between two runs."""
    os.setpgid(0, 0)
    for number in stop_signals():
        signal.signal(number, lambda number, frame: _leaving.set())


def in_worker(
    group: Sequence[Run], folder: Path, device: str, cores: int, parent: int | None = None
) -> list[Made]:
    """Executes runs in a worker process.

    Arguments:
        group: the runs.
        folder: folder of the results.
        device: device to compute on.
        cores: number of threads.
        parent: number of the process that started this one, and without which it ends.
    """
    if parent is not None:
        _follow(parent)
    torch.set_num_threads(cores)
    try:
        if not _leaving.is_set():
            return make(group, folder, device, lambda done, note: None)
    except Interrupted:  # saved; the signal came to the parent too
        _leaving.set()
    return [(run, True) for run in group]


@functools.cache
def _follow(parent: int) -> None:
    """Saves and ends this process when its parent was killed, of which it gets no signal."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(WATCH_SECONDS)
        _leaving.set()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(SAVE_SECONDS)
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=watch, daemon=True).start()


def _stop_workers() -> None:
    """Asks the workers to save and leave."""
    for worker in multiprocessing.active_children():
        worker.terminate()


@contextmanager
def _forwarding_stop_requests() -> Iterator[list[int]]:
    """Forwards ``stop_signals`` to the workers, and raises ``Interrupted`` at the end."""
    received: list[int] = []

    def handler(number: int, frame: Any) -> None:
        received.append(number)
        _stop_workers()

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    previous = {n: signal.signal(n, handler) for n in stop_signals()}
    try:
        yield received
    finally:
        for number, old in previous.items():
            signal.signal(number, old)
    if received:
        name = signal.Signals(received[0]).name
        raise Interrupted(
            received[0],
            f"stopped by {name}: the runs under way are saved and resumed by the same command",
        )


def grouped(runs: Sequence[Run], folder: Path, device: str) -> list[list[Run]]:
    """The runs in their order; those that are best trained as replicas form one group."""
    groups, left = [], list(runs)
    while left:
        groups.append(alike(left[0], left[1:], folder, device))
        left = [run for run in left if run not in groups[-1]]
    return groups


def make(group: Sequence[Run], folder: Path, device: str, on_progress: OnProgress) -> list[Made]:
    """Executes a run or a group of replicas; those of another process are skipped."""
    try:
        if len(group) > 1:
            execute_alike(group, folder, device=device, on_progress=on_progress)
        else:
            execute(group[0], folder, device=device, on_progress=on_progress)
    except RunInUseError:
        if len(group) > 1:  # one is being made, the others need not wait
            return [made for run in group for made in make([run], folder, device, on_progress)]
        return [(group[0], True)]
    return [(run, False) for run in group]
