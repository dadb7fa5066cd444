"""One run: trained, measured and written; killed at any time, it resumes from its checkpoint."""

import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyro

from sfnn_pyro.data import Dataset
from sfnn_pyro.experiments import measures
from sfnn_pyro.experiments.checkpointed_run import OnProgress, SingleRun
from sfnn_pyro.experiments.grid import Run
from sfnn_pyro.experiments.problems import (
    load_data,
    make_model,
    make_trainer,
)
from sfnn_pyro.experiments.results import result_path
from sfnn_pyro.experiments.vae_run import VAERun
from sfnn_pyro.runs import locked
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
    """Executes a run, unless its result is there, and writes its result file.

    Its checkpoint is in ``folder/work`` until then. A training that becomes infinite has a result
    with the key ``failure``.

    Arguments:
        run: the configuration.
        folder: folder of the results.
        device: where to compute; no part of the configuration.
        checkpoint_minutes: the longest time between checkpoints.
        on_progress: called after every step with the part that is done and a note.

    Returns:
        The path of the result file.

    Raises:
        RunInUseError: another process makes this run in this folder.
        Interrupted: by a signal, after saving.
    """
    path, work = result_path(folder, run), folder / "work" / run.name
    if not path.exists():
        with interruptible() as request, locked(work):
            remove_leftovers(path)
            interval = 60 * checkpoint_minutes
            kind = VAERun if run.is_vae else _NetworkRun
            training = kind(
                run, folder, work / "checkpoint.pt", device, on_progress, request, interval
            )
            # Networks of this process share parameter names, but must not share a store.
            with pyro.get_param_store().scope(), suppress(NonFiniteError):
                training.run()
        shutil.rmtree(work, ignore_errors=True)
    return path


class _NetworkRun(SingleRun):
    """A run of a network that predicts y from x."""

    kind = "experiment"

    def build(self, saved: dict[str, Any]) -> None:
        self.data: Dataset = load_data(self.run_config, self.device)
        self.model = make_model(self.run_config, self.data, self.device)
        self.trainer = make_trainer(self.run_config, self.model, self.data)
        self.probes = {}

    def probe(self, epoch: int) -> None:
        self.probes[str(epoch)] = {
            **measures.randomness(self.run_config, self.model, self.data),
            **measures.gradient_norms(self.run_config, self.model, self.data, epoch),
        }

    def measure(self) -> None:
        guide = None if self.run_config.proposal == "prior" else self.trainer.guide
        found = measures.evaluations(self.run_config, self.model, self.data, self.on_part, guide)
        pictures = measures.figures(self.run_config, self.model, self.data)
        self.write({"evaluations": found, **pictures})
