"""MNIST completion with learned proposals, evaluated with the prior as proposal.

``python -m sfnn_pyro.experiments.learned_proposals --guide mixture --estimator rws --out FILE``
takes about eight minutes on one core and writes one JSON file.
"""

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from pyro.infer import ELBO

from sfnn_pyro.data import load_dataset
from sfnn_pyro.estimators import ESTIMATORS, G5, Estimator, ReweightedWakeSleep
from sfnn_pyro.evaluation import log_likelihood
from sfnn_pyro.guides import MixtureProposal, PriorProposal, RecognitionNetwork
from sfnn_pyro.models import SFNN
from sfnn_pyro.runs import machine, standard_error
from sfnn_pyro.system.atomic_files import write_text
from sfnn_pyro.training import Schedule, Trainer

GUIDES = ("prior", "recognition", "mixture")


def main(arguments: list[str] | None = None) -> None:
    """Trains, evaluates and writes the result."""
    options = _parser().parse_args(arguments)
    data = load_dataset(options.data)
    torch.manual_seed(options.seed)
    model = SFNN([data.x_size, *options.hidden, data.y_size], data.likelihood)
    prior = PriorProposal(model)
    recognition = RecognitionNetwork(model, options.width)
    guides: dict[str, Any] = {
        "prior": prior,
        "recognition": recognition,
        "mixture": MixtureProposal(prior, recognition, options.share),
    }
    guide = guides[options.guide]
    schedule = Schedule(options.epochs, options.learning_rate, seed=options.seed)
    first, later = _estimator(options), _WithGuide(G5(options.particles), prior)
    trainer = Trainer(
        model=model,
        guide=guide,
        estimator=lambda epoch: later if 0 < options.prior_from <= epoch + 1 else first,
        train_data=data.train,
        validation_data=data.validation,
        schedule=schedule,
    )
    start = time.perf_counter()
    for epoch in trainer.run():
        seconds = time.perf_counter() - start
        print(
            f"epoch {epoch.epoch}: train {epoch.train_log_likelihood:.2f}, "
            f"validation {epoch.validation_log_likelihood:.2f} nats, {seconds:.0f} s",
            flush=True,
        )
    seconds = time.perf_counter() - start
    test = data.test
    torch.manual_seed(options.seed)
    with_prior = log_likelihood(model, test.x, test.y, num_particles=options.test_particles)
    with_guide = log_likelihood(
        model, test.x, test.y, guide=guide, num_particles=options.test_particles
    )
    result = {
        "options": {**vars(options), "out": options.out.name},
        "schedule": asdict(schedule),
        "negative_log_likelihood_with_prior": -with_prior.mean().item(),
        "standard_error": standard_error(with_prior),
        "negative_log_likelihood_with_guide": -with_guide.mean().item(),
        "epochs": [asdict(epoch) for epoch in trainer.history],
        "training_seconds": seconds,
        "machine": machine(),
    }
    write_text(options.out, json.dumps(result, indent=2) + "\n")
    print({key: value for key, value in result.items() if key.startswith("negative")})


class _WithGuide(ELBO):
    """An estimator that always uses one guide, and ignores the guide it is given."""

    def __init__(self, estimator: ELBO, guide: Any) -> None:
        super().__init__(num_particles=estimator.num_particles)
        self.estimator, self.guide = estimator, guide

    def loss(self, model: Any, guide: Any, *args: Any) -> float:
        return self.estimator.loss(model, self.guide, *args)

    def loss_and_grads(self, model: Any, guide: Any, *args: Any) -> float:
        return self.estimator.loss_and_grads(model, self.guide, *args)

    def _get_trace(self, model: Any, guide: Any, args: tuple, kwargs: dict) -> Any:
        return self.estimator._get_trace(model, self.guide, args, kwargs)


def _estimator(options: argparse.Namespace) -> Estimator:
    if options.estimator == "rws":
        return ReweightedWakeSleep(options.particles, insomnia=options.insomnia)
    return ESTIMATORS[options.estimator](num_particles=options.particles)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m sfnn_pyro.experiments.learned_proposals",
        description="Train a network with a learned proposal, and evaluate it with the prior.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = parser.add_argument
    add("--out", type=Path, required=True, help="JSON file of the result.")
    add("--data", default="mnist", help="Name of the data set.")
    add("--guide", choices=GUIDES, default="mixture", help="Proposal of the training.")
    add("--estimator", choices=tuple(ESTIMATORS), default="rws", help="Gradient estimator.")
    add(
        "--prior-from",
        type=int,
        default=0,
        help="First epoch in which the prior is the proposal and G5 the estimator; 0 for none.",
    )
    add("--hidden", type=int, nargs="+", default=[200, 200], help="Widths of the hidden layers.")
    add("--width", type=int, default=200, help="Units of the proposal's encoder.")
    add("--share", type=float, default=0.5, help="The prior's share of a mixture's particles.")
    add("--insomnia", type=float, default=0.5, help="Weight of the wake phase, from 0 to 1 (rws).")
    add("--particles", type=int, default=20, help="Number of particles M of the training.")
    add("--test-particles", type=int, default=100, help="Number of particles M of the evaluation.")
    add("--epochs", type=int, default=10, help="Number of epochs.")
    add("--learning-rate", type=float, default=0.1, help="Highest learning rate of the schedule.")
    add("--seed", type=int, default=0, help="Seed of the weights and of the training.")
    return parser


if __name__ == "__main__":
    main()
