"""A run of the benchmark of discrete estimators: trained, followed, measured and saved."""

from typing import Any

from sfnn_pyro.data import Dataset, Split
from sfnn_pyro.experiments.checkpointed_run import SingleRun
from sfnn_pyro.experiments.vae_problems import (
    VAETrainer,
    bounds,
    load_vae_data,
    make_vae,
    make_vae_trainer,
)
from sfnn_pyro.runs import standard_error

PROBES = 20
"""How often the training bound is measured on its way, at most."""

PROBED = 10_000
"""Training images of which it is measured then; of all of them when the training has ended."""


class VAERun(SingleRun):
    """A run of an unsupervised network with an encoder."""

    kind = "vae"
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
            self.on_part(number / len(parts))
        many = self._bound(self.data.test, self.run_config.test_particles)
        found["test"]["negative_log_likelihood"] = -many["mean"]
        found["test"]["standard_error_of_log_likelihood"] = many["error"]
        self.on_part(1.0)
        self.write(
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
