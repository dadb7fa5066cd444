"""The runs of a sweep as tasks of Ray, on this machine or on a cluster."""

import os
import platform
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from sfnn_pyro.data import DataError
from sfnn_pyro.data.cache import VARIABLE
from sfnn_pyro.experiments.grid import Run
from sfnn_pyro.experiments.local import Made, in_worker
from sfnn_pyro.experiments.results import result_path
from sfnn_pyro.runs import RunError
from sfnn_pyro.system.atomic_files import write_text

RETRIES = 3
PATIENCE = 60.0
"""Seconds that stopped runs have to save themselves."""

OBJECT_STORE = 100 * 2**20
"""Bytes; a result is a few hundred kilobytes."""


@dataclass(frozen=True)
class Cluster:
    """Where Ray runs, and which resources each run reserves.

    Arguments:
        address: address of a running cluster, ``"auto"`` for the one that this machine is part of;
            None starts Ray on this machine.
        workers: number of parallel runs on a Ray that is started here; as many as its cores allow
            unless given.
        cores: number of threads of each run.
        gpus: share of a GPU of each run.
        device: device that a run computes on.

    Raises:
        ValueError: a value is out of range, or Ray is not installed.
    """

    address: str | None = None
    workers: int | None = None
    cores: int = 1
    gpus: float = 0.0
    device: str = "cpu"

    def __post_init__(self) -> None:
        if self.cores < 1 or not self.gpus >= 0:
            raise ValueError(f"cores={self.cores}, gpus={self.gpus}: at least 1, and at least 0")
        _ray()

    @contextmanager
    def connected(self) -> Iterator[None]:
        """Connects to Ray or starts it, and disconnects or stops it at the end."""
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # of the Ray that we start
        ray = _ray()
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
        if self.address is None:
            cores = None if self.workers is None else self.workers * self.cores
            quiet |= {"num_cpus": cores, "include_dashboard": False}
            ray.init("local", object_store_memory=OBJECT_STORE, **quiet)
        else:
            ray.init(self.address, **quiet)
        try:
            yield
        finally:
            ray.shutdown()

    def together(self, runs: Sequence[Run], folder: Path) -> Generator[Made]:
        """Makes runs as tasks, in the order in which they end; if stopped early, they are saved.

        A task whose process or machine is lost is made again by Ray, from its checkpoint where
        the folder is shared. Results come back to ``folder`` on this machine, shared or not.

        Raises:
            RunError: a run was lost again and again.
        """
        ray = _ray()
        folder = folder.absolute()
        task = ray.remote(num_cpus=self.cores, num_gpus=self.gpus, max_retries=RETRIES)(_task)
        data = os.environ.get(VARIABLE)
        waiting = {task.remote(run, folder, self.device, self.cores, data): run for run in runs}
        try:
            while waiting:
                (done,), _ = ray.wait(list(waiting), num_returns=1)
                yield _store_result(ray, done, waiting.pop(done), folder)
        finally:
            for left in waiting:
                ray.cancel(left)
            if waiting:
                ray.wait(list(waiting), num_returns=len(waiting), timeout=PATIENCE)


def _task(
    run: Run, folder: Path, device: str, cores: int, data: str | None
) -> tuple[bool, str | None]:
    """Makes a run on a machine of the cluster: whether it was skipped, and its result as text.

    The data are read from the folder of the machine that gave the command, if this one has it too;
    otherwise from where this machine's own environment says.
    """
    if data is not None and Path(data).is_dir():
        os.environ[VARIABLE] = data
    try:
        ((_, left),) = in_worker([run], folder, device, cores)
    except DataError as error:
        raise RunError(
            f"{run.name} found no usable data on {platform.node()} ({error}): every machine needs "
            f"the data in the same folder, or {VARIABLE} set where its ray start is called"
        ) from error
    path = result_path(folder, run)
    return left, path.read_text(encoding="utf-8") if path.exists() else None


def _store_result(ray: ModuleType, done: Any, run: Run, folder: Path) -> Made:
    try:
        left, text = ray.get(done)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, RunError):  # one line, without Ray's traceback
            raise error.cause from error
        raise
    except (ray.exceptions.WorkerCrashedError, ray.exceptions.NodeDiedError) as error:
        raise RunError(
            f"{run.name} was lost {RETRIES + 1} times, perhaps for lack of memory: the same "
            "command resumes the sweep; give more --cores, so that fewer runs share a machine"
        ) from error
    path = result_path(folder, run)
    if text is not None and not path.exists():  # made on a machine that does not share the folder
        write_text(path, text)
    return run, left


def _ray() -> ModuleType:
    try:
        import ray
    except ImportError:
        raise ValueError(
            "--engine ray needs Ray: pip install 'sfnn_pyro[ray]', or leave --engine out for "
            "processes of this machine"
        ) from None
    return ray
