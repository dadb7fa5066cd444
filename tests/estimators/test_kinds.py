"""Kinds of programs that once gave a wrong number: right now, or refused with the site's name."""

import math
import warnings

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer.autoguide import AutoDelta, AutoNormal, AutoNormalMessenger

from sfnn_pyro.estimators import (
    G1,
    G3,
    G4,
    G5,
    REBAR,
    RELAX,
    RLOO,
    VIMCO,
    Chunked,
    DisARM,
    ReinMax,
    Resampled,
    ReweightedWakeSleep,
)
from sfnn_pyro.evaluation import exact_log_likelihood, impute, log_likelihood, predictive_mean
from sfnn_pyro.guides import MixtureProposal, PartialProposal, PriorProposal
from sfnn_pyro.models import SFNN
from sfnn_pyro.particles.plate import PARTICLE_PLATE

Y = torch.tensor([0.3, -1.0, 2.0])
COIN = torch.tensor([0.6, 0.4]).log()
STATES = torch.tensor([0.0, 1.0])


def model(y, loc=0.0, name="data"):
    with pyro.plate(name, len(y)):
        h = pyro.sample("h", dist.Bernoulli(0.4))
        pyro.sample("y", dist.Normal(h + loc, 1.0), obs=y)


def continuous(y):
    with pyro.plate("data", len(y)):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)


def exact(y=Y, loc=0.0):
    return torch.logsumexp(COIN + dist.Normal(STATES + loc, 1.0).log_prob(y.unsqueeze(-1)), -1)


def loss(estimator, program, *args, guide=None):
    return estimator.loss(program, PriorProposal(program) if guide is None else guide, *args)


def test_an_observed_site_that_no_particle_reaches_is_plain_likelihood():
    def regression(y):
        pyro.sample("y", dist.Normal(0.0, 1.0).expand([3]).to_event(1), obs=y)

    right = dist.Normal(0.0, 1.0).log_prob(Y).sum()
    assert loss(G4(3), regression, Y) == pytest.approx(-right.item())


@pytest.mark.parametrize("nesting", [0, math.inf])
def test_an_undeclared_dimension_of_the_size_of_the_particles(nesting):
    def undeclared():
        z = pyro.sample("z", dist.Bernoulli(torch.full((5,), 0.4)))
        pyro.sample("y", dist.Normal(z.sum(-1), 1.0), obs=torch.tensor(1.0))

    with pytest.raises(ValueError, match='at site "z", invalid log_prob shape'):
        loss(G4(5, max_plate_nesting=nesting), undeclared)


def test_an_undeclared_dimension_between_the_plates():
    def gap(y):
        with pyro.plate("data", 3):
            h = pyro.sample("h", dist.Bernoulli(0.4))
            with pyro.plate("inner", 2, dim=-2):
                h = h + pyro.sample("w", dist.Bernoulli(0.4))
            pyro.sample("y", dist.Normal(h.sum(-2), 1.0), obs=y)

    with pytest.raises(ValueError, match='at site "y", invalid log_prob shape'):
        loss(VIMCO(5), gap, Y)


def test_a_mixture_with_an_autoguide_and_a_sleep_phase_with_one_are_refused():
    guide = AutoNormal(continuous)
    with pytest.raises(ValueError, match="'z_unconstrained': a guide with a latent of its own"):
        loss(G4(4), continuous, Y, guide=MixtureProposal(PriorProposal(continuous), guide))
    with pytest.raises(ValueError, match="'z_unconstrained': the sleep phase cannot score"):
        ReweightedWakeSleep(4, insomnia=0.5).differentiable_loss(continuous, guide, Y)
    with pytest.raises(ValueError, match="'z': a Delta has no density at a dream"):
        ReweightedWakeSleep(4, insomnia=0.5).differentiable_loss(
            continuous, AutoDelta(continuous), Y
        )


def test_a_dream_passes_by_what_is_recorded_and_stops_at_a_factor():
    def recorded(y, factor=False):
        pyro.deterministic("twice", torch.tensor(2.0))
        if factor:
            pyro.factor("f", torch.tensor(0.0))
        model(y)

    def guide(y, factor=False):
        with pyro.plate("data", len(y)):
            pyro.sample("h", dist.Bernoulli(logits=pyro.param("q", torch.zeros(())) + y))

    estimator = ReweightedWakeSleep(4, insomnia=0.5, num_sleep_particles=3)
    estimator.differentiable_loss(recorded, guide, Y).backward()
    with pytest.raises(ValueError, match="site 'f': the sleep phase cannot draw from a model"):
        estimator.differentiable_loss(recorded, guide, Y, True)


def test_dreams_as_pyros_reweighted_wake_sleep_hands_them_over():
    heard = []

    def observing(observations=None):
        model(observations["y"])

    def guide(observations=None):
        heard.append(observations["y"])
        with pyro.plate("data", 3):
            pyro.sample("h", dist.Bernoulli(logits=pyro.param("q", torch.zeros(3))))

    ReweightedWakeSleep(4, insomnia=0.0).differentiable_loss(
        observing, guide, observations={"y": Y}
    ).backward()
    assert not torch.equal(heard[-1], Y) and heard[-1].shape == Y.shape


def test_impute_conditions_on_everything_else_that_is_observed():
    def beside(x, y, after=False):
        with pyro.plate("data", len(x)):
            pyro.sample("h", dist.Bernoulli(0.5))
            c = x[:, 0] if after else pyro.sample("c", dist.Bernoulli(0.5), obs=x[:, 0])
            p = (0.5 if after else 0.05 + 0.9 * c) * torch.ones(2, 2)
            y = pyro.sample("y", dist.Bernoulli(p).to_event(1), obs=y)
            if after:  # an observation that depends on y
                pyro.sample("t", dist.Normal(4 * y.sum(-1), 1.0), obs=x[:, 0])

    known = torch.tensor([True, False])
    options = {"num_samples": 2000, "num_particles": 500}
    result = impute(beside, torch.ones(2, 1), torch.ones(2, 2), known, **options)
    assert torch.allclose(result.log_likelihood_rest, torch.tensor(0.95).log())
    assert (result.samples[..., 1].mean(0) - 0.95).abs().max() < 0.03
    later = impute(
        lambda x, y: beside(x, y, True), 8 * torch.ones(2, 1), torch.ones(2, 2), known, **options
    )
    assert later.samples[..., 1].mean() > 0.99  # t = 8 says that both are 1


def test_limits_of_rates_and_probabilities():
    rate = torch.tensor(1.3, requires_grad=True)
    h = torch.tensor([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    counts = torch.tensor([0.0, 1.0, 2.0])

    def inflated(y):
        with pyro.plate("data", 3):
            h = pyro.sample("h", dist.Bernoulli(0.4))
            pyro.sample("y", dist.Poisson(rate * h), obs=y)

    log_w = dist.Poisson(1.3 * h).log_prob(counts)
    right = (torch.softmax(log_w, 0) * torch.where(h == 1, counts / 1.3 - 1, 0.0)).sum()
    with poutine.condition(data={}), Given({"h": h}):
        value = G4(3, max_plate_nesting=1).differentiable_loss(
            inflated, PriorProposal(inflated), counts
        )
    (grad,) = torch.autograd.grad(-value, rate)
    assert torch.allclose(grad, right)

    laws = [
        (dist.Bernoulli(torch.zeros(1)), 1.0),
        (dist.Binomial(2, torch.zeros(1)), 1.0),
        (dist.Geometric(torch.ones(1)), 1.0),
        (dist.Categorical(torch.tensor([[1.0, 0.0]])), 1.0),
        (dist.NegativeBinomial(2, torch.zeros(1)), 1.0),
    ]
    for law, value in laws:

        def impossible(y, law=law):
            with pyro.plate("data", 1):
                pyro.sample("h", dist.Bernoulli(0.5))
                pyro.sample("y", law, obs=y)

        assert log_likelihood(impossible, torch.tensor([value])).item() == -math.inf


class Given(poutine.messenger.Messenger):
    """Gives latent sites their values."""

    def __init__(self, values):
        super().__init__()
        self.values = values

    def _pyro_sample(self, msg):
        if msg["name"] in self.values and not msg["is_observed"]:
            msg["value"], msg["done"] = self.values[msg["name"]], True


def test_a_subclass_with_a_law_of_its_own_keeps_it():
    class Tilted(dist.Bernoulli):
        def log_prob(self, value):
            return super().log_prob(value) - 1.0

    def tilted(y):
        with pyro.plate("data", 3):
            pyro.sample("h", dist.Bernoulli(0.5))
            pyro.sample("y", Tilted(logits=torch.zeros(3)), obs=y)

    right = -3 * (math.log(0.5) - 1)
    assert loss(G4(3), tilted, torch.ones(3)) == pytest.approx(right)


def test_a_support_that_depends_on_another_latent_is_refused():
    def counts(y):
        with pyro.plate("data", 1):
            n = pyro.sample("n", dist.Categorical(torch.tensor([0.2, 0.3, 0.5])))
            k = pyro.sample("k", dist.Binomial(n.double(), 0.5))
            pyro.sample("y", dist.Normal(k, 1.0), obs=y)

    for seed in range(4):
        pyro.set_rng_seed(seed)
        with pytest.raises(ValueError, match="site 'k': its support is not the same"):
            exact_log_likelihood(counts, torch.tensor([0.5]))


@pytest.mark.parametrize("nesting", [1, math.inf])
def test_a_module_that_takes_over_stored_parameters_is_its_own(nesting):
    def make():
        net = torch.nn.Linear(1, 1)

        def learned(y):
            pyro.module("net", net, update_module_params=True)
            with pyro.plate("data", len(y)):
                h = pyro.sample("h", dist.Bernoulli(0.4))
                pyro.sample("y", dist.Normal(net(h.unsqueeze(-1)).squeeze(-1), 1.0), obs=y)

        return learned

    first = make()
    G4(3).loss_and_grads(first, PriorProposal(first), Y)
    second = make()  # as in a new process, the store loaded
    assert G4(3, max_plate_nesting=nesting).loss_and_grads(second, PriorProposal(second), Y) > 0


def test_one_estimator_serves_two_models_and_svi_is_told_of_the_second():
    x, y = torch.rand(8, 4), torch.rand(8, 2).round()
    estimator, networks = G5(5), [SFNN([4, 3, 2]) for _ in range(2)]
    for network in networks:
        estimator(network, PriorProposal(network))(x, y).backward()
        assert all(parameter.grad is not None for parameter in network.parameters())
    with pytest.raises(ValueError, match="belongs to another model"):
        estimator.loss_and_grads(networks[1], PriorProposal(networks[1]), x, y)


@pytest.mark.parametrize("vectorize", [True, False])
def test_a_plate_of_the_models_own_may_be_called_particles(vectorize):
    losses = []
    for name in ("data", "particles", str(PARTICLE_PLATE)):
        pyro.set_rng_seed(0)
        estimator = VIMCO(3, vectorize_particles=vectorize)
        losses.append(loss(estimator, lambda y, name=name: model(y, name=name), Y))
    assert len({*losses}) == 1


@pytest.mark.parametrize(
    "index", [torch.tensor([5, 6, 7]), [5, 6, 7], torch.arange(8).flip(0)], ids=str
)
def test_indices_that_the_guide_does_not_have_are_refused(index):
    def rows(y):
        with pyro.plate("data", 8, subsample=index):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    def guide(y):
        with pyro.plate("data", 8, subsample_size=len(index)):
            pyro.sample("z", dist.Normal(0.0, 1.0))

    with pytest.raises(ValueError, match="plate 'data': the indices given by subsample="):
        for _ in range(20):  # by chance the guide may draw them
            loss(G4(4), rows, torch.zeros(len(index)), guide=guide)


def test_sequential_particles_may_have_plates_of_other_sizes():
    def branching(y):
        n = int(pyro.sample("n", dist.Bernoulli(0.5)))
        with pyro.plate("inner", n + 1):
            pyro.sample("y", dist.Normal(0.0, 1.0), obs=y[: n + 1])

    right = torch.logsumexp(dist.Normal(0.0, 1.0).log_prob(Y[:2]).cumsum(0), 0) - math.log(2)
    found = loss(G4(2000, vectorize_particles=False), branching, Y)
    assert found == pytest.approx(-right.item(), abs=0.1)


def guide_with(extra):
    def guide(y):
        q = pyro.param("q", torch.tensor(0.3))
        with pyro.plate("data", len(y)):
            extra(q)
            pyro.sample("h", dist.Bernoulli(logits=q))

    return guide


def test_a_factor_of_the_guide_is_no_unit_of_disarm():
    guide = guide_with(lambda q: pyro.factor("f", -0.1 * q**2, has_rsample=False))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        DisARM(3).differentiable_loss(model, guide, Y).backward()


def test_random_auxiliary_sites_and_guides_that_observe():
    def noisy(q):
        pyro.sample("u", dist.Normal(q, 1.0), infer={"is_auxiliary": True})

    with pytest.raises(ValueError, match="site 'u': an auxiliary latent of the guide"):
        loss(VIMCO(3), model, Y, guide=guide_with(noisy))
    messenger = AutoNormalMessenger(continuous)

    def wrapped(y):
        messenger(y)

    right = -dist.Normal(0.0, math.sqrt(2)).log_prob(Y).sum().item()
    for guide in (messenger, wrapped, PartialProposal(continuous, wrapped), continuous):
        found = loss(VIMCO(4000), continuous, Y, guide=guide)
        assert found > right - 0.2
    conditioned = poutine.condition(model, data={"h": torch.ones(3)})
    with pytest.raises(ValueError, match="site 'h' is observed in the model and drawn in the gui"):
        loss(VIMCO(3), conditioned, Y, guide=guide_with(lambda q: None))


def test_a_guide_for_some_latents_has_exact_weights():
    def both(y):
        loc = pyro.sample("loc", dist.Normal(0.0, 1.0))
        model(y, loc)

    def some(y):
        pyro.sample("loc", dist.Normal(0.2, 0.8))

    grid = torch.linspace(-6, 6, 2001)
    log_p = dist.Normal(0.0, 1.0).log_prob(grid) + torch.stack([exact(Y, g).sum() for g in grid])
    right = torch.logsumexp(log_p, 0) + math.log(grid[1] - grid[0])
    found = loss(G4(40000), both, Y, guide=PartialProposal(both, some))
    assert found == pytest.approx(-right.item(), abs=0.05)
    with pytest.raises(ValueError, match="does not propose the latent site"):
        loss(G4(4), both, Y, guide=some)


def test_a_program_that_needs_sequential_particles_is_told_so():
    def joined(y):
        with pyro.plate("data", 3):
            h = pyro.sample("h", dist.Bernoulli(0.5 * torch.ones(3, 1)).to_event(1))
            pyro.sample("y", dist.Normal(torch.cat([h, y[:, None]], 1).sum(-1), 1.0), obs=y)

    with pytest.raises(RuntimeError) as caught:
        loss(VIMCO(3), joined, Y)
    assert "vectorize_particles=False" in caught.value.__notes__[0]
    assert math.isfinite(loss(VIMCO(3, vectorize_particles=False), joined, Y))
    with pytest.raises(ValueError, match="vectorize_particles=False: DisARM"):
        DisARM(3, vectorize_particles=False)


def test_a_likelihood_estimator_with_a_guide_alone_to_train():
    with pytest.raises(ValueError, match="G4 trains the model alone"):
        G4(4).differentiable_loss(continuous, AutoNormal(continuous), Y)


def test_a_draw_from_nan_is_an_error_at_every_step():
    x, y = torch.rand(8, 4), torch.rand(8, 2).round()
    broken = x.clone()
    broken[3, 1] = math.nan
    network = SFNN([4, 3, 2])
    estimator = G3(5)
    loss(estimator, network, x, y)
    calls = [
        lambda: loss(estimator, network, broken, y),
        lambda: log_likelihood(network, broken, y),
        lambda: predictive_mean(network, broken),
        lambda: impute(network, broken, y, torch.tensor([True, False])),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=r"site 'h1'.*NaN in row\(s\) 3"):
            call()
    with pytest.raises(ValueError, match="site 'y': the observed value 255 in row"):
        loss(estimator, network, x, 255 * torch.ones(8, 2))


@pytest.mark.parametrize("shape", [(), (4,), (4, 2)])
def test_predictive_means_of_every_shape(shape):
    def outputs(x):
        with pyro.plate("data", len(x)):
            h = pyro.sample("h", dist.Bernoulli(0.5))
            h = h.reshape(h.shape + (1,) * len(shape))
            return pyro.sample("y", dist.Normal(h, torch.ones(shape)).to_event(len(shape)))

    mean = predictive_mean(outputs, torch.zeros(5, 1), num_particles=4000)
    assert mean.shape == (5, *shape) and (mean - 0.5).abs().max() < 0.05


def test_draws_without_a_graph_and_laws_with_a_moving_support():
    theta = torch.tensor(2.0, requires_grad=True)

    def cut(y):
        with pyro.plate("data", 3), torch.no_grad():
            z = pyro.sample("z", dist.Normal(theta, 1.0))
        with pyro.plate("data2", 3):
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    def moving(y):
        with pyro.plate("data", 3):
            z = pyro.sample("z", dist.Uniform(0.0, theta))
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    with pytest.raises(ValueError, match="site 'z' is drawn under torch"):
        VIMCO(3).differentiable_loss(cut, PriorProposal(cut), Y)
    with pytest.raises(ValueError, match="site 'z': the support of this Uniform moves"):
        G4(3).differentiable_loss(moving, PriorProposal(moving), Y)
    VIMCO(3).differentiable_loss(moving, PriorProposal(moving), Y).backward()
    assert theta.grad is not None


def test_a_learned_scale_around_everything_has_its_gradient():
    scale = torch.tensor(0.5, requires_grad=True)

    def scaled(y):
        with poutine.scale(scale=scale):
            model(y)

    value = G4(4).differentiable_loss(scaled, PriorProposal(scaled), Y)
    (grad,) = torch.autograd.grad(value, scale)
    assert torch.allclose(grad, value.detach() / 0.5)


def test_noise_that_is_no_site_is_noticed_by_the_second_run():
    def noisy(y):
        model(y, torch.randn(3))

    with pytest.raises(ValueError, match="Resampled runs the model twice"):
        Resampled(G4(6), 2).differentiable_loss(noisy, PriorProposal(noisy), Y)

    calls = []

    def uneven(y):
        calls.append(torch.rand(len(calls)))
        model(y)

    with pytest.raises(ValueError, match="the second run of chunk"):
        Chunked(G4(6, max_plate_nesting=1), 3).loss_and_grads(uneven, PriorProposal(uneven), Y)


def test_a_gradient_of_the_gradient_is_refused():
    loc = torch.tensor(0.1, requires_grad=True)
    value = G4(3).differentiable_loss(model, PriorProposal(model), Y, loc)
    with pytest.raises(RuntimeError, match="an estimate of a gradient has no derivative"):
        torch.autograd.grad(value, loc, create_graph=True)


def test_the_factor_of_a_plate_beside_a_global_latent_is_told_once():
    def beside(y):
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 3, subsample_size=2) as index:
            pyro.sample("y", dist.Normal(z, 1.0), obs=y[index])

    estimator = VIMCO(3)
    with pytest.warns(UserWarning, match="plate 'data' is subsampled and not shared"):
        loss(estimator, beside, Y)
    assert math.isfinite(loss(estimator, beside, Y))


def test_local_scores_beside_a_global_latent_see_their_own_terms():
    """The deviation of a local parameter's gradient does not grow with the other datapoints."""
    n = 60
    y = torch.randn(n)

    def beside(y):
        g = pyro.sample("g", dist.Normal(0.0, 1.0))
        with pyro.plate("data", n):
            h = pyro.sample("h", dist.Bernoulli(0.3))
            pyro.sample("y", dist.Normal(h + g, 1.0), obs=y)

    q = torch.zeros(n, requires_grad=True)

    def guide(y):
        pyro.sample("g", dist.Normal(0.0, 0.1))
        with pyro.plate("data", n):
            pyro.sample("h", dist.Bernoulli(logits=q))

    def deviation(estimator):
        grads = [
            torch.autograd.grad(estimator.differentiable_loss(beside, guide, y), q)[0]
            for _ in range(60)
        ]
        return torch.stack(grads).std(0).mean()

    assert deviation(RLOO(10)) < deviation(VIMCO(10)) / 3


def test_options_of_pyros_losses():
    assert VIMCO(3, retain_graph=True, strict_enumeration_warning=False).retain_graph
    with pytest.raises(TypeError, match="takes no argument ignore_jit_warnings: Compiled"):
        VIMCO(3, ignore_jit_warnings=True)
    for options in ({"num_particles": 2.5}, {"max_plate_nesting": -1}):
        with pytest.raises(ValueError, match=next(iter(options))):
            VIMCO(**{"num_particles": 3, **options})


def test_a_geometric_given_by_logits():
    a, b = (torch.tensor(value, requires_grad=True) for value in (0.3, -0.4))

    def waiting():
        h = pyro.sample("h", dist.Bernoulli(logits=a))
        pyro.sample("y", dist.Geometric(logits=b + h), obs=torch.tensor(2))

    p = torch.sigmoid(b + STATES)
    prior = torch.stack([1 - torch.sigmoid(a), torch.sigmoid(a)])
    right = (prior * (1 - p) ** 2 * p).sum().log()
    got = exact_log_likelihood(waiting)
    assert torch.allclose(got, right)
    for one, other in zip(
        torch.autograd.grad(got, [a, b]), torch.autograd.grad(right, [a, b]), strict=True
    ):
        assert torch.allclose(one, other)
    assert loss(G4(2000), waiting) == pytest.approx(-right.item(), abs=0.1)


@pytest.mark.parametrize("value", [1, True, 1.0, torch.tensor(1), torch.tensor(True)])
def test_an_observation_that_is_no_tensor_of_floats(value):
    def program(value, law):
        h = pyro.sample("h", dist.Bernoulli(logits=torch.tensor(0.3)))
        pyro.sample("y", law(h), obs=value)

    laws = [
        lambda h: dist.Bernoulli(logits=0.7 * h),
        lambda h: dist.Bernoulli(0.2 + 0.7 * h),
        lambda h: dist.Normal(h, 1.0),
        lambda h: dist.Poisson(0.5 + h),
    ]
    for law in laws:
        results = []
        for one in (value, torch.tensor(1.0)):

            def observed(one=one, law=law):
                return program(one, law)

            pyro.set_rng_seed(0)
            results.append((loss(VIMCO(3), observed), exact_log_likelihood(observed).item()))
        assert results[0] == pytest.approx(results[1])
    with pytest.raises(ValueError, match="site 'y': its value is a str"):
        loss(VIMCO(3), lambda: program("one", laws[0]))


@pytest.mark.parametrize("vectorize", [True, False])
@pytest.mark.parametrize("shape", [(4, 3), (4, 1)])
def test_a_mask_or_a_scale_with_a_dimension_that_no_plate_declares(vectorize, shape):
    mask, scale = torch.ones(shape, dtype=torch.bool), torch.ones(shape)
    around = [poutine.mask(mask=mask), poutine.scale(scale=scale)]
    for handler in around:
        for everything in (True, False):

            def wide(y, handler=handler, everything=everything):
                with pyro.plate("data", 3), handler:
                    h = pyro.sample("h", dist.Bernoulli(0.4)) if everything else 1.0
                    pyro.sample("y", dist.Normal(h, 1.0), obs=y)

            for nesting in (1, math.inf):
                options = {"max_plate_nesting": nesting, "vectorize_particles": vectorize}
                with pytest.raises(ValueError, match="invalid log_prob shape"):
                    loss(VIMCO(4, **options), wide, Y)

    def narrow(y):
        with pyro.plate("data", 3), poutine.mask(mask=torch.ones(2, dtype=torch.bool)):
            pyro.sample("y", dist.Normal(0.0, 1.0), obs=y)

    with pytest.raises(
        ValueError, match=r"site 'y' .* its mask of shape \(2,\) does not broadcast"
    ):
        loss(VIMCO(4, vectorize_particles=vectorize), narrow, Y)


def one_coin(shape):
    """A coin of a shape of ones in no plate, which its last index takes away."""
    h = pyro.sample("h", dist.Bernoulli(logits=torch.full(shape, 0.3)))
    for _ in shape:
        h = h[..., 0]
    h = h.reshape(h.shape + (1,) * len(shape))
    pyro.sample("y", dist.Normal(h, 1.0), obs=torch.full(shape, 0.7))


def three_coins(shape, y=Y):
    """An observation, a mask and a scale with ones to the left of the plate."""
    around = [torch.tensor([True, False, True]), torch.tensor([1.0, 0.5, 2.0])]
    mask, scale = (one.reshape(*shape, 3) for one in around)
    with pyro.plate("data", 3):
        h = pyro.sample("h", dist.Bernoulli(0.4))
        with poutine.mask(mask=mask), poutine.scale(scale=scale):
            pyro.sample("y", dist.Normal(h, 1.0), obs=y.reshape(*shape, 3))


@pytest.mark.parametrize("vectorize", [True, False])
@pytest.mark.parametrize("shape", [(1,), (1, 1, 1)])
@pytest.mark.parametrize(("program", "nesting"), [(one_coin, 0), (three_coins, 1)])
def test_dimensions_of_size_one_that_no_plate_declares(program, nesting, shape, vectorize):
    for kind in (G4, VIMCO, RLOO):
        losses = []
        for ones, options in (((), {}), (shape, {}), (shape, {"max_plate_nesting": nesting})):
            pyro.set_rng_seed(0)
            estimator = kind(5, vectorize_particles=vectorize, **options)
            losses.append(loss(estimator, lambda ones=ones: program(ones)))
        assert losses == pytest.approx(losses[:1] * len(losses))


def test_a_dimension_of_size_one_that_comes_later():
    losses = []
    for shape in ((), (1,)):
        estimator = VIMCO(5)
        loss(estimator, one_coin, ())
        loss(estimator, one_coin, shape)
        pyro.set_rng_seed(0)
        losses.append(loss(estimator, one_coin, shape))
    assert losses[0] == pytest.approx(losses[1])


def test_room_for_a_dimension_of_size_one_is_found_once():
    estimator, runs = VIMCO(5, max_plate_nesting=0), []

    def program():
        runs.append(1)
        one_coin((1,))

    for _ in range(2):
        runs.clear()
        loss(estimator, program)
    assert len(runs) == 1


@pytest.mark.parametrize("vectorize", [True, False])
def test_an_observation_of_another_size_is_refused_by_name(vectorize):
    def short(y):
        with pyro.plate("data", 3):
            h = pyro.sample("h", dist.Bernoulli(0.4))
            pyro.sample("y", dist.Normal(h, 1.0), obs=y[:2])

    with pytest.raises(ValueError, match=r"site 'y' .* its value of shape \(2,\)"):
        loss(VIMCO(4, vectorize_particles=vectorize), short, Y)


def possible(h, slope):
    """A probability that is ``slope`` where h is 1 and 0 where it is 0, with its logit."""
    return h * slope, torch.where(h == 1, torch.logit(slope), -torch.inf)


INFINITE_LOGITS = {
    "binomial": (lambda p, a: dist.Binomial(4, logits=a), 3.0),
    "bernoulli": (lambda p, a: dist.Bernoulli(logits=a), 1.0),
    "negative binomial": (lambda p, a: dist.NegativeBinomial(2.0, logits=a), 3.0),
    "geometric": (lambda p, a: dist.Geometric(logits=-a), 3.0),
    "zero-inflated Poisson": (lambda p, a: dist.ZeroInflatedPoisson(1.3 + 0 * p, gate=1 - p), 3.0),
    "zero-inflated by logits": (
        lambda p, a: dist.ZeroInflatedPoisson(1.3 + 0 * p, gate_logits=-a),
        3.0,
    ),
    "zero-inflated of rate zero": (
        lambda p, a: dist.ZeroInflatedDistribution(dist.Poisson(p), gate=torch.tensor(0.4)),
        3.0,
    ),
    "mixture": (
        lambda p, a: dist.MixtureSameFamily(
            dist.Categorical(torch.tensor([0.3, 0.7])), dist.Poisson(torch.stack([p, p / 2], -1))
        ),
        3.0,
    ),
    "masked mixture": (
        lambda p, a: dist.MaskedMixture(p > 0, dist.Poisson(torch.zeros(())), dist.Poisson(p)),
        3.0,
    ),
}


@pytest.mark.parametrize("name", INFINITE_LOGITS)
@pytest.mark.parametrize("impossible", [True, False])
def test_a_law_at_its_limits_in_some_particles(name, impossible):
    """Where h is 0 nothing but zero can be drawn."""
    law, value = INFINITE_LOGITS[name]
    slope = torch.tensor(0.6, requires_grad=True)
    y = torch.tensor(value if impossible else 0.0)

    def observed(y):
        with pyro.plate("data", 1):
            h = pyro.sample("h", dist.Bernoulli(0.4))
            pyro.sample("y", law(*possible(h, slope)), obs=y.reshape(1))

    at_one = law(slope, torch.logit(slope)).log_prob(y)  # within PyTorch's own range
    each = torch.stack([torch.tensor(-torch.inf if impossible else 0.0), at_one])
    right = torch.logsumexp(COIN + each, 0)
    (slope_right,) = torch.autograd.grad(right, slope, retain_graph=True)
    got = exact_log_likelihood(observed, y).sum()
    assert torch.allclose(got, right)
    assert torch.allclose(torch.autograd.grad(got, slope)[0], slope_right)
    states = torch.tensor([[0.0], [1.0]])
    for kind in (G4, VIMCO, RLOO):
        with Given({"h": states}):
            estimate = kind(2, max_plate_nesting=1).differentiable_loss(
                observed, PriorProposal(observed), y
            )
        (grad,) = torch.autograd.grad(estimate, slope)
        assert grad.isfinite() and not estimate.isnan()
        if kind is not RLOO:
            wanted = torch.logsumexp(each, 0) - math.log(2)
            assert torch.allclose(-estimate, wanted)
            assert torch.allclose(-grad, torch.autograd.grad(wanted, slope, retain_graph=True)[0])


@pytest.mark.parametrize("certain", [-torch.inf, torch.inf])
def test_a_unit_that_is_certain_has_no_slope(certain):
    a = torch.tensor(0.3, requires_grad=True)

    def given(logits):
        def program(y):
            with pyro.plate("data", 3):
                h = pyro.sample("h", dist.Bernoulli(logits=logits))
                pyro.sample("y", dist.Normal(h + a, 1.0), obs=y)

        return program

    for kind in (ReinMax, G3, VIMCO):
        grads = []
        for logits in (torch.tensor(certain), torch.tensor(math.copysign(1e3, certain))):
            program = given(logits + 0 * a)
            estimate = kind(4).differentiable_loss(program, PriorProposal(program), Y)
            grads.append(torch.autograd.grad(estimate, a)[0])
        assert torch.allclose(*grads)


@pytest.mark.parametrize("kind", [G1, G3, VIMCO, DisARM, REBAR, RELAX])
def test_the_loss_without_a_graph(kind):
    a = torch.tensor(0.3, requires_grad=True)

    def learned(y):
        with pyro.plate("data", 3):
            h = pyro.sample("h", dist.Bernoulli(logits=a))
            pyro.sample("y", dist.Normal(h, 1.0), obs=y)

    with torch.no_grad():
        value = kind(3).differentiable_loss(learned, PriorProposal(learned), Y)
    assert not value.requires_grad and value.isfinite()


def test_a_mixture_without_a_density_at_the_value():
    slope = torch.tensor(0.6, requires_grad=True)

    def waiting(y):
        with pyro.plate("data", 1):
            h = pyro.sample("h", dist.Bernoulli(0.4))
            shapes = torch.stack([1 + h, 2 + h], -1)  # where h is 0 the first is exponential
            share = dist.Categorical(torch.tensor([0.3, 0.7]))
            pyro.sample("y", dist.MixtureSameFamily(share, dist.Gamma(shapes, slope)), obs=y)

    got = exact_log_likelihood(waiting, torch.zeros(1)).sum()
    right = (0.6 * 0.3 * slope).log()
    assert torch.allclose(got, right)
    assert torch.allclose(torch.autograd.grad(got, slope)[0], 1 / slope)
    with Given({"h": STATES.unsqueeze(-1)}):
        estimate = VIMCO(2, max_plate_nesting=1).differentiable_loss(
            waiting, PriorProposal(waiting), torch.zeros(1)
        )
    assert torch.allclose(-torch.autograd.grad(estimate, slope)[0], 1 / slope)
