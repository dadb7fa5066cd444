"""What a larger global minibatch costs in likelihood, with the learning rate as it was or rescaled.

python -m benchmarks.minibatch

The 8 x 8 digits, 32-60-60-32, G3, M = 20, 40 epochs: validation log-likelihood, nats per image.
"""

from __future__ import annotations

import argparse

import torch

from benchmarks.timing import machine, write_json
from sfnn_pyro.runs import RunConfig
from sfnn_pyro.training import Schedule

BATCH, RATE, EPOCHS = 20, 0.05, 40
TIMES = (4, 16)
SEEDS = (0, 1)


def final(batch: int, rate: float, seed: int) -> float:
    schedule = Schedule(epochs=EPOCHS, batch_size=batch, learning_rate=rate, seed=seed)
    config = RunConfig(hidden=(60, 60), schedule=schedule)
    data = config.load_data()
    trainer = config.make_trainer(config.make_model(data), data)
    return [epoch.validation_log_likelihood for epoch in trainer.run()][-1]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", default="benchmarks/results/minibatch.json", help="File of the results."
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    cases = [(BATCH, "as it was", RATE)]
    for times in TIMES:
        rates = {"as it was": RATE, "root": RATE * times**0.5, "in proportion": RATE * times}
        cases += [(BATCH * times, name, rate) for name, rate in rates.items()]
    rows = []
    for batch, name, rate in cases:
        values = [final(batch, rate, seed) for seed in SEEDS]
        row = {"batch_size": batch, "rescaled": name, "learning_rate": rate, "validation": values}
        rows.append(row)
        print(row, flush=True)
    write_json(options.out, {"epochs": EPOCHS, "rows": rows, "machine": machine(threads=1)})


if __name__ == "__main__":
    main()
