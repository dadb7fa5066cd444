"""JSA: the chain and its gradient by enumeration of all states, proposals and acceptances."""

import itertools
import math

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI
from pyro.optim import SGD

from sfnn_pyro.data import Split
from sfnn_pyro.estimators import JSA, Lazy, jsa
from sfnn_pyro.exact import exact_log_likelihood
from sfnn_pyro.guides import MixtureProposal, PriorProposal, RecognitionNetwork
from sfnn_pyro.models import SFNN
from sfnn_pyro.training import Schedule, Trainer
from tests.estimators.expectation import Queue, close, gradient
from tests.estimators.networks import network

M = 2


class Chain:
    """Every start, every tuple of proposals and every pattern of acceptances, as datapoints."""

    def __init__(self, case):
        log_y, log_h, (log_r,) = (
            table.detach() if torch.is_tensor(table) else table for table in case.tables()
        )
        weight = (log_y + log_h - log_r.detach()).exp()
        posterior = weight * log_r.detach().exp()
        self.posterior = posterior / posterior.sum()
        count = len(weight)
        rows = itertools.product(range(count), *[range(count)] * M, *[(True, False)] * M)
        self.start, *proposed, first, second = (list(column) for column in zip(*rows, strict=True))
        self.proposed = torch.tensor(proposed)  # (M, T)
        self.uniform, chance, at = [], torch.ones(len(self.start)), torch.tensor(self.start)
        for proposal, accepted in zip(self.proposed, (first, second), strict=True):
            ratio = (weight[proposal] / weight[at]).clamp(max=1)
            accepted = torch.tensor(accepted)
            # In the middle of those numbers for which the step is accepted, or refused.
            self.uniform.append(torch.where(accepted, ratio / 2, (1 + ratio) / 2))
            chance = chance * torch.where(accepted, ratio, 1 - ratio)
            chance = chance * log_r.detach().exp()[proposal]
            at = torch.where(accepted, proposal, at)
        possible = chance > 0  # Pyro takes no scale of zero
        self.start = torch.tensor(self.start)[possible]
        self.proposed, self.uniform = self.proposed[:, possible], torch.stack(self.uniform)
        self.uniform = self.uniform[:, possible]
        self.chance = chance[possible]  # of proposals and acceptances, given the start
        self.kernel = log_r.detach().exp() * (weight[None] / weight[:, None]).clamp(max=1)
        self.kernel += torch.diag(1 - self.kernel.sum(1))  # (from, to), written out


def run(case, chain, start_law, monkeypatch):
    """The law of the memory after a step, and the expected gradient."""
    estimator = JSA(M, max_plate_nesting=1)
    states = {name: table.bool() for name, table in case.states.items()}
    known = torch.ones(len(chain.start), dtype=torch.bool)
    memory = {name: table[chain.start] for name, table in states.items()}
    estimator.load_state_dict({"known": known, "values": memory})
    monkeypatch.setattr(jsa, "uniforms", lambda like: chain.uniform)
    chance = chain.chance * start_law[chain.start]
    estimator.see_rows(torch.arange(len(chance)))
    draws = {name: [table[chain.proposed]] for name, table in case.states.items()}
    with Queue(draws), poutine.scale(scale=chance):
        loss = estimator.differentiable_loss(case.model, case.guide, *case.args(len(chance)))
    values = estimator.state_dict()["values"]
    same = [
        (values[name][:, None] == table[None]).flatten(2).all(-1) for name, table in states.items()
    ]
    after = (torch.stack(same).all(0) * chance[:, None]).sum(0)
    return after, -gradient(loss, case.parameters())


def written_out(case, law):
    """The gradient of model and guide, at latents of a given law."""
    log_y, log_h, (log_r,) = case.tables()
    of = log_y + log_h
    if isinstance(case.guide, RecognitionNetwork):
        of = of + log_r
    return gradient((law * of).sum(), case.parameters())


@pytest.mark.parametrize("kind", ["prior", "recognition"])
@pytest.mark.parametrize("sizes", [(2, 2, 3), (2, 1, 1, 2)])
def test_the_chain_leaves_the_posterior_as_it_is(kind, sizes, monkeypatch):
    """And then the gradient is exactly that of log P(y | x), and of the guide at the posterior."""
    case = network(kind, (M,), sizes=sizes)
    chain = Chain(case)
    after, measured = run(case, chain, chain.posterior, monkeypatch)
    assert close(after, chain.posterior)
    assert close(measured, written_out(case, chain.posterior))
    likelihood = exact_log_likelihood(case.model, *case.args(1)).sum()
    parameters = case.parameters()
    own = [p for p in case.model.parameters() if any(p is q for q in parameters)]
    of_model = [p.numel() for p in own]
    assert close(measured[: sum(of_model)], gradient(likelihood, own))


@pytest.mark.parametrize("kind", ["prior", "recognition"])
def test_the_gradient_given_any_law_of_the_memory(kind, monkeypatch):
    case = network(kind, (M,), sizes=(2, 2, 3))
    chain = Chain(case)
    law = torch.rand(len(chain.posterior))
    law = law / law.sum()
    once = law @ chain.kernel
    after, measured = run(case, chain, law, monkeypatch)
    assert close(after, once @ chain.kernel)
    assert close(measured, written_out(case, (once + once @ chain.kernel) / M))


def args(count=3):
    return torch.zeros(count, 2), torch.ones(count, 2)


def make():
    model = SFNN([2, 3, 2, 2])
    return model, RecognitionNetwork(model)


def test_without_a_memory_the_first_proposal_is_where_it_begins():
    model, guide = make()
    estimator = JSA(1, max_plate_nesting=1)
    estimator.see_rows(torch.tensor([4, 0, 2]))
    h1, h2 = torch.rand(1, 3, 3).round(), torch.rand(1, 3, 2).round()
    with Queue({"h1": [h1], "h2": [h2]}):
        estimator.differentiable_loss(model, guide, *args()).backward()
    state = estimator.state_dict()
    assert state["known"].tolist() == [True, False, True, False, True]
    assert torch.equal(state["values"]["h1"][[4, 0, 2]], h1[0].bool())
    assert torch.equal(state["values"]["h2"][[4, 0, 2]], h2[0].bool())
    with Queue({"h1": [h1], "h2": [h2]}):  # rows are of one step
        JSA(1, max_plate_nesting=1).differentiable_loss(model, guide, *args()).backward()
    assert estimator.state_dict() is not state and len(estimator.state_dict()["known"]) == 5


def test_a_state_goes_on_where_another_was():
    model, guide = make()
    losses, estimators = [], (JSA(2), JSA(2))
    estimators[0].see_rows(torch.arange(3))
    estimators[0].differentiable_loss(model, guide, *args())
    estimators[1].load_state_dict(estimators[0].state_dict())
    for estimator in estimators:
        torch.manual_seed(1)
        estimator.see_rows(torch.arange(3))
        loss = estimator.differentiable_loss(model, guide, *args())
        losses.append(gradient(loss, [*model.parameters(), *guide.parameters()]))
    assert torch.equal(*losses)
    estimators[0].load_state_dict({})
    assert estimators[0].state_dict() == {}


def test_continuous_latents_in_two_plates_are_remembered_whole():
    """A latent of every datapoint and element of a further plate, on the left of the data."""
    scale = torch.tensor(0.5, requires_grad=True)

    def model(y):
        with pyro.plate("data", y.shape[-1], dim=-1):
            with pyro.plate("parts", 2, dim=-2):
                z = pyro.sample("z", dist.Normal(torch.zeros(2, 1), 1.0))
            pyro.sample("y", dist.Normal(z.sum(-2, keepdim=True), 1.0), obs=y)

    def guide(y):
        with pyro.plate("data", y.shape[-1], dim=-1), pyro.plate("parts", 2, dim=-2):
            pyro.sample("z", dist.Normal(scale * y.expand(2, -1), 1.0))

    estimator, y = JSA(3), torch.randn(1, 4)
    for _ in range(2):
        estimator.see_rows(torch.arange(4))
        estimator.differentiable_loss(model, guide, y).backward()
    assert estimator.state_dict()["values"]["z"].shape == (4, 2)
    assert scale.grad.isfinite() and scale.grad != 0


def test_the_trainer_says_which_rows():
    model, guide = make()
    x, y = torch.rand(10, 2).round(), torch.rand(10, 2).round()
    data = Split(x.float(), y.float())
    for estimator in (JSA(2), Lazy(JSA(2))):
        model, guide = (part.float() for part in (model, guide))
        list(Trainer(model, guide, estimator, data, data, Schedule(epochs=1, batch_size=4)).run())
        known = estimator.state_dict()["known"]
        assert len(known) == 10 and known.all()


def test_a_memory_is_better_than_none():
    """One latent that says which of two patterns y is, and a guide that tosses a coin.

    With M = 1 and no memory the model learns from coins, which say nothing, with one from the
    posterior.
    """
    y = torch.tensor([[1.0] * 4, [0.0] * 4]).repeat(8, 1)
    errors = []
    for remembers in (False, True):
        torch.manual_seed(0)
        logits = torch.zeros(4, requires_grad=True)

        def model(y, logits=logits):
            with pyro.plate("data", len(y), dim=-1):
                h = pyro.sample("h", dist.Bernoulli(0.5 * torch.ones(1)).to_event(1))
                pyro.sample("y", dist.Bernoulli(logits=logits * (2 * h - 1)).to_event(1), obs=y)

        def guide(y):
            with pyro.plate("data", len(y), dim=-1):
                pyro.sample("h", dist.Bernoulli(0.5 * torch.ones(1)).to_event(1))

        estimator, optimizer = JSA(1, max_plate_nesting=1), torch.optim.SGD([logits], 0.05)
        with torch.no_grad():
            logits += 0.5
        for _ in range(100):
            if remembers:
                estimator.see_rows(torch.arange(len(y)))
            optimizer.zero_grad()
            estimator.differentiable_loss(model, guide, y).backward()
            optimizer.step()
        errors.append(logits.detach().sigmoid().mean().item())
    assert errors[0] < 0.6 and errors[1] > 0.8


def test_refusals():
    model, guide = make()
    estimator = JSA(2)
    estimator.see_rows(torch.arange(2))
    with pytest.raises(ValueError, match=r"rows of shape \(2,\) for datapoints of shape \(3,\)"):
        estimator.differentiable_loss(model, guide, *args())
    mixture = MixtureProposal(PriorProposal(model), guide)
    with pytest.raises(ValueError, match="needs independent draws of one guide; use Reweighted"):
        estimator.loss(model, mixture, *args())
    with pytest.raises(ValueError, match="a state of JSA has the keys"):
        estimator.load_state_dict({"known": torch.ones(2, dtype=torch.bool)})
    with pytest.raises(ValueError, match="as many latents as it has datapoints"):
        estimator.load_state_dict(
            {"known": torch.ones(2, dtype=torch.bool), "values": {"h1": torch.zeros(3, 1)}}
        )
    with pytest.raises(ValueError, match="vectorize_particles=False: JSA"):
        JSA(2, vectorize_particles=False)


def test_a_guide_that_cannot_be_scored_at_what_is_remembered_is_refused():
    def model(y):
        with pyro.plate("data", len(y), dim=-1):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    def noisy(y):
        with pyro.plate("data", len(y), dim=-1):
            e = pyro.sample("e", dist.Normal(0.0, 1.0), infer={"is_auxiliary": True})
            pyro.sample("z", dist.Delta(e))

    def point(y):
        with pyro.plate("data", len(y), dim=-1):
            pyro.sample("z", dist.Delta(y * pyro.param("a", torch.ones(()))))

    for guide, words in ((noisy, "site 'e': a guide with a latent of its own"), (point, "a Delta")):
        estimator = JSA(2)
        estimator.see_rows(torch.arange(3))
        with pytest.raises(ValueError, match=words):
            estimator.differentiable_loss(model, guide, torch.zeros(3))


def test_visits_of_one_step():
    weights = torch.tensor([[1.0, 4.0, math.inf], [2.0, 1.0, 0.0]]).log()
    weights[0, 2] = -math.inf
    share, last = jsa.visits(weights, torch.tensor([[0.99, 0.3, 0.5]]))
    assert share.tolist() == [[0, 1, 0], [1, 0, 0]] and last.tolist() == [1, 0, 1]
    svi_like = SVI(*make(), SGD({"lr": 0.1}), JSA(2))
    assert math.isfinite(svi_like.step(*args()))
