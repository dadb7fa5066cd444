"""Every line of the users' table in ``docs/compatibility.md``, tried."""

import functools
import math
import warnings

import pyro
import pytest
import torch
from pyro import distributions as dist
from pyro import poutine
from pyro.infer import SVI, config_enumerate
from pyro.infer.autoguide import AutoDelta, AutoNormal, AutoNormalMessenger

from sfnn_pyro.estimators import G1, G4, G5, RLOO, VIMCO, Chunked, ReweightedWakeSleep
from sfnn_pyro.evaluation.exact import exact_log_likelihood
from sfnn_pyro.guides import MixtureProposal, PartialProposal, PriorProposal
from sfnn_pyro.models import SFNN

Y = torch.tensor([0.3, -0.7, 1.2])


def local(y=Y):
    with pyro.plate("data", len(y)):
        h = pyro.sample("h", dist.Bernoulli(0.4))
        pyro.sample("y", dist.Normal(h, 1.0), obs=y)


def mean_field(y=Y):
    q = pyro.param("q", torch.tensor([0.2, -0.3, 0.5]))
    with pyro.plate("data", len(y)):
        pyro.sample("h", dist.Bernoulli(logits=q))


def global_beside(y=Y, size=None):
    z = pyro.sample("z", dist.Normal(0.0, 1.0))
    with pyro.plate("data", len(y), subsample_size=size) as index:
        h = pyro.sample("h", dist.Bernoulli(0.4))
        pyro.sample("y", dist.Normal(z + h, 1.0), obs=y[index])


def finite(estimator, model, guide, *args):
    value = estimator.loss_and_grads(model, guide, *args)
    assert math.isfinite(value)
    return value


@pytest.mark.parametrize("kind", [VIMCO, ReweightedWakeSleep, RLOO])
def test_local_latents(kind):
    finite(kind(4), local, mean_field)


@pytest.mark.parametrize("kind", [VIMCO, G4, G5])
def test_local_latents_by_the_prior(kind):
    exact = exact_log_likelihood(local).sum().item()
    assert kind(5000).loss(local, PriorProposal(local)) == pytest.approx(-exact, abs=0.05)


def test_minibatch_of_a_plate_that_all_sites_share():
    def model(y, size):
        with pyro.plate("data", 6, subsample_size=size) as index:
            h = pyro.sample("h", dist.Bernoulli(0.4))
            pyro.sample("y", dist.Normal(h, 1.0), obs=y[index])

    y = torch.full((6,), 0.3)
    whole = -exact_log_likelihood(model, y, 6).sum().item()
    losses = [VIMCO(2000).loss(model, PriorProposal(model), y, size) for size in (2, 6)]
    assert losses == pytest.approx([whole, whole], abs=0.15)


def test_global_latent_with_all_data():
    guide = PartialProposal(global_beside, AutoNormal(poutine.block(global_beside, hide=["h"])))
    for kind in (VIMCO, RLOO):
        finite(kind(4), global_beside, guide)


def test_global_latent_with_a_minibatch_is_warned_of():
    with pytest.warns(UserWarning, match="data"):
        VIMCO(4).loss(global_beside, PriorProposal(global_beside), Y, 2)


def test_nothing_observed():
    def model():
        with pyro.plate("data", 3):
            pyro.sample("h", dist.Bernoulli(0.4))

    q = torch.tensor([0.2, -0.3, 0.5], requires_grad=True)
    p = torch.sigmoid(q)
    divergence = (p * (p / 0.4).log() + (1 - p) * ((1 - p) / 0.6).log()).sum()
    RLOO(20_000).loss_and_grads(model, lambda: mean_field())
    got = pyro.get_param_store()._params["q"].grad
    torch.testing.assert_close(got, torch.autograd.grad(divergence, q)[0], rtol=0, atol=0.02)
    with pytest.raises(ValueError, match="no observed site"):
        VIMCO(4).loss(model, PriorProposal(model))


def test_no_latent():
    def model():
        with pyro.plate("data", 3):
            pyro.sample("y", dist.Normal(0.0, 1.0), obs=Y)

    wanted = -dist.Normal(0.0, 1.0).log_prob(Y).sum().item()
    assert VIMCO(4).loss(model, PriorProposal(model)) == pytest.approx(wanted)


def test_batch_dimension_without_a_plate():
    def model():
        h = pyro.sample("h", dist.Bernoulli(0.4 * torch.ones(3)))
        pyro.sample("y", dist.Normal(h, 1.0), obs=Y)

    for vectorised in (True, False):
        with pytest.raises(ValueError, match="invalid log_prob shape"):
            VIMCO(4, vectorize_particles=vectorised).loss(model, PriorProposal(model))


def test_dimensions_of_size_one():
    def model():
        h = pyro.sample("h", dist.Bernoulli(torch.tensor([0.4])))
        pyro.sample("y", dist.Normal(h, 1.0), obs=torch.tensor([0.3]))

    def dropping():
        h = pyro.sample("h", dist.Bernoulli(torch.tensor([0.4])))
        pyro.sample("y", dist.Normal(h[..., 0], 1.0), obs=torch.tensor(0.3))

    exact = exact_log_likelihood(model).sum().item()
    assert VIMCO(20_000).loss(model, PriorProposal(model)) == pytest.approx(-exact, abs=0.02)
    finite(VIMCO(4, vectorize_particles=False), dropping, PriorProposal(dropping))
    with pytest.raises(ValueError, match=r"'y'.*vectorize_particles=False"):
        VIMCO(4).loss(dropping, PriorProposal(dropping))


def test_a_mask_with_a_dimension_that_no_plate_declares():
    def model():
        with pyro.plate("data", 3), poutine.mask(mask=torch.ones(4, 3, dtype=torch.bool)):
            h = pyro.sample("h", dist.Bernoulli(0.4))
            pyro.sample("y", dist.Normal(h, 1.0), obs=Y)

    for vectorised in (True, False):
        with pytest.raises(ValueError, match="invalid log_prob shape"):
            VIMCO(4, vectorize_particles=vectorised).loss(model, PriorProposal(model))


def test_observations_that_are_no_floats():
    for value in (1, True, torch.tensor(1), torch.tensor(True)):

        def model(value=value):
            h = pyro.sample("h", dist.Bernoulli(logits=torch.tensor(0.3)))
            pyro.sample("y", dist.Bernoulli(logits=2 * h - 1), obs=value)

        finite(VIMCO(4), model, PriorProposal(model))


def test_explicit_indices_that_the_guide_does_not_have():
    def model(index):
        with pyro.plate("data", 3, subsample=index):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(z, 1.0), obs=Y[index])

    index = torch.tensor([2, 0])
    with pytest.raises(ValueError, match="create_plates"):
        for _ in range(20):  # indices that the guide draws may be the same by chance
            VIMCO(4).loss(model, AutoNormal(model), index)

    def create_plates(index):
        return pyro.plate("data", 3, subsample=index, dim=-1)

    finite(VIMCO(4), model, AutoNormal(model, create_plates=create_plates), index)


def test_plate_of_another_name_or_size_in_the_guide():
    def make(name, size):
        def guide():
            with pyro.plate(name, size):
                pyro.sample("h", dist.Bernoulli(0.5))

        return guide

    with pytest.raises(ValueError, match="plate"):
        VIMCO(4).loss(local, make("rows", 3))
    with pytest.raises(ValueError, match=r"plate|shape"):
        VIMCO(4).loss(local, make("data", 1))


def test_masks():
    seen = torch.tensor([True, False, True])

    def model():
        with pyro.plate("data", 3), poutine.mask(mask=seen):
            h = pyro.sample("h", dist.Bernoulli(0.4))
            pyro.sample("y", dist.Normal(h, 1.0), obs=Y)

    wanted = exact_log_likelihood(local) * seen
    torch.testing.assert_close(exact_log_likelihood(model), wanted)
    got = VIMCO(20_000).loss(model, PriorProposal(model))
    assert got == pytest.approx(-wanted.sum().item(), abs=0.02)


def test_scales():
    def around_all():
        with poutine.scale(scale=0.5):
            local()

    pyro.set_rng_seed(0)
    halved = VIMCO(4).loss(around_all, PriorProposal(around_all))
    pyro.set_rng_seed(0)
    assert halved == pytest.approx(0.5 * VIMCO(4).loss(local, PriorProposal(local)))

    def around_one():
        with pyro.plate("data", 3):
            h = pyro.sample("h", dist.Bernoulli(0.4))
            with poutine.scale(scale=0.5):
                pyro.sample("y", dist.Normal(h, 1.0), obs=Y)

    h = torch.tensor([0.0, 1.0]).unsqueeze(1)
    inner = 0.5 * dist.Normal(h, 1.0).log_prob(Y) + dist.Bernoulli(0.4).log_prob(h)
    got = VIMCO(20_000).loss(around_one, PriorProposal(around_one))
    assert got == pytest.approx(-torch.logsumexp(inner, 0).sum().item(), abs=0.02)


def test_deterministic_and_factor_outside_the_plate():
    def recorded():
        pyro.deterministic("half", torch.tensor(0.5))
        local()

    def with_factor():
        local()
        pyro.factor("f", torch.tensor(-2.0))

    exact = exact_log_likelihood(local)
    torch.testing.assert_close(exact_log_likelihood(recorded), exact)
    assert exact_log_likelihood(with_factor).sum() == pytest.approx(exact.sum().item() - 2)


def test_loops_make_one_datapoint():
    def model():
        for n in pyro.plate("data", 3):
            h = pyro.sample(f"h{n}", dist.Bernoulli(0.4))
            pyro.sample(f"y{n}", dist.Normal(h, 1.0), obs=Y[n])

    assert exact_log_likelihood(model).numel() == 1
    finite(VIMCO(4), model, PriorProposal(model))


def test_programs_that_cannot_run_under_a_further_plate():
    x = torch.ones(3, 2)

    def model():
        with pyro.plate("data", 3):
            h = pyro.sample("h", dist.Bernoulli(0.4 * torch.ones(3, 1)).to_event(1))
            pyro.sample("y", dist.Normal(torch.cat([h, x], -1).sum(-1), 1.0), obs=Y)

    def branching():
        h = pyro.sample("h", dist.Bernoulli(0.4))
        if h:
            pyro.sample("u", dist.Bernoulli(0.5))
        pyro.sample("y", dist.Normal(h, 1.0), obs=torch.tensor(0.3))

    with pytest.raises(RuntimeError) as caught:
        VIMCO(4).loss(model, PriorProposal(model))
    assert "vectorize_particles=False" in "".join(caught.value.__notes__)
    finite(VIMCO(4, vectorize_particles=False), model, PriorProposal(model))
    finite(VIMCO(9, vectorize_particles=False), branching, PriorProposal(branching))


def test_a_latent_that_the_guide_forgets():
    def guide():
        pyro.sample("z", dist.Normal(0.0, 1.0))

    with pytest.raises(ValueError, match="PartialProposal"):
        VIMCO(4).loss(global_beside, guide)
    finite(VIMCO(4), global_beside, PartialProposal(global_beside, guide))


def test_guide_messengers():
    continuous = poutine.condition(global_beside, {"h": torch.ones(3)})
    finite(VIMCO(4), continuous, AutoNormalMessenger(continuous))


def test_point_estimates():
    continuous = poutine.block(global_beside, hide=["h"])
    guide = PartialProposal(global_beside, AutoDelta(continuous))
    svi = SVI(global_beside, guide, pyro.optim.Adam({"lr": 0.1}), VIMCO(4))
    svi.step()
    before = pyro.param("AutoDelta.z").item()
    svi.step()
    assert pyro.param("AutoDelta.z").item() != before


def test_nan_in_a_logit():
    def model(logits):
        with pyro.plate("data", 3):
            h = pyro.sample("h", dist.Bernoulli(logits=logits, validate_args=False))
            pyro.sample("y", dist.Normal(h, 1.0), obs=Y)

    with pytest.raises(ValueError, match="NaN"):
        VIMCO(4).loss(model, PriorProposal(model), torch.tensor([0.0, math.nan, 0.0]))


def test_values_outside_the_support():
    model = SFNN([2, 3, 2])
    x, y = torch.zeros(2, 2), torch.tensor([[0.0, 1.0], [255.0, 0.0]])
    with pytest.raises(ValueError, match="support"):
        VIMCO(4).loss(model, PriorProposal(model), x, y)


def test_sites_configured_for_enumeration():
    enumerated = config_enumerate(local)
    with pytest.warns(UserWarning, match="enumerate sites"):
        VIMCO(4).loss(enumerated, PriorProposal(enumerated))


def test_two_models_of_one_name():
    x, y = torch.zeros(2, 2), torch.ones(2, 2)
    for name in (None, None, "second"):
        model = SFNN([2, 3, 2]) if name is None else SFNN([2, 3, 2], name=name)
        svi = SVI(model, PriorProposal(model), pyro.optim.SGD({"lr": 0.1}), G5(4))
        if name is None and len(pyro.get_param_store()):
            with pytest.raises(ValueError, match="another model"):
                svi.step(x, y)
        else:
            svi.step(x, y)
    pyro.clear_param_store()
    for model in (SFNN([2, 3, 2]), SFNN([2, 3, 2])):  # modules, no parameter store needed
        G5(4)(model, PriorProposal(model))(x, y).backward()
        assert all(parameter.grad is not None for parameter in model.parameters())


def test_models_that_are_methods_or_partial_functions():
    class Holder:
        def model(self):
            local()

    holder = Holder()
    finite(G5(4), holder.model, PriorProposal(holder.model))
    partial = functools.partial(local, Y)
    finite(G5(4), partial, PriorProposal(partial))


def test_a_plate_named_particles():
    def model():
        with pyro.plate("particles", 3):
            h = pyro.sample("h", dist.Bernoulli(0.4))
            pyro.sample("y", dist.Normal(h, 1.0), obs=Y)

    for vectorised in (True, False):
        finite(VIMCO(4, vectorize_particles=vectorised), model, PriorProposal(model))


def test_probabilities_of_zero():
    rate = torch.tensor(2.0, requires_grad=True)

    def model(y):
        with pyro.plate("data", len(y)):
            h = pyro.sample("h", dist.Bernoulli(0.5))
            pyro.sample("y", dist.Poisson(rate * h), obs=y)

    y = torch.tensor([0.0, 3.0])
    loss = VIMCO(50).differentiable_loss(model, PriorProposal(model), y)
    assert torch.autograd.grad(loss, rate)[0].isfinite()


def test_arguments_of_pyros_constructors():
    VIMCO(4, retain_graph=True, strict_enumeration_warning=False)
    with pytest.raises(TypeError, match="Compiled"):
        VIMCO(4, ignore_jit_warnings=True)


def test_only_the_guide_has_parameters():
    svi = SVI(local, mean_field, pyro.optim.Adam({"lr": 0.1}), G4(4))
    with pytest.raises(ValueError, match="ReweightedWakeSleep"):
        svi.step()


def test_second_derivatives():
    a = torch.tensor(0.3, requires_grad=True)

    def model():
        with pyro.plate("data", 3):
            h = pyro.sample("h", dist.Bernoulli(logits=a))
            pyro.sample("y", dist.Normal(a * h, 1.0), obs=Y)

    loss = VIMCO(4).differentiable_loss(model, PriorProposal(model))
    try:
        (first,) = torch.autograd.grad(loss, a, create_graph=True)
    except RuntimeError as error:
        assert "derivative" in str(error) or "twice" in str(error)
    else:
        assert first.requires_grad


def test_chunks_of_a_model_that_draws_its_minibatch():
    def model(y):
        with pyro.plate("data", 3, subsample_size=2) as index:
            h = pyro.sample("h", dist.Bernoulli(logits=pyro.param("a", torch.tensor(0.1))))
            pyro.sample("y", dist.Normal(h, 1.0), obs=y[index])

    finite(Chunked(G5(8), particle_chunk=3), model, PriorProposal(model), Y)


def test_chunks_of_a_model_that_chooses_its_rows():
    def model(y):
        rows = torch.randperm(3)[:2]
        with pyro.plate("data", 2):
            h = pyro.sample("h", dist.Bernoulli(logits=pyro.param("a", torch.tensor(0.1))))
            pyro.sample("y", dist.Normal(h, 1.0), obs=y[rows])

    with pytest.raises(ValueError, match="'y' observes another value"):
        for _ in range(20):  # the rows may be the same by chance
            Chunked(G5(8), particle_chunk=2).loss_and_grads(model, PriorProposal(model), Y)


def test_sleep_phase_with_pyros_observations():
    def model(observations):
        with pyro.plate("data", 3):
            h = pyro.sample("h", dist.Bernoulli(0.4))
            pyro.sample("y", dist.Normal(h, 1.0), obs=observations["y"])

    def guide(observations):
        q = pyro.param("q", torch.zeros(2))
        with pyro.plate("data", 3):
            pyro.sample("h", dist.Bernoulli(logits=q[0] + q[1] * observations["y"]))

    estimator = ReweightedWakeSleep(4, insomnia=0.5)
    assert math.isfinite(estimator.loss_and_grads(model, guide, observations={"y": Y}))


def test_sites_that_an_estimator_has_no_gradient_for():
    def model():
        with pyro.plate("data", 3):
            h = pyro.sample("h", dist.Poisson(1.0))
            pyro.sample("y", dist.Normal(h, 1.0), obs=Y)

    with pytest.raises(ValueError, match=r"'h'.*VIMCO"):
        G1(4).loss(model, PriorProposal(model))
    finite(VIMCO(4), model, PriorProposal(model))


def test_mixtures():
    mixture = MixtureProposal(PriorProposal(local), mean_field)
    finite(VIMCO(4), local, mixture)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        finite(ReweightedWakeSleep(4), local, mixture)
