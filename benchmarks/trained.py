"""Whether a step stays as fast when the weights have grown, as a training makes them.

Large weights make responsibilities and probabilities so small that their products would be
denormal numbers, which a processor handles many times slower.

python -m benchmarks.trained --out trained.json
"""

from __future__ import annotations

import torch

from benchmarks.network import BATCH, PARTICLES
from benchmarks.options import parser_for
from benchmarks.ours import make_ours
from benchmarks.timing import interleave, machine, ratio, summary, write_json
from sfnn_pyro.system.allocator import keep_pages

GAIN = 10.0


def main() -> None:
    parser = parser_for(__doc__, rounds=15)
    estimators = ["G3", "G4", "G5", "VIMCO"]
    parser.add_argument(
        "--estimators", nargs="+", default=estimators, help="Classes of sfnn_pyro.estimators."
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_pages()
    calls = {
        f"{estimator} gain={gain:g}": make_ours(BATCH, PARTICLES, estimator=estimator, gain=gain)
        for estimator in args.estimators
        for gain in (1.0, GAIN)
    }
    times, others = interleave(calls, rounds=args.rounds, per_round=4, patience=30)
    for name, row in summary(times).items():
        print(f"{name:16s} {row['median']:8.2f} ms")
    ratios = {
        estimator: ratio(times, f"{estimator} gain={GAIN:g}", f"{estimator} gain=1")
        for estimator in args.estimators
    }
    print({estimator: round(value, 2) for estimator, value in ratios.items()})
    if args.out:
        results = {"machine": machine(args.threads), "milliseconds": summary(times)}
        write_json(args.out, {**results, "others": others, "large_to_small": ratios})


if __name__ == "__main__":
    main()
