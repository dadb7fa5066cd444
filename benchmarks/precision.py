"""Whether bfloat16 autocast changes what is learnt: test likelihood on the embedded digits.

python -m benchmarks.precision --out precision.json
"""

from __future__ import annotations

import argparse
import statistics

import torch

from benchmarks.timing import machine, write_json
from sfnn_pyro.data import load_dataset
from sfnn_pyro.estimators import ESTIMATORS
from sfnn_pyro.evaluation import log_likelihood
from sfnn_pyro.guides import PriorProposal
from sfnn_pyro.models import SFNN
from sfnn_pyro.training import Schedule, Trainer


def likelihood(estimator: str, seed: int, epochs: int, *, bfloat16: bool) -> float:
    """Mean test log-likelihood in nats, evaluated in float32 either way."""
    digits = load_dataset("digits")
    torch.manual_seed(seed)
    model = SFNN([digits.x_size, 60, 60, digits.y_size])
    schedule = Schedule(epochs=epochs, learning_rate=0.3, batch_size=20, seed=seed)
    elbo = ESTIMATORS[estimator](num_particles=20)
    trainer = Trainer(model, PriorProposal(model), elbo, digits.train, digits.validation, schedule)
    with torch.autocast("cpu", torch.bfloat16, enabled=bfloat16):
        for _ in trainer.run():
            pass
    torch.manual_seed(0)
    return log_likelihood(model, digits.test.x, digits.test.y).mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="Number of seeds.")
    parser.add_argument("--epochs", type=int, default=10, help="Number of epochs.")
    parser.add_argument("--out", metavar="FILE.json", help="File of the results.")
    args = parser.parse_args()
    results = {}
    for estimator in ("g3", "g5"):
        for bfloat16 in (False, True):
            values = [
                likelihood(estimator, seed, args.epochs, bfloat16=bfloat16)
                for seed in range(args.seeds)
            ]
            name = f"{estimator} {'bfloat16' if bfloat16 else 'float32'}"
            results[name] = values
            spread = statistics.stdev(values)
            print(f"{name}: {statistics.mean(values):.3f}, deviation of seeds {spread:.3f}")
    if args.out:
        write_json(args.out, {"machine": machine(1), "epochs": args.epochs, "nats": results})


if __name__ == "__main__":
    main()
