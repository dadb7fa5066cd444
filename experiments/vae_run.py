"""A run of the benchmark of discrete estimators: trained, followed, measured and saved."""

from dataclasses import astuple
from typing import Any

from sfnn_pyro.data import Dataset, Split
from sfnn_pyro.experiments.checkpointed_run import TRAINED, CheckpointedRun
from sfnn_pyro.experiments.results import write_run
from sfnn_pyro.experiments.vae_problems import (
    VAETrainer,
    bounds,
    load_vae_data,
    make_vae,
    make_vae_trainer,
)
from sfnn_pyro.runs import standard_error
from sfnn_pyro.training import NonFiniteError

PROBES = 20
"""How often the training bound is measured on its way, at most."""

PROBED = 10_000
"""Training images of which it is measured then; of all of them when the training has ended."""


class VAERun(CheckpointedRun):
    """A run under way; a training that becomes infinite has a result that says so."""

    kind = "vae"
    probes: dict[str, Any]
    trainer: VAETrainer

    def build(self, saved: dict[str, Any]) -> None:
        self.data: Dataset = load_vae_data(self.run_config, self.device)
        self.model, self.guide = make_vae(self.run_config, self.data, self.device)
        self.trainer = make_vae_trainer(self.run_config, self.model, self.guide, self.data)
        self.probes = {}

    def contents(self) -> dict[str, Any]:
        return {**super().contents(), "moments": self.trainer.moments.state_dict()}

    def restore(self, saved: dict[str, Any]) -> None:
        super().restore(saved)
        self.trainer.moments.load_state_dict(saved["moments"])

    def fail(self, error: NonFiniteError) -> None:
        self._write({"failure": str(error)})

    def resume_hint(self) -> str:
        return f"{self.run_config.name} is saved and will be resumed"

    def probe(self, epoch: int) -> None:
        every = -(-self.run_config.epochs // PROBES)
        if epoch % every and epoch != self.run_config.epochs:
            return
        some = self.data.train.first(PROBED)
        found = {"steps": self.trainer.steps, "train_bound": self._bound(some, 1)["mean"]}
        if epoch:
            found["gradient_variance"] = self.trainer.moments.variance()
        self.probes[str(epoch)] = found

    def measure(self) -> None:
        """Bounds of one sample on all splits, and that of many on the test images."""
        found: dict[str, dict[str, float]] = {}
        parts = ("train", "validation", "test")
        for number, name in enumerate(parts):
            one = self._bound(getattr(self.data, name), 1)
            found[name] = {"negative_bound": -one["mean"], "standard_error": one["error"]}
            self._on_part(number / len(parts))
        many = self._bound(self.data.test, self.run_config.test_particles)
        found["test"]["negative_log_likelihood"] = -many["mean"]
        found["test"]["standard_error_of_log_likelihood"] = many["error"]
        self._on_part(1.0)
        self._write(
            {
                "evaluations": {"trained": found},
                "steps": self.trainer.steps,
                "gradient_variance": self.trainer.moments.variance(),
            }
        )

    def _bound(self, split: Split, particles: int) -> dict[str, float]:
        values = bounds(
            self.model,
            self.guide,
            split,
            particles,
            self.run_config.seed,
            lambda datapoints: self.request.check(),
        )
        return {"mean": values.mean().item(), "error": standard_error(values)}

    def _on_part(self, done: float) -> None:
        self.on_progress(TRAINED + (1 - TRAINED) * done, "measured")
        self.request.check()

    def _write(self, result: dict[str, Any]) -> None:
        write_run(
            self.folder,
            self.run_config,
            result,
            history=[list(astuple(epoch)) for epoch in self.trainer.history],
            probes=self.probes,
            data=self.data,
            seconds=self.seconds,
            device=self.device,
        )
