"""Time one training step of a Bernoulli VAE: ours, compiled, and the same by hand in PyTorch.

python -m benchmarks.vae --out vae.json
"""

from __future__ import annotations

import itertools
import math
import statistics

import torch
from pyro.infer import SVI
from torch.nn.functional import binary_cross_entropy_with_logits

from benchmarks.options import add_quiet, parser_for
from benchmarks.timing import Call, interleave, machine, ratio, summary, write_json
from sfnn_pyro.estimators import RLOO, Compiled, DisARM
from sfnn_pyro.guides import BernoulliEncoder
from sfnn_pyro.models import BernoulliVAE
from sfnn_pyro.models.feedforward import SLOPE
from sfnn_pyro.system.allocator import keep_pages
from sfnn_pyro.training import JointOptim

PIXELS, LATENTS, BATCH, RATE = 784, 200, 100, 1e-3
NETWORKS = {
    "linear": ([LATENTS, PIXELS], [PIXELS, LATENTS]),
    "nonlinear": ([LATENTS, 200, 200, PIXELS], [PIXELS, 200, 200, LATENTS]),
}
NUMBERS = itertools.count()


def images() -> torch.Tensor:
    """Made-up images, with as many ones as MNIST has."""
    generator = torch.Generator().manual_seed(0)
    return (torch.rand(BATCH, PIXELS, generator=generator) < 0.13).float()


def make_ours(network: str, estimator, *, compiled: bool) -> Call:
    number = next(NUMBERS)
    decoder, encoder = NETWORKS[network]
    model = BernoulliVAE(decoder, name=f"model{number}")
    guide = BernoulliEncoder(encoder, name=f"guide{number}")
    parameters = [*model.parameters(), *guide.parameters()]
    optimizer = JointOptim(torch.optim.Adam(parameters, lr=RATE, fused=True))
    svi = SVI(model, guide, optimizer, Compiled(estimator) if compiled else estimator)
    x, y = torch.zeros(BATCH, 0), images()
    return lambda: svi.step(x, y)


def by_hand(widths) -> torch.nn.Sequential:
    parts: list[torch.nn.Module] = []
    for n_in, n_out in itertools.pairwise(widths):
        parts += [torch.nn.LeakyReLU(SLOPE)] if parts else []
        parts.append(torch.nn.Linear(n_in, n_out))
    return torch.nn.Sequential(*parts)


def log_prob(logits: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
    logits, value = torch.broadcast_tensors(logits, value)
    return -binary_cross_entropy_with_logits(logits, value, reduction="none").sum(-1)


def make_by_hand(network: str, estimator: str) -> Call:
    """The step written by hand for this estimator and this network alone."""
    decoder, encoder = (by_hand(widths) for widths in NETWORKS[network])
    parameters = [*decoder.parameters(), *encoder.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=RATE, fused=True)
    y = images()

    def surrogate() -> tuple[torch.Tensor, torch.Tensor]:
        logits = encoder(y)
        probs = logits.detach().sigmoid()
        if estimator == "rloo":
            h = (torch.rand(2, BATCH, LATENTS) < probs).float()
            score = log_prob(logits, h)
            bound = log_prob(decoder(h), y) - LATENTS * math.log(2) - score
            less = bound.detach() - bound.detach().flip(0)
            # The score of the bound's own -log R has a mean of zero, and is taken back.
            return bound.mean(0), bound.mean(0) + (0.5 * less * score + 0.5 * score).sum(0)
        uniform = torch.rand(BATCH, LATENTS)
        h = torch.stack([uniform < probs, uniform > 1 - probs]).float()
        bound = log_prob(decoder(h), y) - LATENTS * math.log(2) - log_prob(logits.detach(), h)
        less = 0.5 * (bound[0] - bound[1]).detach()
        pull = less[:, None] * (h[0] - h[1]) * logits.detach().abs().sigmoid()
        return bound.mean(0), bound.mean(0) + (pull * logits).sum(-1)

    def step() -> float:
        bound, value = surrogate()
        optimizer.zero_grad()
        (-value.sum()).backward()
        optimizer.step()
        return -bound.sum().item()

    return step


def measure(network: str, rounds: int, per_round: int, patience: float) -> dict[str, object]:
    """Times of all steps of one network, printed too."""
    estimators = {"rloo": lambda: RLOO(2), "disarm": lambda: DisARM(1)}
    calls = {}
    for name, make in estimators.items():
        calls[f"hand_{name}"] = make_by_hand(network, name)
        calls[f"ours_{name}"] = make_ours(network, make(), compiled=False)
        calls[f"compiled_{name}"] = make_ours(network, make(), compiled=True)
    times, others = interleave(calls, rounds=rounds, per_round=per_round, patience=patience)
    rows = summary(times)
    ratios = {name: ratio(times, name, f"hand_{name.partition('_')[2]}") for name in rows}
    print(f"{network}; others had {statistics.median(others):.0%} in the median round")
    for name, row in rows.items():
        print(f"{name:16} {row['median']:6.2f} ms, {ratios[name]:.2f} of by hand")
    return {"milliseconds": rows, "of_by_hand": ratios, "seconds": times, "others": others}


def main(argv=None) -> None:
    parser = parser_for(__doc__, rounds=25, threads=False)
    parser.add_argument(
        "--threads",
        type=int,
        default=1,
        help="Number of threads of PyTorch: one, as in a sweep.",
    )
    add_quiet(parser, per_round=10)
    args = parser.parse_args(argv)
    torch.set_num_threads(args.threads)
    keep_pages()
    found = {one: measure(one, args.rounds, args.per_round, args.patience) for one in NETWORKS}
    if args.out:
        about = {"machine": machine(args.threads), "problem": {"batch": BATCH, **NETWORKS}}
        write_json(args.out, {**about, "networks": found})


if __name__ == "__main__":
    main()
