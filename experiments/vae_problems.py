"""The standard benchmark of discrete gradient estimators: unsupervised networks of images.

Two protocols of the literature. ``"fixed-prior"`` (Titsias and Shi, arXiv 2111.05300; Shi et al.,
arXiv 2202.09497): P(h) uniform, images and latents as they are. ``"centred"`` (Dong, Mnih and
Tucker, arXiv 2006.10680): learned prior logits, images less their mean, latents as 2 h - 1, and
the decoder's last biases begun at the data's.
"""

from collections.abc import Callable
from typing import Any

import torch
from pyro import poutine
from pyro.infer import ELBO
from torch import Tensor

from sfnn_pyro.data import Dataset, Split, load_images
from sfnn_pyro.estimators import ESTIMATORS, RLOO, Compiled
from sfnn_pyro.evaluation import log_likelihood
from sfnn_pyro.experiments.grid import GridError, Run
from sfnn_pyro.guides import BernoulliEncoder
from sfnn_pyro.models import BernoulliVAE
from sfnn_pyro.training import AdamBesideSGD, ConstantSchedule, GradientMoments, Schedule, Trainer

LAYERS = {"linear-vae": 1, "nonlinear-vae": 3}
"""Layers of weights in decoder and encoder, as wide as the latents but at the pixels."""

PRIOR_RATE = 0.01
"""Learning rate of the prior's logits, by plain gradient descent (protocol "centred")."""

MARGIN = 0.001
"""Means of pixels are kept this far from 0 and 1 where biases begin at them."""

FOLLOWED = 2000
"""Validation images on which the bound of one sample is followed over the epochs."""


def binarised(grey: Tensor) -> Tensor:
    """Pixels drawn with their grey values as expectations, by PyTorch's default generator."""
    return torch.rand_like(grey).lt_(grey)


def load_vae_data(run: Run, device: str = "cpu") -> Dataset:
    """The images of a run as probabilities, on a device."""
    data = load_images(run.data)
    return data.with_training_rows(run.train_size).to(device)


def make_vae(run: Run, data: Dataset, device: str = "cpu") -> tuple[BernoulliVAE, BernoulliEncoder]:
    """Model and guide of a run, initialised from its seed."""
    (latents,) = run.hidden
    widths = [latents] * LAYERS[run.network]
    centred = run.protocol == "centred"
    mean = data.train.y.mean(0) if centred else None
    with torch.random.fork_rng():
        torch.manual_seed(run.seed)
        model = BernoulliVAE([*widths, data.y_size], learned_prior=centred, centred=centred)
        guide = BernoulliEncoder([data.y_size, *widths], mean=mean)
    if mean is not None:
        with torch.no_grad():
            model.decoder[-1].bias.copy_(mean.clamp(MARGIN, 1 - MARGIN).logit())
    return model.to(device), guide.to(device)


def make_pair(run: Run, guide: Callable[..., Any]) -> tuple[ELBO, Callable[..., Any]]:
    """The estimator of a run, and the guide as the estimator takes it.

    An estimator that differentiates through its draws (G2, G3, Gumbel straight-through, ReinMax)
    does so through the guide's draws here: its relaxation is applied to the guide by
    ``poutine.reparam``, and ``RLOO`` of values with a path is the gradient of the mean bound of
    one sample through them.

    Raises:
        GridError: there is no such estimator, it takes no guide and has no relaxation, or its
            step cannot be compiled.
    """
    if run.estimator not in ESTIMATORS:
        raise GridError(f"estimator={run.estimator!r}: choose one of {', '.join(ESTIMATORS)}")
    estimator = ESTIMATORS[run.estimator](num_particles=run.particles)
    relaxation = getattr(estimator, "relaxation", None)
    if relaxation is not None:
        guide = poutine.reparam(guide, config={"h1": relaxation()})
        estimator = RLOO(num_particles=run.particles)
    elif "guide" not in estimator.proposals:
        raise GridError(f"estimator={run.estimator!r} takes no guide, which a VAE needs")
    if not run.compile:
        return estimator, guide
    try:
        return Compiled(estimator), guide
    except ValueError as error:
        raise GridError(f"compile: {error}") from error


class VAETrainer(Trainer):
    """A trainer of a VAE: images drawn anew in every step, bounds by the guide.

    Its data hold grey values; ``moments`` follows the gradients of the guide.
    """

    moments: GradientMoments

    def minibatch(self, rows: Tensor) -> Split:
        """Freshly drawn images of a minibatch."""
        return Split(self.epoch_data.x[rows], binarised(self.epoch_data.y[rows]))

    def compute_gradients(self, rows: Tensor) -> float:
        images = self.minibatch(rows)
        mean = -self.loss_and_grads(images.x, images.y, len(rows))
        self.moments.update()
        return mean

    def find_sites_at_fault(self, rows: Tensor) -> dict[str, list[int]]:
        whole, self.epoch_data = self.epoch_data, self.minibatch(rows)
        try:
            found = super().find_sites_at_fault(torch.arange(len(rows)))
        finally:
            self.epoch_data = whole
        return {name: rows[bad].tolist() for name, bad in found.items()}

    def log_likelihood_of(
        self, model: Any, data: Split, on_batch: Callable[[int], None], seed: int | None = None
    ) -> Tensor:
        """Bounds by particles of the guide, of images that are drawn by the seed too."""
        seed = self.schedule.seed if seed is None else seed
        return bounds(model, self.guide, data, self.validation_particles, seed, on_batch)


def bounds(
    model: Any,
    guide: Any,
    data: Split,
    num_particles: int,
    seed: int,
    on_batch: Callable[[int], None] | None = None,
) -> Tensor:
    """The bound of M samples of every image's log-likelihood, ``(N,)`` in nats.

    Arguments:
        model: the VAE.
        guide: its encoder.
        data: with grey values, which are binarised.
        num_particles: M.
        seed: of the images and of the particles.
        on_batch: called after every slice with the number of its images.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        images = binarised(data.y)
        return log_likelihood(
            model, data.x, images, guide=guide, num_particles=num_particles, on_batch=on_batch
        )


def make_vae_trainer(
    run: Run, model: BernoulliVAE, guide: BernoulliEncoder, data: Dataset
) -> VAETrainer:
    """The trainer of a run, at its beginning: Adam at a constant rate."""
    estimator, drawn = make_pair(run, guide)
    prior = [p for name, p in model.named_parameters() if name == "prior_logits"]
    others = [
        p for p in [*model.parameters(), *guide.parameters()] if all(p is not q for q in prior)
    ]

    def optimizer(parameters: list[Tensor], schedule: Schedule) -> AdamBesideSGD:
        return AdamBesideSGD(others, schedule.learning_rate, plain=prior, plain_lr=PRIOR_RATE)

    trainer = VAETrainer(
        model=model,
        guide=drawn,
        estimator=estimator,
        parameters=[*others, *prior],
        train_data=data.train,
        validation_data=data.validation.first(FOLLOWED),
        schedule=ConstantSchedule(
            epochs=run.epochs,
            learning_rate=run.learning_rate,
            batch_size=run.batch_size,
            seed=run.seed,
        ),
        validation_particles=1,
        make_optimizer=optimizer,
    )
    trainer.moments = GradientMoments(guide.parameters())
    return trainer
