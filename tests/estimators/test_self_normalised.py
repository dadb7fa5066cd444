"""G4, G5 and reweighted wake-sleep with proposals: written-out expectations, and the limit."""

import itertools

import pyro
import pyro.distributions as dist
import pytest
import torch

from sfnn_pyro.estimators import G4, G5, ReweightedWakeSleep
from sfnn_pyro.evaluation.exact import exact_log_likelihood
from sfnn_pyro.guides import MixtureProposal, PriorProposal, RecognitionNetwork
from sfnn_pyro.models import SFNN
from tests.estimators.expectation import (
    Queue,
    close,
    expected_self_normalised,
    gradient,
)
from tests.estimators.networks import COUNTS, network, plates


def written_out(case, guide_weight=0.0):
    """E of eq. 30 for the model, and of the wake phase for the guides that learn."""
    log_y, log_h, log_r = case.tables()
    tables = log_y + log_h, log_r, case.counts
    learned = log_r if isinstance(case.guide, RecognitionNetwork) else log_r[1:]
    of = log_y + log_h
    total = expected_self_normalised(*tables, of)
    for one in learned:
        total = total + guide_weight * expected_self_normalised(*tables, one)
    return gradient(total, case.parameters())


@pytest.mark.parametrize("make", [network, plates])
@pytest.mark.parametrize("kind", COUNTS)
def test_g4_with_every_proposal(make, kind):
    case = make(kind, COUNTS[kind])
    _, measured = case.expected(G4(2))
    assert close(measured, written_out(case))


@pytest.mark.parametrize("make", [network, plates])
def test_g5_under_a_mixture_subtracts_its_constant_from_the_priors_particles(make):
    case = make("mixture", (1, 1))
    for c in (0.5, 0.1):
        _, measured = case.expected(G5(2, c=c))
        assert close(measured, written_out(case))
    pyro.clear_param_store()
    case = network("mixture", (2, 1), sizes=(2, 2, 3))
    _, measured = case.expected(G5(3))
    assert close(measured, written_out(case))


@pytest.mark.parametrize("insomnia", [1.0, 0.3])
@pytest.mark.parametrize("kind", ["recognition", "mixture"])
def test_wake_phase(kind, insomnia, monkeypatch):
    case = network(kind, COUNTS[kind])
    monkeypatch.setattr(ReweightedWakeSleep, "_sleep", lambda *args: torch.zeros(()))
    _, measured = case.expected(ReweightedWakeSleep(2, insomnia=insomnia))
    assert close(measured, written_out(case, guide_weight=insomnia))


def test_sleep_phase_is_the_gradient_of_the_expected_log_density_of_dreams():
    """All (h, y) of a network as one batch of dreams, weighted by P(h, y | x)."""
    model = SFNN([2, 2, 1, 2])
    guide = RecognitionNetwork(model, width=2)
    for p in [*model.parameters(), *guide.parameters()]:
        torch.nn.init.normal_(p)
    x = torch.randn(1, 2)
    rows = torch.tensor(list(itertools.product([0.0, 1.0], repeat=5)))
    h1, h2, y = rows[:, :2], rows[:, 2:3], rows[:, 3:]
    first, second, output = model.layers
    from tests.estimators.expectation import layer_log_prob

    joint = layer_log_prob(x @ first.weight.T + first.bias, h1)
    joint = joint + layer_log_prob(h1 @ second.weight.T + second.bias, h2)
    joint = joint + layer_log_prob(h2 @ output.weight.T + output.bias, y)
    context = torch.tanh(
        torch.cat([x.expand(32, -1), y], -1) @ guide.encoder.weight.T + guide.encoder.bias
    )
    a1, a2 = (context @ part.weight.T + part.bias for part in guide.from_context)
    log_r = layer_log_prob(a1, h1) + layer_log_prob(a2 + h1 @ guide.from_below[0].weight.T, h2)
    target = gradient((joint.exp().detach() * log_r).sum(), list(guide.parameters()))

    estimator = ReweightedWakeSleep(2, insomnia=0.0, max_plate_nesting=1)
    observed = torch.zeros(32, 2)
    with Queue({"h1": [h1], "h2": [h2], "y": [y]}), pyro.poutine.scale(scale=joint.exp().detach()):
        value = estimator._sleep(model, guide, (x.expand(32, -1), observed), {})
    assert close(gradient(value, list(guide.parameters())), target)
    # and it does not touch the model
    assert not gradient(value, list(model.parameters())).any()


@pytest.mark.parametrize("insomnia", [0.0, 0.25, 1.0])
def test_phases_share_the_guides_gradient(insomnia, monkeypatch):
    """The sleep phase adds 1 - insomnia of its gradient, and nothing to the loss."""
    dreams = torch.tensor(3.0, requires_grad=True)
    monkeypatch.setattr(ReweightedWakeSleep, "_sleep", lambda *args: 7 * dreams)
    case = network("recognition", (2,))
    estimator = ReweightedWakeSleep(2, insomnia=insomnia, max_plate_nesting=1)
    torch.manual_seed(1)
    loss = estimator.differentiable_loss(case.model, case.guide, *case.args(1))
    torch.manual_seed(1)
    assert loss.item() == pytest.approx(estimator.loss(case.model, case.guide, *case.args(1)))
    (grad,) = gradient(loss, [dreams]).tolist()
    assert grad == pytest.approx(-7 * (1 - insomnia))


def test_the_prior_of_a_mixture_does_not_dream():
    model = SFNN([2, 3, 2])
    guide = RecognitionNetwork(model)
    estimator = ReweightedWakeSleep(2, insomnia=0.0, max_plate_nesting=1)
    args = torch.randn(4, 2), torch.rand(4, 2).round()
    alone, mixed = [], []
    for proposal, found in ((guide, alone), (MixtureProposal(PriorProposal(model), guide), mixed)):
        torch.manual_seed(1)
        found.append(estimator._sleep(model, proposal, args, {}))
    assert torch.equal(alone[0], mixed[0])
    assert not gradient(mixed[0], list(model.parameters())).any()


def test_dreams_take_the_place_of_observations_alone():
    """A latent may carry notes of its own; without a sleep phase nothing is dreamt."""
    y = torch.zeros(3)

    def model(given=None):
        with pyro.plate("data", 3):
            h = pyro.sample("h", dist.Bernoulli(torch.tensor(0.5)), infer={"note": 1})
            pyro.sample("y", dist.Normal(h, 1.0), obs=y if given is None else given)

    def guide(given=None):
        with pyro.plate("data", 3):
            pyro.sample("h", dist.Bernoulli(logits=pyro.param("q", torch.tensor(0.3))))

    ReweightedWakeSleep(2, insomnia=0.5).differentiable_loss(model, guide, y).backward()
    pyro.get_param_store()._params["q"].grad = None
    loss = ReweightedWakeSleep(2, insomnia=1.0).differentiable_loss(model, guide)
    loss.backward()
    assert pyro.get_param_store()._params["q"].grad.isfinite()


def test_g5_leaves_the_guide_of_a_mixture_alone():
    """Not in the mean only: its constant is no business of the guide's density."""
    model = SFNN([2, 3, 2])
    guide = RecognitionNetwork(model)
    mixture = MixtureProposal(PriorProposal(model), guide)
    x, y = torch.randn(4, 2), torch.rand(4, 2).round()
    loss = G5(4, max_plate_nesting=1).differentiable_loss(model, mixture, x, y)
    assert not gradient(loss, list(guide.parameters())).any()
    assert gradient(loss, list(model.parameters())).any()


def test_both_phases_in_one_step_move_model_and_guide():
    model = SFNN([3, 4, 2])
    guide = RecognitionNetwork(model, width=5)
    before = [p.detach().clone() for p in [*model.parameters(), *guide.parameters()]]
    svi = pyro.infer.SVI(
        model, guide, pyro.optim.SGD({"lr": 0.1}), ReweightedWakeSleep(4, insomnia=0.5)
    )
    svi.step(torch.randn(6, 3), torch.rand(6, 2).round())
    after = [*model.parameters(), *guide.parameters()]
    assert all(not torch.equal(a, b) for a, b in zip(before, after, strict=True))


@pytest.mark.parametrize("estimator", [G4, ReweightedWakeSleep])
def test_limit_of_many_particles_with_a_guide(estimator):
    """Particles in the exact proportions of R (uniform) give exactly the enumerated gradient."""
    model = SFNN([2, 2, 1, 3])
    guide = RecognitionNetwork(model, width=0)
    for p in guide.parameters():
        torch.nn.init.zeros_(p)
    x, y = torch.randn(1, 2), torch.tensor([[1.0, 0.0, 1.0]])
    rows = torch.tensor(list(itertools.product([0.0, 1.0], repeat=3))).unsqueeze(1)
    with Queue({"h1": [rows[..., :2]], "h2": [rows[..., 2:]]}):
        loss = estimator(8, max_plate_nesting=1).differentiable_loss(model, guide, x, y)
    exact = exact_log_likelihood(model, x, y).sum()
    parameters = list(model.parameters())
    assert loss.item() == pytest.approx(-exact.item(), abs=1e-12)
    assert close(-gradient(loss, parameters), gradient(exact, parameters))


def test_bias_shrinks_as_particles_are_added():
    errors = []
    for m in (1, 2, 3, 4):
        pyro.clear_param_store()
        torch.manual_seed(1)
        case = network("recognition", (m,), sizes=(2, 2, 3))
        _, measured = case.expected(G4(m))
        target = gradient(exact_log_likelihood(case.model, *case.args(1)).sum(), case.parameters())
        errors.append((measured - target).norm().item())
    assert errors == sorted(errors, reverse=True)


def test_sleep_needs_the_observation_as_an_argument():
    y = torch.zeros(3)

    def model():
        with pyro.plate("data", 3):
            h = pyro.sample("h", dist.Bernoulli(0.5))
            pyro.sample("y", dist.Normal(h, 1.0), obs=y)

    def guide():
        with pyro.plate("data", 3):
            pyro.sample("h", dist.Bernoulli(0.4))

    ReweightedWakeSleep(2).loss(model, guide)
    with pytest.raises(ValueError, match="'y', but what is observed there is no argument"):
        ReweightedWakeSleep(2, insomnia=0.5).differentiable_loss(model, guide)


def test_keyword_observations_are_dreamt_too():
    def model(*, obs=None):
        with pyro.plate("data", 3):
            h = pyro.sample("h", dist.Bernoulli(torch.tensor(1.0)))
            pyro.sample("y", dist.Delta(h * 7.0), obs=obs)

    seen = []

    def guide(*, obs=None):
        seen.append(obs)
        with pyro.plate("data", 3):
            pyro.sample("h", dist.Bernoulli(torch.tensor(0.5)))

    estimator = ReweightedWakeSleep(2, insomnia=0.0)
    estimator.differentiable_loss(model, guide, obs=torch.zeros(3))
    assert seen[-1].tolist() == [7.0, 7.0, 7.0]


def test_refusals():
    model = SFNN([2, 3, 2])
    x, y = torch.zeros(1, 2), torch.zeros(1, 2)
    for insomnia in (1.5, -0.5):
        with pytest.raises(ValueError, match="must lie between 0"):
            ReweightedWakeSleep(2, insomnia=insomnia)
    with pytest.raises(ValueError, match="the prior has nothing to learn; use G5"):
        ReweightedWakeSleep(2).loss(model, PriorProposal(model), x, y)
    with pytest.raises(ValueError, match=r"G5 needs PriorProposal\(model\) or a MixtureProposal"):
        G5(2).loss(model, RecognitionNetwork(model), x, y)
    other = SFNN([2, 3, 2])
    mixture = MixtureProposal(PriorProposal(other), RecognitionNetwork(model))
    with pytest.raises(ValueError, match="a mixture that does not hold it"):
        G5(2).loss(model, mixture, x, y)
