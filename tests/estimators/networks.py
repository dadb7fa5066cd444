"""Small models with their tables of log-probabilities, everything written out by hand."""

import itertools
from dataclasses import dataclass, field

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from sfnn_pyro.guides import MixtureProposal, PriorProposal, RecognitionNetwork
from sfnn_pyro.models import SFNN
from tests.estimators.expectation import all_tuples, binary, layer_log_prob, weighing


@dataclass
class Case:
    """A model, one proposal and the tables of all K configurations of one datapoint."""

    model: object
    guide: object
    counts: tuple[int, ...]
    states: dict[str, Tensor]
    tables: object  # () -> (log P(y|h), log P(h|x), [log R_k]), each (K,), differentiable
    parameters: object  # () -> list
    args: object  # T -> arguments with T datapoints
    nesting: int = 1
    shape: tuple[int, ...] = (-1,)
    learned: list = field(default_factory=list)

    def expected(self, estimator) -> tuple[float, Tensor]:
        """Exact expectations of the estimator's objective and gradient."""
        log_y, _, log_r = self.tables()
        tuples = all_tuples(len(log_y), sum(self.counts))
        estimator.max_plate_nesting = self.nesting
        with weighing(tuples, log_r, self.counts, self.states, self.shape):
            loss = estimator.differentiable_loss(self.model, self.guide, *self.args(len(tuples)))
        parameters = self.parameters()
        grads = torch.autograd.grad(loss, parameters, allow_unused=True)
        flat = [
            (torch.zeros_like(p) if g is None else g).flatten()
            for g, p in zip(grads, parameters, strict=True)
        ]
        return -loss.item(), -torch.cat(flat)


def network(kind: str, counts: tuple[int, ...], sizes=(2, 2, 1, 3)) -> Case:
    """A network of one or two hidden layers with the prior, a recognition network or both."""
    model = SFNN(list(sizes))
    guide = RecognitionNetwork(model, width=2)
    for parameter in [*model.parameters(), *guide.parameters()]:
        torch.nn.init.normal_(parameter)
    x, y = torch.randn(1, sizes[0]), torch.rand(1, sizes[-1]).round()
    hidden = sizes[1:-1]
    rows = list(itertools.product(*[binary(n) for n in hidden]))
    states = {f"h{i + 1}": torch.stack([row[i] for row in rows]) for i in range(len(hidden))}

    def tables():
        below, prior, recognised, r_below = x.expand(len(rows), -1), 0.0, 0.0, None
        context = torch.tanh(torch.cat([x, y], -1) @ guide.encoder.weight.T + guide.encoder.bias)
        *layers, output = model.layers
        for i, (layer, h) in enumerate(zip(layers, states.values(), strict=True)):
            prior = prior + layer_log_prob(below @ layer.weight.T + layer.bias, h)
            part = guide.from_context[i]
            logits = context @ part.weight.T + part.bias
            if r_below is not None:
                logits = logits + r_below @ guide.from_below[i - 1].weight.T
            recognised = recognised + layer_log_prob(logits, h)
            below = r_below = h
        log_y = layer_log_prob(below @ output.weight.T + output.bias, y)
        log_r = {"prior": [prior], "recognition": [recognised], "mixture": [prior, recognised]}
        return log_y, prior, log_r[kind]

    prior = PriorProposal(model)
    guides = {"prior": prior, "recognition": guide}
    if kind == "mixture":
        guides["mixture"] = MixtureProposal(prior, guide, counts[0] / sum(counts))
    return Case(
        model,
        guides[kind],
        counts,
        states,
        tables,
        lambda: [*model.parameters(), *guide.parameters()],
        lambda t: (x.expand(t, -1), y.expand(t, -1)),
        learned=list(guide.parameters()),
    )


def plates(kind: str, counts: tuple[int, ...]) -> Case:
    """A plain function with a Categorical, a one-hot and Bernoullis in nested plates."""
    y = torch.tensor([[0.3, -1.2]])
    first = {
        "z": torch.randn(3),
        "b": torch.randn(3, 2),
        "k": torch.randn(2),
        "loc": torch.randn(2),
        "qz": torch.randn(3),
        "qb": torch.randn(2),
        "qk": torch.randn(2),
    }

    def param(name):
        return pyro.param(f"p_{name}", first[name].clone())

    def model(y):
        with pyro.plate("data", len(y), dim=-2):
            z = pyro.sample("z", dist.Categorical(logits=param("z")))
            k = pyro.sample("k", dist.OneHotCategorical(logits=param("k")))
            with pyro.plate("inner", 2, dim=-1):
                b = pyro.sample("b", dist.Bernoulli(logits=param("b")[z, torch.arange(2)]))
                loc = b * param("loc")[0] + k[..., 1] * param("loc")[1]
                pyro.sample("y", dist.Normal(loc, 1.0), obs=y)

    def guide(y):
        with pyro.plate("data", len(y), dim=-2):
            z = pyro.sample("z", dist.Categorical(logits=param("qz")))
            pyro.sample("k", dist.OneHotCategorical(logits=param("qk") + z.unsqueeze(-1)))
            with pyro.plate("inner", 2, dim=-1):
                pyro.sample("b", dist.Bernoulli(logits=param("qb") * y))

    rows = list(itertools.product(range(3), range(2), *[(0.0, 1.0)] * 2))
    z = torch.tensor([row[0] for row in rows])
    k = torch.eye(2)[[row[1] for row in rows]]
    b = torch.tensor([row[2:] for row in rows])
    # one draw is (M, T, inner or 1, *event)
    states = {"z": z.unsqueeze(-1), "k": k.unsqueeze(-2), "b": b}

    def tables():
        prior = torch.log_softmax(param("z"), -1)[z]
        prior = prior + (torch.log_softmax(param("k"), -1) * k).sum(-1)
        prior = prior + layer_log_prob(param("b")[z], b)
        loc = b * param("loc")[0] + k[:, 1:] * param("loc")[1]
        log_y = dist.Normal(loc, 1.0).log_prob(y).sum(-1)
        guided = torch.log_softmax(param("qz"), -1)[z]
        guided = guided + (torch.log_softmax(param("qk") + z.unsqueeze(-1), -1) * k).sum(-1)
        guided = guided + layer_log_prob(param("qb") * y, b)
        log_r = {"prior": [prior], "recognition": [guided], "mixture": [prior, guided]}
        return log_y, prior, log_r[kind]

    prior = PriorProposal(model)
    guides = {"prior": prior, "recognition": guide}
    if kind == "mixture":
        guides["mixture"] = MixtureProposal(prior, guide, counts[0] / sum(counts))
    return Case(
        model,
        guides[kind],
        counts,
        states,
        tables,
        lambda: [param(name).unconstrained() for name in first],
        lambda t: (y.expand(t, -1),),
        nesting=2,
        shape=(-1, 1),
    )


COUNTS = {"prior": (2,), "recognition": (2,), "mixture": (1, 1)}
