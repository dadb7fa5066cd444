"""Models of the kinds that public bug reports on Pyro and NumPyro are about.

Each test is a model of our own of the kind that its name and first line say, tried against a
closed form or a sum over all states. ``docs/compatibility.md`` has the list.
"""

import math
import warnings

import pyro
import pytest
import torch
from pyro import distributions as dist
from pyro import poutine
from pyro.infer import SVI, Predictive
from pyro.infer.autoguide import AutoDelta, AutoNormal

from sfnn_pyro.estimators import G4, G5, OVIS, RLOO, VIMCO, DisARM
from sfnn_pyro.evaluation import log_likelihood
from sfnn_pyro.evaluation.exact import exact_log_likelihood
from sfnn_pyro.evaluation.predictions import predictive_mean
from sfnn_pyro.guides import PriorProposal
from tests.compatibility.oracle import (
    bernoulli,
    binary,
    bound,
    expected,
    gradient,
    leaf,
    normal,
    objective,
)


def agree(got, wanted, tolerance=1e-9):
    got, wanted = torch.as_tensor(got), torch.as_tensor(wanted)
    torch.testing.assert_close(got, wanted, rtol=0, atol=tolerance)


def check(model, guide, tables, log_q, log_weight, of, nesting=1, kinds=(VIMCO, OVIS, RLOO)):
    """Reported objective and gradient, in expectation over two particles."""
    for kind in kinds:
        estimator = kind(2, max_plate_nesting=nesting)
        value, grad = expected(estimator, model, guide, tables, log_q.detach(), of)
        agree(value, objective(log_weight, log_q, 2).item())
        target = bound(log_weight, log_q) if kind is RLOO else objective(log_weight, log_q, 2)
        agree(grad, gradient(target, of))


def test_nan_under_a_mask_at_an_observed_site():  # pyro 2447
    a, mu, q = of = leaf(0.3, -0.2, [0.1, 0.4])
    y, seen = torch.tensor([math.nan, 0.7]), torch.tensor([False, True])

    def model():
        with pyro.plate("data", 2):
            h = pyro.sample("h", dist.Bernoulli(logits=a))
            with poutine.mask(mask=seen):
                pyro.sample("y", dist.Normal(h + mu, 1.0, validate_args=False), obs=y)

    def guide():
        with pyro.plate("data", 2):
            pyro.sample("h", dist.Bernoulli(logits=q))

    h = torch.stack(binary(2), 1)  # (4, 2)
    each = bernoulli(a, h) - bernoulli(q, h)
    each = each + torch.stack([torch.zeros(4), normal(h[:, 1] + mu, y[1])], 1)
    log_q = bernoulli(q, h).sum(1)
    for kind in (VIMCO, OVIS):
        value, grad = expected(
            kind(2, max_plate_nesting=1), model, guide, {"h": h}, log_q.detach(), of
        )
        target = sum(objective(each[:, b], log_q, 2) for b in range(2))
        agree(value, target.item())
        agree(grad, gradient(target, of))


def test_placeholder_under_a_mask_of_a_categorical():  # pyro 1823
    logits = torch.tensor([[0.2, -0.3], [0.5, 0.1]], requires_grad=True)
    a = torch.tensor(0.4, requires_grad=True)
    y, seen = torch.tensor([1, 0]), torch.tensor([True, False])

    def model(y=y):
        with pyro.plate("data", 2):
            h = pyro.sample("h", dist.Bernoulli(logits=a))
            pyro.sample("y", dist.Categorical(logits=logits[h.long()]).mask(seen), obs=y)

    table = torch.log_softmax(logits, -1)
    prior = torch.stack([bernoulli(a, torch.tensor(h)) for h in (0.0, 1.0)])
    wanted = torch.stack([torch.logsumexp(prior + table[:, 1], 0), torch.tensor(0.0)])
    agree(exact_log_likelihood(model), wanted)
    loss = -VIMCO(5).differentiable_loss(model, PriorProposal(model))
    assert gradient(loss, [a, logits]).isfinite().all()
    with pytest.raises(ValueError, match="support"):
        VIMCO(5).loss(model, PriorProposal(model), torch.tensor([1, 2]))


def test_terms_outside_a_plate_are_counted_once():  # pyro 2893
    a, b, q = of = leaf(0.3, 0.5, -0.4)
    y, u = torch.tensor([0.9, -0.2, 0.1]), torch.tensor(0.6)

    def model():
        z = pyro.sample("z", dist.Bernoulli(logits=a))
        pyro.sample("u", dist.Normal(z, 1.0), obs=u)
        with pyro.plate("data", 3):
            pyro.sample("y", dist.Normal(b * z, 1.0), obs=y)

    def guide():
        pyro.sample("z", dist.Bernoulli(logits=q))

    z = torch.tensor([0.0, 1.0])
    log_q = bernoulli(q, z)
    log_w = bernoulli(a, z) - log_q + normal(z, u) + normal(b * z.unsqueeze(1), y).sum(1)
    check(model, guide, {"z": z.unsqueeze(1)}, log_q, log_w, of)


@pytest.mark.parametrize("kind", [G4, G5, VIMCO, OVIS, RLOO, DisARM])
def test_every_way_to_the_loss_has_one_sign_and_value(kind):  # pyro 1982, 2798
    bias = torch.nn.Parameter(torch.tensor(0.3))
    y = torch.tensor([0.4, -1.0])

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.bias = bias

        def forward(self):
            with pyro.plate("data", 2):
                h = pyro.sample("h", dist.Bernoulli(logits=self.bias).expand([2]))
                pyro.sample("y", dist.Normal(h, 1.0), obs=y)

    model = Model()
    guide = PriorProposal(model)
    estimator = kind(4, max_plate_nesting=1)
    calls = {
        "loss": lambda: estimator.loss(model, guide),
        "grads": lambda: estimator.loss_and_grads(model, guide),
        "differentiable": lambda: estimator.differentiable_loss(model, guide).item(),
        "module": lambda: estimator(model, guide)().item(),
        "again": lambda: estimator.loss(model, guide),
    }
    values = {}
    for name, call in calls.items():
        pyro.set_rng_seed(3)
        values[name] = call()
    assert max(values.values()) - min(values.values()) < 1e-9, values
    assert values["loss"] > 0


def test_sites_in_a_sequential_plate():  # pyro 2361, 746
    a, q, mu = of = leaf(0.3, [-0.4, 0.2], 0.8)
    y = torch.tensor([0.9, -0.2])

    def model():
        for n in pyro.plate("data", 2):
            h = pyro.sample(f"h{n}", dist.Bernoulli(logits=a))
            pyro.sample(f"y{n}", dist.Normal(mu * h, 1.0), obs=y[n])

    def guide():
        for n in pyro.plate("data", 2):
            pyro.sample(f"h{n}", dist.Bernoulli(logits=q[n]))

    h = torch.stack(binary(2), 1)
    log_q = bernoulli(q, h).sum(1)
    log_w = (bernoulli(a, h) + normal(mu * h, y)).sum(1) - log_q
    check(model, guide, {"h0": h[:, 0], "h1": h[:, 1]}, log_q, log_w, of, nesting=0)


def test_subsample_of_another_size_at_the_next_call():  # numpyro 1739
    y = torch.arange(10.0) / 10

    def model(size):
        mu = pyro.sample("mu", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 10, subsample=torch.arange(size)) as index:
            pyro.sample("y", dist.Normal(mu, 1.0), obs=y[index])

    guide = AutoDelta(model, init_loc_fn=lambda site: torch.tensor(0.3))
    for size in (10, 4, 7):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the bound is of the minibatch: said once
            loss = RLOO(2, max_plate_nesting=1).loss(model, guide, size)
        mu = torch.tensor(0.3)
        wanted = normal(torch.tensor(0.0), mu) + normal(mu, y[:size]).sum() * 10 / size
        agree(loss, -wanted)


def test_global_discrete_latent_over_a_subsampled_plate():  # numpyro 1572
    a, q = of = leaf(0.3, -0.2)
    locs = torch.tensor([1.0, -0.5], requires_grad=True)
    of = [*of, locs]
    y = torch.tensor([0.3, 1.2, -0.4, 0.8])

    def model():
        z = pyro.sample("z", dist.Bernoulli(logits=a))
        with pyro.plate("data", 4, subsample=torch.arange(2)) as index:
            pyro.sample("y", dist.Normal(locs[z.long()], 1.0), obs=y[index])

    def guide():
        pyro.sample("z", dist.Bernoulli(logits=q))

    z = torch.tensor([0.0, 1.0])
    log_q = bernoulli(q, z)
    log_w = bernoulli(a, z) - log_q + 2 * normal(locs.unsqueeze(1), y[:2]).sum(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check(model, guide, {"z": z.unsqueeze(1)}, log_q, log_w, of)


def test_deterministic_site_of_the_guide():  # pyro 3361
    y = torch.tensor([0.3, -0.7])

    def model():
        with pyro.plate("data", 2):
            h = pyro.sample("h", dist.Bernoulli(0.4))
            pyro.sample("y", dist.Normal(h, 1.0), obs=y)

    def make(record):
        def guide():
            q = pyro.param("q", torch.tensor([0.2, -0.3]))
            with pyro.plate("data", 2):
                h = pyro.sample("h", dist.Bernoulli(logits=q))
                if record:
                    pyro.deterministic("twice", 2 * h)

        return guide

    losses = []
    for record in (False, True):
        pyro.set_rng_seed(0)
        losses.append(VIMCO(3).loss_and_grads(model, make(record)))
    assert losses[0] == losses[1]


def test_vector_site_outside_a_plate_in_predictions():  # pyro 2122
    weight = torch.tensor([0.7, -1.1])

    def model(x):
        h = pyro.sample("h", dist.Bernoulli(0.5 * torch.ones(2)).to_event(1))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Normal(x + (h * weight).sum(-1), 1.0))

    x = torch.linspace(0, 1, 5)
    mean = predictive_mean(model, x, num_particles=4000)
    agree(mean, x + (0.5 * weight).sum(), 0.06)
    drawn = Predictive(model, num_samples=3, parallel=True)(x)["y"]
    assert drawn.shape == (3, 5)


def test_masked_latent():  # pyro 2124
    a, q, mu = of = leaf(0.3, [0.2, -0.6], 0.5)
    y, seen = torch.tensor([0.4, 0.9]), torch.tensor([True, False])

    def model():
        with pyro.plate("data", 2):
            h = pyro.sample("h", dist.Bernoulli(logits=a).expand([2]).mask(seen))
            pyro.sample("y", dist.Normal(h * mu, 1.0), obs=y)

    def guide():
        with pyro.plate("data", 2):
            pyro.sample("h", dist.Bernoulli(logits=q).mask(seen))

    h = torch.stack(binary(2), 1)
    each = seen * (bernoulli(a, h) - bernoulli(q, h)) + normal(h * mu, y)
    log_q = bernoulli(q, h).sum(1)
    for kind in (VIMCO, OVIS, RLOO):
        value, grad = expected(
            kind(2, max_plate_nesting=1), model, guide, {"h": h}, log_q.detach(), of
        )
        agree(value, sum(objective(each[:, b], log_q, 2) for b in range(2)).item())
        if kind is RLOO:
            target = bound(each.sum(1), log_q)
        else:
            target = sum(objective(each[:, b], log_q, 2) for b in range(2))
        agree(grad, gradient(target, of))


def test_plated_latent_with_an_observation_of_their_sum():  # numpyro 1537
    a, mu, q = of = leaf([0.3, -0.2], 0.9, [0.1, 0.5])

    def model():
        with pyro.plate("units", 2):
            h = pyro.sample("h", dist.Bernoulli(logits=a))
        pyro.sample("y", dist.Normal(mu * h.sum(-1, keepdim=h.dim() > 1), 1.0), obs=torch.ones(()))

    def guide():
        with pyro.plate("units", 2):
            pyro.sample("h", dist.Bernoulli(logits=q))

    h = torch.stack(binary(2), 1)
    log_q = bernoulli(q, h).sum(1)
    log_joint = bernoulli(a, h).sum(1) + normal(mu * h.sum(1), torch.ones(()))
    check(model, guide, {"h": h}, log_q, log_joint - log_q, of)
    agree(exact_log_likelihood(model), torch.logsumexp(log_joint, 0))


def test_guide_with_the_models_own_chain():  # pyro 2724
    a, b, c, qa, qb, qc, mu = of = leaf(0.3, -0.5, 0.7, 0.1, -0.3, 0.6, 1.2)
    y = torch.tensor([0.4])

    def model():
        u = pyro.sample("u", dist.Bernoulli(logits=a))
        with pyro.plate("data", 1):
            v = pyro.sample("v", dist.Bernoulli(logits=b + u))
            w = pyro.sample("w", dist.Bernoulli(logits=c - v))
            pyro.sample("y", dist.Normal(mu * w, 1.0), obs=y)

    def guide():
        u = pyro.sample("u", dist.Bernoulli(logits=qa))
        with pyro.plate("data", 1):
            v = pyro.sample("v", dist.Bernoulli(logits=qb + u))
            pyro.sample("w", dist.Bernoulli(logits=qc - v))

    u, v, w = binary(3)
    log_q = bernoulli(qa, u) + bernoulli(qb + u, v) + bernoulli(qc - v, w)
    log_p = bernoulli(a, u) + bernoulli(b + u, v) + bernoulli(c - v, w) + normal(mu * w, y)
    tables = {"u": u.unsqueeze(1), "v": v.unsqueeze(1), "w": w.unsqueeze(1)}
    check(model, guide, tables, log_q, log_p - log_q, of)
    agree(exact_log_likelihood(model).sum(), torch.logsumexp(log_p, 0))


@pytest.mark.parametrize("size", [1, 2])
def test_global_latent_over_a_plate_of_any_size(size):  # pyro 1460, 1827
    a, b, mu = of = leaf(0.3, -0.5, 0.8)
    y = torch.tensor([0.4, -0.9])[:size]

    def model():
        z = pyro.sample("z", dist.Bernoulli(logits=a))
        with pyro.plate("data", size):
            h = pyro.sample("h", dist.Bernoulli(logits=b + z))
            pyro.sample("y", dist.Normal(mu * h + z, 1.0), obs=y)

    z, *h = binary(1 + size)
    h = torch.stack(h, 1)
    each = bernoulli((b + z).unsqueeze(1), h) + normal(mu * h + z.unsqueeze(1), y)
    log_joint = bernoulli(a, z) + each.sum(1)
    wanted = torch.logsumexp(log_joint, 0)
    exact = exact_log_likelihood(model)
    agree(exact.sum(), wanted)
    # The gradient for the prior's logit is the posterior's mean less the prior's.
    posterior = (torch.softmax(log_joint, 0) * z).sum() - torch.sigmoid(a)
    agree(torch.autograd.grad(exact.sum(), a, retain_graph=True)[0], posterior)
    log_q = bernoulli(a, z) + bernoulli((b + z).unsqueeze(1), h).sum(1)
    value, grad = expected(
        VIMCO(2, max_plate_nesting=1),
        model,
        PriorProposal(model),
        {"z": z.unsqueeze(1), "h": h},
        log_q.detach(),
        of,
    )
    target = objective(log_joint - log_q, log_q, 2)
    agree(value, target.item())
    agree(grad, gradient(target, of))


def test_auxiliary_site_of_a_guide_that_the_latent_is_a_function_of():  # numpyro 2013
    y = torch.tensor(0.6)

    def model():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    def plain():
        pyro.sample("z", dist.Normal(pyro.param("q", torch.tensor(0.2)), 1.5))

    def auxiliary():
        loc = pyro.param("q", torch.tensor(0.2))
        u = pyro.sample("u", dist.Normal(loc / 2, 0.75), infer={"is_auxiliary": True})
        pyro.sample("z", dist.Delta(2 * u, log_density=-math.log(2.0)))

    losses, grads = [], []
    for guide in (plain, auxiliary):
        pyro.set_rng_seed(0)
        pyro.clear_param_store()
        losses.append(RLOO(3).loss_and_grads(model, guide))
        grads.append(pyro.get_param_store()._params["q"].grad.item())
    agree(losses[0], losses[1])
    agree(grads[0], grads[1])


def test_discontinuous_likelihood_of_a_normal_without_a_path():  # pyro 2277
    loc = torch.tensor(0.3, requires_grad=True)

    def model():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Bernoulli(torch.where(z > 0.5, 0.8, 0.2)), obs=torch.tensor(1.0))

    def guide():
        pyro.sample("z", dist.Normal(loc, 1.0).has_rsample_(False))

    grid = torch.linspace(-9, 9, 40001)
    log_q = dist.Normal(loc, 1.0).log_prob(grid)
    f = normal(torch.tensor(0.0), grid) - log_q + torch.where(grid > 0.5, 0.8, 0.2).log()
    wanted = torch.autograd.grad((log_q.exp() * f).sum() * (grid[1] - grid[0]), loc)[0]
    loss = RLOO(200_000, max_plate_nesting=0).differentiable_loss(model, guide)
    agree(-torch.autograd.grad(loss, loc)[0], wanted, 0.02)


def test_partly_observed_site():  # pyro 2772
    mu = torch.tensor(0.8, requires_grad=True)
    a = torch.tensor(0.3, requires_grad=True)
    y, seen = torch.tensor([1.0, 0.0, 1.0]), torch.tensor([True, True, False])

    def model():
        with pyro.plate("data", 3):
            h = pyro.sample("h", dist.Bernoulli(logits=a).expand([3]))
            pyro.sample("y", dist.Bernoulli(logits=mu * h), obs=y, obs_mask=seen)

    h = torch.tensor([0.0, 1.0]).unsqueeze(1)
    each = torch.logsumexp(bernoulli(a, h) + seen * bernoulli(mu * h, y), 0)
    try:
        got = exact_log_likelihood(model)
    except ValueError as error:
        assert "y_unobserved" in str(error)
    else:
        agree(got, each)
    loss = -VIMCO(20_000).differentiable_loss(model, PriorProposal(model))
    agree(loss, each.sum(), 0.02)
    agree(gradient(loss, [a, mu]), gradient(each.sum(), [a, mu]), 0.03)


def test_missing_values_as_nan_in_a_distribution_made_for_them():  # pyro 3116
    mu, a = of = leaf(0.8, 0.3)
    y = torch.tensor([0.4, math.nan])

    def model():
        with pyro.plate("data", 2):
            h = pyro.sample("h", dist.Bernoulli(logits=a).expand([2]))
            pyro.sample("y", dist.NanMaskedNormal(mu * h, 1.0), obs=y)

    h = torch.tensor([0.0, 1.0])
    wanted = torch.logsumexp(bernoulli(a, h) + normal(mu * h, y[0]), 0)
    agree(exact_log_likelihood(model), torch.stack([wanted, torch.tensor(0.0)]))
    loss = -VIMCO(20_000).differentiable_loss(model, PriorProposal(model))
    agree(gradient(loss, of), gradient(wanted, of), 0.02)


def test_independent_branches():  # pyro 2809
    a, b, qa, qb = of = leaf(0.3, -0.2, 0.1, [0.4, -0.5])
    y = torch.tensor([0.9, -0.4])

    def model():
        u = pyro.sample("u", dist.Bernoulli(logits=a))
        pyro.sample("x", dist.Normal(u, 1.0), obs=torch.tensor(0.3))
        with pyro.plate("data", 2):
            v = pyro.sample("v", dist.Bernoulli(logits=b).expand([2]))
            pyro.sample("y", dist.Normal(v, 1.0), obs=y)

    def guide():
        pyro.sample("u", dist.Bernoulli(logits=qa))
        with pyro.plate("data", 2):
            pyro.sample("v", dist.Bernoulli(logits=qb))

    u, *v = binary(3)
    v = torch.stack(v, 1)
    log_q = bernoulli(qa, u) + bernoulli(qb, v).sum(1)
    log_p = bernoulli(a, u) + normal(u, torch.tensor(0.3))
    log_p = log_p + (bernoulli(b, v) + normal(v, y)).sum(1)
    check(model, guide, {"u": u.unsqueeze(1), "v": v}, log_q, log_p - log_q, of)


def test_variable_selection_couples_two_plates_of_one_dimension():  # numpyro 778, 1174
    a, w = of = leaf([0.3, -0.4], [0.8, -1.1])
    x, y = torch.tensor([[1.0, 0.5], [-0.3, 0.7], [0.2, -1.0]]), torch.tensor([0.4, -0.6, 1.1])

    def model():
        with pyro.plate("features", 2):
            h = pyro.sample("h", dist.Bernoulli(logits=a))
        loc = (x @ (w * h).unsqueeze(-1)).squeeze(-1)
        with pyro.plate("data", 3):
            pyro.sample("y", dist.Normal(loc, 1.0), obs=y)

    h = torch.stack(binary(2), 1)
    log_y = normal((h * w) @ x.T, y).sum(1)
    log_h = bernoulli(a, h).sum(1)
    agree(exact_log_likelihood(model).sum(), torch.logsumexp(log_h + log_y, 0))
    check(model, PriorProposal(model), {"h": h}, log_h, log_y, of, kinds=(VIMCO,))


def test_a_batch_of_padded_sequences_is_its_members():  # pyro 1481
    logits = torch.tensor([0.4, -0.7])
    steps = torch.tensor([[0.2, 0.9, -0.4], [1.1, 0.3, 0.0]])
    lengths = torch.tensor([3, 2])

    def model(steps, lengths):
        with pyro.plate("data", len(steps)):
            z = torch.zeros(len(steps))
            for t in pyro.markov(range(3)):
                with poutine.mask(mask=t < lengths):
                    z = pyro.sample(f"z{t}", dist.Bernoulli(logits=logits[z.long()]))
                    pyro.sample(f"y{t}", dist.Normal(z, 1.0), obs=steps[:, t])

    wanted = []
    for row, length in zip(steps, lengths, strict=True):
        states = torch.stack(binary(int(length)), 1)
        before = torch.cat([torch.zeros(len(states), 1), states[:, :-1]], 1)
        log_p = bernoulli(logits[before.long()], states) + normal(states, row[:length])
        wanted.append(torch.logsumexp(log_p.sum(1), 0))
    wanted = torch.stack(wanted)
    try:
        agree(exact_log_likelihood(model, steps, lengths), wanted)
    except ValueError as error:
        assert "mask" in str(error)
    agree(log_likelihood(model, steps, lengths, num_particles=40_000), wanted, 0.03)


def test_deterministic_site_in_predictions_for_new_inputs():  # numpyro 1772
    def model(x):
        with pyro.plate("data", len(x)):
            h = pyro.sample("h", dist.Bernoulli(0.5))
            eta = pyro.deterministic("eta", 2 * x + h)
            pyro.sample("y", dist.Normal(eta, 1.0))

    for count in (3, 7):
        x = torch.linspace(0, 1, count)
        agree(predictive_mean(model, x, num_particles=20_000), 2 * x + 0.5, 0.02)


def test_weights_of_weighed_predictive():  # pyro 3345
    y = torch.tensor([0.4, 1.3])

    def model():
        with pyro.plate("data", 2):
            h = pyro.sample("h", dist.Bernoulli(0.3).expand([2]))
            pyro.sample("y", dist.Normal(h, 1.0), obs=y)

    samples = pyro.infer.WeighedPredictive(
        model, guide=PriorProposal(model), num_samples=6, parallel=True
    )()
    agree(samples.log_weights, normal(samples.samples["h"], y).sum(-1))


def test_parameters_of_another_number_of_datapoints():  # cell2location 293
    def model(y):
        with pyro.plate("data", len(y)):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    def trained(y):
        SVI(model, AutoNormal(model), pyro.optim.Adam({"lr": 0.01}), VIMCO(3)).step(y)

    trained(torch.zeros(4))
    with pytest.raises(ValueError, match=r"another model|invalid shape"):
        trained(torch.zeros(6))


def test_site_observed_in_one_call_and_latent_in_the_next():  # numpyro 542
    logits = torch.tensor([0.2, 0.7])

    def model(y=None):
        with pyro.plate("data", 2):
            h = pyro.sample("h", dist.Bernoulli(0.5))
            pyro.sample("y", dist.Bernoulli(logits=logits[h.long()]), obs=y)

    estimator = VIMCO(5, max_plate_nesting=1)
    assert math.isfinite(estimator.loss(model, PriorProposal(model), torch.ones(2)))
    with pytest.raises(ValueError, match="observed"):
        estimator.loss(model, PriorProposal(model))


def test_masked_prior_makes_maximum_likelihood():  # pyro 2765, 570
    y = torch.tensor([0.4, 1.3])

    def model(prior):
        with poutine.mask(mask=prior):
            z = pyro.sample("z", dist.Normal(0.0, 1.0))
        with pyro.plate("data", 2):
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    guide = AutoDelta(model, init_loc_fn=lambda site: torch.tensor(0.3))
    z = torch.tensor(0.3)
    for prior in (False, True):
        wanted = normal(z, y).sum() + prior * normal(torch.tensor(0.0), z)
        agree(RLOO(2, max_plate_nesting=1).loss(model, guide, prior), -wanted)
    pyro.get_param_store()["AutoDelta.z"].grad = None
    RLOO(2, max_plate_nesting=1).loss_and_grads(model, guide, False)
    agree(guide.z.grad if guide.z.grad is not None else math.nan, (2 * z - y.sum()))


@pytest.mark.parametrize("kind", [VIMCO, OVIS, RLOO])
def test_the_number_of_particles_divides_the_loss(kind):  # numpyro 1724
    y = torch.tensor(0.4)

    def model():
        z = pyro.sample("z", dist.Normal(0.0, 1.0))
        pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    def guide():
        pyro.sample("z", dist.Delta(torch.tensor(0.3), log_density=0.7))  # numpyro 1625

    z = torch.tensor(0.3)
    for particles in (2, 50):
        loss = kind(particles, max_plate_nesting=0).loss(model, guide)
        agree(loss, 0.7 - normal(torch.tensor(0.0), z) - normal(z, y))


def test_guide_made_for_enumeration():  # pyro 3286
    y = torch.arange(6.0) / 6

    def model():
        with pyro.plate("data", 6, subsample=torch.arange(3)) as index:
            h = pyro.sample("h", dist.Categorical(torch.ones(2)))
            pyro.sample("y", dist.Normal(h.double(), 1.0), obs=y[index])

    guide = pyro.infer.autoguide.AutoDiscreteParallel(model)
    with pytest.raises((ValueError, UserWarning), match="enumerat"):
        VIMCO(3).loss(model, guide)


def test_random_auxiliary_site_of_a_guide():  # numpyro 2013, the discrete kind
    y = torch.tensor(0.6)

    def model():
        h = pyro.sample("h", dist.Bernoulli(0.5))
        pyro.sample("y", dist.Normal(h, 1.0), obs=y)

    def guide():
        u = pyro.sample("u", dist.Bernoulli(0.5), infer={"is_auxiliary": True})
        pyro.sample("h", dist.Bernoulli(0.2 + 0.6 * u))

    h = torch.tensor([0.0, 1.0])
    exact = torch.logsumexp(math.log(0.5) + normal(h, y), 0).item()
    try:
        losses = [VIMCO(50, max_plate_nesting=0).loss(model, guide) for _ in range(100)]
    except ValueError as error:
        assert "u" in str(error)
    else:
        assert -sum(losses) / 100 < exact + 1e-3  # no bound otherwise
