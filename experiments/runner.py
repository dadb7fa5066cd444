"""One run: trained, measured and written; killed at any time, it goes on where it stopped."""

import shutil
from dataclasses import astuple
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pyro

from sfnn_pyro.checkpoints import locked
from sfnn_pyro.data import Dataset
from sfnn_pyro.experiments import measures
from sfnn_pyro.experiments.grid import Run
from sfnn_pyro.experiments.making import TRAINED, Making, OnProgress
from sfnn_pyro.experiments.problems import (
    load_data,
    make_model,
    make_trainer,
)
from sfnn_pyro.experiments.results import result_path, write_result
from sfnn_pyro.runs import machine
from sfnn_pyro.system.atomic_files import remove_leftovers
from sfnn_pyro.system.stop_requests import interruptible
from sfnn_pyro.training import NonFiniteError


def execute(
    run: Run,
    folder: Path,
    *,
    device: str = "cpu",
    checkpoint_minutes: float = 2.0,
    on_progress: OnProgress = lambda done, note: None,
) -> Path:
    """Makes a run, unless its result is there, and writes its result file.

    Its checkpoint lies in ``folder/work`` until then. A training that becomes infinite has a
    result too, which says so.

    Arguments:
        run: the configuration.
        folder: of results.
        device: where to compute; no part of the configuration.
        checkpoint_minutes: the longest time between checkpoints.
        on_progress: called after every step with the part that is done and a note.

    Returns:
        The path of the result file.

    Raises:
        RunError: another process makes this run in this folder.
        Interrupted: by a signal, after saving.
    """
    path, work = result_path(folder, run), folder / "work" / run.name
    if not path.exists():
        with interruptible() as request, locked(work):
            remove_leftovers(path)
            making = _Making(run, folder, work / "checkpoint.pt", device, on_progress, request)
            # Networks of this process share parameter names, but must not share a store.
            with pyro.get_param_store().scope():
                making.make(checkpoint_minutes * 60)
        shutil.rmtree(work, ignore_errors=True)
    return path


class _Making(Making):
    """A run under way."""

    kind = "experiment 1"
    going_on = "is saved and goes on"
    probes: dict[str, Any]

    def make(self, interval: float) -> None:
        try:
            super().make(interval)
        except NonFiniteError as error:
            self._write({"failure": str(error)})

    def _begin(self, saved: dict[str, Any]) -> None:
        self.data: Dataset = load_data(self.run, self.device)
        self.model = make_model(self.run, self.data, self.device)
        self.trainer = make_trainer(self.run, self.model, self.data)
        self.probes = {}

    def _probe(self, epoch: int) -> None:
        self.probes[str(epoch)] = {
            **measures.randomness(self.run, self.model, self.data),
            **measures.gradient_norms(self.run, self.model, self.data, epoch),
        }

    def _finish(self) -> None:
        def on_part(done: float) -> None:
            self.on_progress(TRAINED + (1 - TRAINED) * done, "measured")
            self.request.check()

        guide = None if self.run.proposal == "prior" else self.trainer.guide
        found = measures.evaluations(self.run, self.model, self.data, on_part, guide)
        pictures = measures.figures(self.run, self.model, self.data)
        self._write({"evaluations": found, **pictures})

    def _write(self, result: dict[str, Any]) -> None:
        write_made(
            self.folder,
            self.run,
            result,
            history=[list(astuple(epoch)) for epoch in self.trainer.history],
            probes=self.probes,
            data=self.data,
            seconds=self.seconds,
            device=self.device,
        )


def write_made(
    folder: Path,
    run: Run,
    result: dict[str, Any],
    *,
    history: list[list[float]],
    probes: dict[str, dict[str, Any]],
    data: Dataset,
    seconds: float,
    device: str,
) -> None:
    """Writes a run's result with all that it was made by."""
    result = {
        **result,
        "history": {
            "columns": ["epoch", "learning_rate", "train", "validation"],
            "rows": [[_finite(value) for value in row] for row in history],
        },
        "probes": {epoch: probe for epoch, probe in probes.items() if probe},
        "provenance": dict(data.provenance),
        "seconds": round(seconds, 1),
        "device": device,
        "machine": {**machine(), "sfnn_pyro": _version()},
    }
    write_result(folder, run, result)


def _finite(value: float) -> float | None:
    """Rounded for a small file; None where JSON has no number."""
    return None if value != value or abs(value) == float("inf") else round(value, 5)


def _version() -> str:
    try:
        return version("sfnn_pyro")
    except PackageNotFoundError:
        return "not installed"
