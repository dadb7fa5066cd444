"""Runs that differ in seed and learning rate alone, trained in one process as replicas."""

import json
import shutil
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyro

from sfnn_pyro.experiments import measures
from sfnn_pyro.experiments.checkpointed_run import TRAINED, CheckpointedRun, OnProgress
from sfnn_pyro.experiments.grid import Run
from sfnn_pyro.experiments.problems import (
    estimators,
    followed,
    load_data,
    make_model,
    make_schedule,
)
from sfnn_pyro.experiments.results import result_path, write_run
from sfnn_pyro.experiments.runner import execute
from sfnn_pyro.reparam import deterministic
from sfnn_pyro.runs import locked
from sfnn_pyro.runs.configuration import validation_particles
from sfnn_pyro.system.stop_requests import interruptible
from sfnn_pyro.training import NonFiniteError
from sfnn_pyro.training.replicas import ReplicaTrainer

MAX_REPLICAS = 12
"""Replicas trained together; more of them save no more time."""


def alike(run: Run, others: Iterable[Run], folder: Path, device: str = "cpu") -> list[Run]:
    """The runs that are best trained together with a run, which comes first.

    On a CPU half of a step with one particle is Python, and twelve replicas take half the time of
    twelve runs; with 20 particles nothing is gained. On a GPU the overhead dominates every step.

    Arguments:
        run: the run to be made.
        others: the other runs to be made.
        folder: folder of the results; a run that has begun there is resumed alone.
        device: device to compute on.
    """
    common = _common(run)
    batched = run.network in ("sfnn", "deterministic") and run.proposal == "prior"
    no_decay = not run.weight_decay  # a replica's rate is a factor of the loss's gradient
    same_data = not (run.noise or run.resample or run.split_by_seed)
    one_count = not run.early_epochs
    one_rate = run.hidden_rate == 1
    pays = run.particles == 1 or device != "cpu"
    own = run.estimator == "g1"  # whose averages belong to a network
    if (
        own
        or run.compile
        or not (batched and no_decay and same_data and one_count and one_rate and pays)
    ):
        return [run]
    mates = [other for other in others if _common(other) == common and other != run]
    free = [one for one in (run, *mates) if not (_work(folder, one) / "checkpoint.pt").exists()]
    return free[:MAX_REPLICAS] if run in free else [run]


def execute_alike(
    runs: Sequence[Run],
    folder: Path,
    *,
    device: str = "cpu",
    checkpoint_minutes: float = 2.0,
    on_progress: OnProgress = lambda done, note: None,
) -> None:
    """Makes runs as replicas of one model and writes a result file for each.

    Their random numbers are not those of single runs: the results agree in distribution, and
    hold how many were trained together. If one of them becomes infinite, all are run one by one.

    Arguments:
        runs: as ``alike`` found them.
        folder: folder of the results.
        device: device to compute on.
        checkpoint_minutes: the longest time between checkpoints.
        on_progress: called after every step with the part that is done and a note.

    Raises:
        RunInUseError: another process makes one of these runs in this folder.
        Interrupted: by a signal, after saving.
    """
    work = folder / "work" / f"replicas-{_common(runs[0]).name}"
    with interruptible() as request, ExitStack() as stack:
        for place in (work, *(_work(folder, run) for run in runs)):
            stack.enter_context(locked(place))
        interval = 60 * checkpoint_minutes
        training = _Replicas(
            runs, folder, work / "checkpoint.pt", device, on_progress, request, interval
        )
        try:
            with pyro.get_param_store().scope():
                training.run()
            failed = False
        except NonFiniteError:
            failed = True
    shutil.rmtree(work, ignore_errors=True)
    for run in runs:
        if failed:
            execute(run, folder, device=device, on_progress=on_progress)
        elif result_path(folder, run).exists():
            shutil.rmtree(_work(folder, run), ignore_errors=True)


class _Replicas(CheckpointedRun):
    """Replicas under way."""

    kind = "experiment replicas"
    trainer: ReplicaTrainer
    probes: list[dict[str, Any]]

    def __init__(self, runs: Sequence[Run], *rest: Any) -> None:
        super().__init__(runs[0], *rest)
        self.runs = list(runs)

    def build(self, saved: dict[str, Any]) -> None:
        if saved:
            self.runs = [Run.from_dict(one) for one in json.loads(saved["runs"])]
            self.run_config = self.runs[0]
        self.note = f", {len(self.runs)} replicas"
        self.data = load_data(self.run_config, self.device)
        self.probes = [{} for _ in self.runs]
        fixed = self.run_config.network == "deterministic"
        self.trainer = ReplicaTrainer.of(
            [make_model(run, self.data, self.device) for run in self.runs],
            estimators(self.run_config),
            self.data.train,
            followed(self.data),
            [make_schedule(run) for run in self.runs],
            program=deterministic if fixed else lambda model: model,
            validation_particles=validation_particles(self.run_config.particles),
        )

    def contents(self) -> dict[str, Any]:
        return {**super().contents(), "runs": json.dumps([run.to_dict() for run in self.runs])}

    def resume_hint(self) -> str:
        return f"{self.run_config.name} and its replicas are saved and will be resumed"

    def probe(self, epoch: int) -> None:
        for run, network, probes in zip(
            self.runs, self.trainer.networks(), self.probes, strict=True
        ):
            probes[str(epoch)] = measures.randomness(run, network, self.data)

    def measure(self) -> None:
        share = self.seconds / len(self.runs)
        for number, (run, network) in enumerate(
            zip(self.runs, self.trainer.networks(), strict=True)
        ):
            if result_path(self.folder, run).exists():
                continue
            begun = time.monotonic()
            found = measures.evaluations(run, network, self.data, lambda done: self.request.check())
            pictures = measures.figures(run, network, self.data)
            write_run(
                self.folder,
                run,
                {"replicas": len(self.runs), "evaluations": found, **pictures},
                history=self._history(number),
                probes=self.probes[number],
                data=self.data,
                seconds=share + time.monotonic() - begun,
                device=self.device,
            )
            done = TRAINED + (1 - TRAINED) * (number + 1) / len(self.runs)
            self.on_progress(done, "measured")

    def _history(self, number: int) -> list[list[float]]:
        """A replica's own; its part of the training objective is not known."""
        rate = self.runs[number].learning_rate
        return [
            [epoch.epoch, rate * epoch.learning_rate, float("nan"), values[number]]
            for epoch, values in zip(self.trainer.history, self.trainer.validations, strict=True)
        ]


def _common(run: Run) -> Run:
    return replace(run, learning_rate=1.0, seed=0)


def _work(folder: Path, run: Run) -> Path:
    return folder / "work" / run.name
