"""Time the test log-likelihood of many images, against its matrix products alone.

python -m benchmarks.evaluate --images 10000 --particles 100
"""

from __future__ import annotations

import torch

from benchmarks import eager
from benchmarks.floors import make_floor_evaluation
from benchmarks.network import SIZES, make_batch, make_layers
from benchmarks.options import parser_for
from benchmarks.timing import interleave, machine, ratio, summary, write_json


def make_torch_evaluation(images: int, num_particles: int, sizes=SIZES, *, at_once: int = 100):
    """By hand in eager PyTorch, ``at_once`` images at a time."""
    x, y = map(torch.from_numpy, make_batch(images, sizes))
    net = eager.make_net(make_layers(sizes))

    @torch.no_grad()
    def run() -> torch.Tensor:
        losses = []
        for x_part, y_part in zip(x.split(at_once), y.split(at_once), strict=True):
            uniforms = [torch.rand(num_particles, len(x_part), n) for n in sizes[1:-1]]
            losses.append(eager.loss_g3(net, x_part, y_part, uniforms))
        return -torch.stack(losses).sum()

    return run


def make_ours_evaluation(images: int, num_particles: int, sizes=SIZES):
    from sfnn_pyro.evaluation import log_likelihood
    from sfnn_pyro.models import SFNN

    x, y = map(torch.from_numpy, make_batch(images, sizes))
    model = SFNN(list(sizes))
    return lambda: log_likelihood(model, x, y, num_particles=num_particles)


def main(argv=None) -> None:
    parser = parser_for(__doc__, rounds=3)
    parser.add_argument("--images", type=int, default=10_000, help="Number of images.")
    parser.add_argument("--particles", type=int, default=100, help="Number of particles M.")
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    calls = {}
    for name, make in {
        "floor": make_floor_evaluation,
        "ours": make_ours_evaluation,
        "torch": make_torch_evaluation,
    }.items():
        try:
            calls[name] = make(args.images, args.particles)
        except ImportError as error:
            print(f"{name}: skipped, {error}")
    seconds, others = interleave(calls, rounds=args.rounds, per_round=1, warm_up=0)
    for name, row in summary(seconds).items():
        print(
            f"{name:6s} {row['median'] / 1e3:6.2f} s, {ratio(seconds, name, 'floor'):.2f} x floor"
        )
    if args.out:
        problem = {"images": args.images, "particles": args.particles, "sizes": list(SIZES)}
        results = {"machine": machine(args.threads), "problem": problem}
        write_json(args.out, {**results, "seconds": seconds, "others": others})


if __name__ == "__main__":
    main()
