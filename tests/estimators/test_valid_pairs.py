"""Valid and invalid pairs of model and guide, each with its warning or error."""

import math

import pyro
import pyro.distributions as dist
import pytest
import torch

from sfnn_pyro.estimators import (
    ESTIMATORS,
    G1,
    G2,
    G3,
    G4,
    G5,
    OVIS,
    RLOO,
    VIMCO,
    DisARM,
    Estimator,
    GumbelStraightThrough,
)
from sfnn_pyro.estimators.checks import check_finite
from sfnn_pyro.guides import MixtureProposal, PriorProposal, RecognitionNetwork
from sfnn_pyro.models import SFNN

Y = torch.tensor([0.5, -0.5])


def simple(y, plate="data", site="h", size=None, dim=None, extra=None, fn=None):
    with pyro.plate(plate, size or len(y), dim=dim):
        h = pyro.sample(site, fn or dist.Bernoulli(torch.tensor(0.5)))
        if extra:
            pyro.sample(extra, dist.Bernoulli(torch.tensor(0.5)))
    return h


def model(y):
    with pyro.plate("data", len(y)):
        h = pyro.sample("h", dist.Bernoulli(torch.tensor(0.5)))
        pyro.sample("y", dist.Normal(h, 1.0), obs=y)


@pytest.mark.parametrize("estimator", [G4, VIMCO, DisARM, ESTIMATORS["rws"]])
@pytest.mark.parametrize("vectorized", [True, False])
def test_a_matching_guide_is_accepted_without_a_word(estimator, vectorized):
    if estimator is DisARM and not vectorized:
        pytest.skip("DisARM runs vectorised")
    kwargs = {} if vectorized else {"vectorize_particles": False}
    assert estimator(3, **kwargs).loss(model, simple, Y) > 0


def test_missing_site():
    def guide(y):
        pass

    with pytest.raises(ValueError, match=r"does not propose the latent site\(s\) 'h'"):
        VIMCO(3).loss(model, guide, Y)


def test_extra_site():
    with pytest.warns(UserWarning, match="vars in guide but not model"):
        VIMCO(3).loss(model, lambda y: simple(y, extra="nobody"), Y)


def test_auxiliary_site_of_an_autoguide():
    def continuous(y):
        with pyro.plate("data", len(y)):
            u = pyro.sample("u", dist.Normal(torch.tensor(0.0), 1.0))
            pyro.sample("y", dist.Normal(u, 1.0), obs=y)

    guide = pyro.infer.autoguide.AutoNormal(continuous)
    svi = pyro.infer.SVI(continuous, guide, pyro.optim.Adam({"lr": 0.1}), VIMCO(10))
    for _ in range(2):
        before = {name: p.detach().clone() for name, p in guide.named_parameters()}
        assert math.isfinite(svi.step(Y))
    after = dict(guide.named_parameters())
    assert len(before) == 2 and all((after[name] != p).all() for name, p in before.items())


def test_plate_of_another_name():
    with pytest.raises(ValueError, match="site 'h' lies in plate 'other' in the guide and 'data'"):
        G4(3).loss(model, lambda y: simple(y, plate="other"), Y)


def test_plate_of_another_size():
    def guide(y):
        with pyro.plate("data", 3):
            pyro.sample("h", dist.Bernoulli(torch.tensor(0.5)))

    with pytest.raises((ValueError, RuntimeError)):
        G4(3).loss(model, guide, Y)


def test_guide_without_the_plate():
    def guide(y):
        pyro.sample("h", dist.Bernoulli(torch.full((2,), 0.5)).to_event(1))

    with pytest.raises(ValueError, match="'h' lies in plate none in the guide and 'data' in the m"):
        G4(3).loss(model, guide, Y)


def test_guide_with_a_further_plate():
    def guide(y):
        pyro.sample("first", dist.Bernoulli(torch.tensor(0.5)))  # which the model does not know
        with pyro.plate("data", len(y)), pyro.plate("extra", 1, dim=-2):
            pyro.sample("h", dist.Bernoulli(torch.tensor(0.5)))

    with pytest.raises(ValueError, match="'h' lies in plate 'extra' in the guide and none in the"):
        G4(3).loss(model, guide, Y)


def test_sequential_plates_are_no_plates_of_datapoints():
    def steps(y, observed=True):
        for i in pyro.plate("steps", 2):
            with pyro.plate(f"data{i}", len(y), dim=-1):
                h = pyro.sample(f"h{i}", dist.Bernoulli(torch.tensor(0.5)))
                if observed:
                    pyro.sample(f"y{i}", dist.Normal(h, 1.0), obs=y)

    assert VIMCO(3).loss(steps, lambda y: steps(y, observed=False), Y) > 0


def test_event_dimensions_that_disagree():
    def guide(y):
        with pyro.plate("data", len(y)):
            pyro.sample("h", dist.Bernoulli(torch.full((1,), 0.5)).to_event(1))

    with pytest.raises(ValueError, match=r"Shape mismatch|event_dims disagree"):
        G4(3).loss(model, guide, Y)


@pytest.mark.parametrize("where", ["model", "guide"])
def test_enumerated_site(where):
    def enumerated(y):
        with pyro.plate("data", len(y)):
            h = pyro.sample("h", dist.Bernoulli(torch.tensor(0.5)), infer={"enumerate": "parallel"})
            if where == "model":
                pyro.sample("y", dist.Normal(h, 1.0), obs=y)

    with pytest.warns(UserWarning, match="you need to use TraceEnum_ELBO"):
        if where == "model":
            G4(3).loss(enumerated, PriorProposal(enumerated), Y)
        else:
            G4(3).loss(model, enumerated, Y)


@pytest.mark.parametrize("estimator", [G3, G4, G5, VIMCO])
def test_no_latent_at_all_is_plain_maximum_likelihood(estimator):
    loc = torch.tensor(0.0, requires_grad=True)

    def observed_only(y):
        with pyro.plate("data", len(y)):
            pyro.sample("y", dist.Normal(loc, 1.0), obs=y)

    def empty(y):
        pass

    loss = estimator(3).differentiable_loss(observed_only, PriorProposal(observed_only), Y)
    exact = -dist.Normal(loc, 1.0).log_prob(Y).sum()
    assert loss.item() == pytest.approx(exact.item())
    (grad,) = torch.autograd.grad(loss, loc)
    assert grad.item() == pytest.approx(torch.autograd.grad(exact, loc)[0].item())
    if estimator in (G4, VIMCO):
        assert estimator(3).loss(observed_only, empty, Y) == pytest.approx(exact.item())


def test_no_observed_site():
    with pytest.raises(ValueError, match="the model has no observed site"):
        G4(3).loss(simple, PriorProposal(simple), Y)


def test_empty_plate():
    with pytest.raises(ValueError, match="a plate of size 0"):
        G4(3).loss(model, PriorProposal(model), Y[:0])


def test_latent_outside_the_data_plate_makes_the_minibatch_one_datapoint():
    def shared(y):
        z = pyro.sample("z", dist.Bernoulli(torch.tensor(0.5)))
        with pyro.plate("data", len(y)):
            pyro.sample("y", dist.Normal(z, 1.0), obs=y)

    particles = G4(3).draw(shared, PriorProposal(shared), (Y,), {})
    assert particles.log_weight().numel() == 3


@pytest.mark.parametrize("estimator", [G1, G2, G3, DisARM, GumbelStraightThrough])
def test_a_site_without_a_gradient_is_named_with_its_siblings(estimator):
    def counts(y):
        with pyro.plate("data", len(y)):
            k = pyro.sample("k", dist.Categorical(torch.ones(3)))
            pyro.sample("y", dist.Normal(k, 1.0), obs=y)

    with pytest.raises(ValueError, match=r"site 'k'.*Categorical.*Use VIMCO or G4"):
        estimator(3).loss(counts, PriorProposal(counts), Y)


PAIRED = ("g1", "disarm", "doublecv", "muprop", "rebar", "relax", "bitflip", "psa", "arms", "jsa")
"""Estimators that need all particles at once."""

DECLARED = {
    "g1": ("objective", True, True, 1),
    "g2": ("objective", False, True, 1),
    "g3": ("objective", False, True, 1),
    "g4": ("likelihood", False, False, 1),
    "g5": ("likelihood", False, False, 1),
    "vimco": ("objective", True, True, 2),
    "rloo": ("bound", True, True, 2),
    "ovis": ("objective", True, True, 2),
    "disarm": ("objective", True, True, 1),
    "gumbel": ("objective", False, True, 1),
    "reinmax": ("objective", False, True, 1),
    "gumbelrao": ("objective", False, True, 1),
    "doublecv": ("bound", True, True, 2),
    "muprop": ("objective", True, True, 1),
    "rebar": ("objective", True, True, 1),
    "relax": ("objective", True, True, 1),
    "nvil": ("objective", True, True, 1),
    "bitflip": ("objective", True, True, 1),
    "psa": ("objective", False, True, 1),
    "arms": ("bound", True, True, 2),
    "jsa": ("likelihood", False, False, 1),
    "rws": ("likelihood", False, False, 1),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_declarations_and_options(name):
    kind = ESTIMATORS[name]
    estimator = kind(num_particles=3, max_plate_nesting=2)
    declared = estimator.target, estimator.unbiased, estimator.pathwise, estimator.min_particles
    assert declared == DECLARED[name]
    assert (estimator.num_particles, estimator.max_plate_nesting) == (3, 2)
    assert estimator.vectorize_particles is True and kind().max_plate_nesting == math.inf
    if name not in PAIRED:
        one = kind(num_particles=3, max_plate_nesting=2, vectorize_particles=False)
        assert one.vectorize_particles is False
    assert GumbelStraightThrough(2, temperature=0.3).temperature == 0.3
    with pytest.raises(ValueError, match=f"needs at least {DECLARED[name][3]}"):
        kind(num_particles=DECLARED[name][3] - 1)


def test_what_was_given_as_a_guide_is_named():
    network, other = SFNN([2, 3, 2]), SFNN([2, 3, 2])
    x, y = torch.zeros(1, 2), torch.zeros(1, 2)

    def my_guide(x, y):
        pass

    recognition = RecognitionNetwork(network)
    for estimator, guide, words in (
        (ESTIMATORS["rws"](2), PriorProposal(network), "the model's prior"),
        (G5(2), PriorProposal(other), "the prior of another model"),
        (G5(2), MixtureProposal(recognition, my_guide), "a mixture that does not hold it"),
        (G5(2), my_guide, "my_guide"),
        (G5(2), recognition, "RecognitionNetwork"),
    ):
        with pytest.raises(ValueError, match=f"of the same model, and got {words}:"):
            estimator.loss(network, guide, x, y)


@pytest.mark.parametrize(
    ("args", "bad"),
    [
        ((torch.tensor([math.nan]),), 1),
        (("text", None, 3, torch.tensor([1]), torch.tensor([[0.0, math.inf]])), 5),
        ((torch.zeros(2), -torch.tensor(math.inf), torch.zeros(1)), 2),
    ],
)
def test_arguments_that_are_not_finite_are_counted_from_one(args, bad):
    with pytest.raises(ValueError, match=f"argument {bad} of the model holds NaN or infinity"):
        check_finite(args)


def test_arguments_without_numbers_are_none_of_its_business():
    check_finite(("text", math.nan, torch.tensor([True]), torch.zeros(2, device="meta")))
    check_finite((torch.zeros(2, device="meta"), torch.zeros(0), torch.ones(3)))


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_declares_itself(name):
    estimator = ESTIMATORS[name](num_particles=4)
    assert estimator.target in ("objective", "likelihood", "bound")
    assert estimator.unbiased in (True, False)
    assert set(estimator.proposals) <= {"prior", "guide", "mixture"} and estimator.proposals
    assert set(estimator.sites) <= {"Bernoulli", "OneHotCategorical", "reparameterisable", "other"}
    stateful = {"g1", "doublecv", "rebar", "relax", "nvil"}
    assert (estimator.state_dict() != {}) is (name in stateful - {"g1"}) or name == "g1"
    assert estimator.__doc__ and "Arguments:" in estimator.__doc__ and ">>>" in estimator.__doc__


@pytest.mark.parametrize("name", ESTIMATORS)
def test_a_step_runs_the_model_as_often_as_declared(name):
    hidden = [7] if name == "arms" else [3, 4]  # which refuses a second layer
    network, runs = SFNN([2, *hidden, 2]), []

    def counted(x, y):
        runs.append(0)
        network(x, y)

    estimator = ESTIMATORS[name](num_particles=4, max_plate_nesting=1)
    prior = "prior" in estimator.proposals
    guide = PriorProposal(counted) if prior else RecognitionNetwork(network)
    for _ in range(2):  # the first step of G1 draws particles for its baselines too
        runs.clear()
        estimator.see_rows(torch.arange(5))  # which JSA remembers
        estimator.differentiable_loss(counted, guide, torch.zeros(5, 2), torch.zeros(5, 2))
    passes = estimator.passes
    assert len(runs) == passes.of_particles(1, sites=len(hidden), units=7)
    assert passes.of_particles(4, 2, 7) == 4 * (len(runs) - passes.single) + passes.single


@pytest.mark.parametrize("name", ESTIMATORS)
def test_every_estimator_refuses_the_proposals_that_it_does_not_declare(name):
    estimator = ESTIMATORS[name](num_particles=4)
    network = SFNN([2, 3, 2])
    x, y = torch.zeros(2, 2), torch.zeros(2, 2)

    def guide(x, y):
        with pyro.plate("data", 2):
            pyro.sample("h1", dist.Bernoulli(torch.full((3,), 0.5)).to_event(1))

    prior = PriorProposal(network)
    proposals = {"prior": prior, "guide": guide, "mixture": MixtureProposal(prior, guide)}
    for kind, proposal in proposals.items():
        if kind in estimator.proposals:
            assert estimator.loss(network, proposal, x, y) > 0
        else:
            with pytest.raises(ValueError, match=f"{type(estimator).__name__} needs .* use "):
                estimator.loss(network, proposal, x, y)


@pytest.mark.parametrize("estimator", [VIMCO, OVIS, RLOO])
def test_leave_one_out_needs_two_particles(estimator):
    with pytest.raises(ValueError, match=r"num_particles=1.*needs at least 2"):
        estimator(1)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: VIMCO(2, mean="harmonic"), "mean='harmonic'"),
        (lambda: OVIS(2, gamma=2.0), "gamma=2"),
        (lambda: OVIS(2, gamma=-0.5), "gamma=-0.5"),
        (lambda: G1(2, decay=1.0), "decay=1"),
        (lambda: GumbelStraightThrough(2, temperature=0.0), "temperature=0"),
        (lambda: G4(0), "num_particles=0"),
        (lambda: G4(2).load_state_dict({"averages": 1}), "keeps no state"),
        (lambda: G1(2).load_state_dict({}), "has the key 'averages'"),
    ],
)
def test_bad_arguments(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_the_base_is_not_an_estimator_and_an_empty_state_is_no_error():
    with pytest.raises(TypeError, match="abstract"):
        Estimator(2)
    G4(2).load_state_dict(G4(2).state_dict())


def test_the_loss_alone_builds_no_graph():
    modes = []

    def watched(y):
        modes.append(torch.is_grad_enabled())
        return model(y)

    G4(2, max_plate_nesting=1).loss(watched, PriorProposal(watched), Y)
    assert modes == [False]
    G4(2, max_plate_nesting=1).differentiable_loss(watched, PriorProposal(watched), Y)
    assert modes == [False, True]


def test_a_pair_is_checked_again_when_the_guide_is_another():
    estimator = VIMCO(3)
    assert isinstance(estimator.loss(model, simple, Y), float)
    with pytest.raises(ValueError, match="does not propose the latent"):
        estimator.loss(model, lambda y: None, Y)


def test_without_pyros_validation_nothing_is_checked():
    with pyro.validation_enabled(False):
        assert VIMCO(3).loss(model, lambda y: simple(y, extra="nobody"), Y) > 0


def test_a_graph_may_be_retained():
    logits = torch.tensor(0.2, requires_grad=True).exp()  # a part that two losses share

    def shared(y):
        with pyro.plate("data", len(y)):
            h = pyro.sample("h", dist.Bernoulli(logits=logits))
            pyro.sample("y", dist.Normal(h, 1.0), obs=y)

    estimator = G4(3, max_plate_nesting=1)
    estimator.retain_graph = True
    for _ in range(2):
        estimator.loss_and_grads(shared, PriorProposal(shared), Y)
    estimator.retain_graph = False
    estimator.loss_and_grads(shared, PriorProposal(shared), Y)
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        estimator.loss_and_grads(shared, PriorProposal(shared), Y)


@pytest.mark.parametrize("estimator", [G1, G3, DisARM])
def test_an_observed_site_may_be_of_any_kind(estimator):
    network = SFNN([2, 3, 4], "categorical")
    loss = estimator(3).loss(network, PriorProposal(network), torch.zeros(4, 2), torch.arange(4))
    assert loss > 0


def test_a_loss_that_is_not_finite_is_an_error_of_the_data_or_a_warning():
    shift = torch.tensor(0.0, requires_grad=True)

    def model(y, note=None):
        with pyro.plate("data", 2):
            h = pyro.sample("h", dist.Bernoulli(torch.tensor(0.5)))
            loc = h + shift + y
            pyro.sample("y", dist.Normal(loc, 1.0, validate_args=False), obs=Y)

    estimator, guide, bad = G4(2, max_plate_nesting=1), PriorProposal(model), Y * math.nan
    for method in (estimator.loss, estimator.loss_and_grads):
        assert math.isfinite(method(model, guide, Y, bad))  # which the model does not use
        with pytest.raises(ValueError, match="argument 1 of the model holds NaN"):
            method(model, guide, bad)
    with torch.no_grad():
        shift.fill_(math.nan)
    for method in (estimator.loss, estimator.loss_and_grads):
        with pytest.warns(UserWarning, match="Encountered NaN: loss"):
            assert math.isnan(method(model, guide, Y))


def test_a_parameter_after_the_sites_may_be_another_models_too():
    def make():
        weight = torch.nn.Parameter(torch.tensor(0.5))

        def model(y):
            with pyro.plate("data", 2):
                h = pyro.sample("h", dist.Bernoulli(torch.tensor(0.5)))
                pyro.sample("y", dist.Normal(h * pyro.param("weight", weight), 1.0), obs=y)

        return model, PriorProposal(model)

    G4(2, max_plate_nesting=1).loss_and_grads(*make(), Y)
    with pytest.raises(ValueError, match="'weight' in Pyro's global store belongs to another"):
        G4(2, max_plate_nesting=1).loss_and_grads(*make(), Y)


def test_parameter_of_another_model():
    first, second = SFNN([2, 3, 2]), SFNN([2, 3, 2])
    x, y = torch.zeros(1, 2), torch.zeros(1, 2)
    G4(2).loss_and_grads(first, PriorProposal(first), x, y)
    estimator = G4(2)
    assert estimator.loss(second, PriorProposal(second), x, y) > 0  # which trains nothing
    with pytest.raises(ValueError, match="belongs to another model"):
        estimator.loss_and_grads(second, PriorProposal(second), x, y)
    with pyro.settings.context(module_local_params=True):
        third = SFNN([2, 3, 2])
        assert G4(2).loss_and_grads(third, PriorProposal(third), x, y) > 0
    pyro.clear_param_store()
    guides = [RecognitionNetwork(first) for _ in range(2)]
    VIMCO(2).loss_and_grads(first, guides[0], x, y)
    with pytest.raises(ValueError, match="belongs to another model"):
        VIMCO(2).loss_and_grads(first, guides[1], x, y)
