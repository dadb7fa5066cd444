"""The plugin that runs Pyro's own tests, without a checkout of Pyro."""

import pyro.infer
import pytest
import torch
from pyro import distributions as dist

from sfnn_pyro import estimators
from tests.compatibility import replacements
from tests.compatibility.__main__ import reason
from tests.compatibility.plugin import adopt, one_line


@pytest.fixture
def replaced():
    replacements.replace()
    yield
    replacements.restore()
    replacements.USAGE.vectorised = None


@pytest.mark.usefixtures("replaced")
def test_ours_stand_in_the_place_of_pyros():
    from pyro.infer import RenyiELBO, ReweightedWakeSleep, Trace_ELBO, TraceGraph_ELBO

    assert isinstance(Trace_ELBO(), estimators.RLOO)
    assert isinstance(TraceGraph_ELBO(), estimators.RLOO)
    assert Trace_ELBO is not TraceGraph_ELBO
    assert isinstance(RenyiELBO(), estimators.VIMCO)
    assert type(RenyiELBO(alpha=0.5)) is replacements.PYROS["RenyiELBO"]
    assert isinstance(ReweightedWakeSleep(), estimators.ReweightedWakeSleep)


def test_pyros_own_classes_come_back():
    replacements.replace()
    replacements.restore()
    for name, kind in replacements.PYROS.items():
        assert getattr(pyro.infer, name) is kind


def test_arguments_of_pyros_constructors_are_adapted():
    assert not replacements.Trace_ELBO().vectorize_particles
    loss = replacements.Trace_ELBO(
        max_plate_nesting=2,
        vectorize_particles=True,
        strict_enumeration_warning=False,
        ignore_jit_warnings=True,
        retain_graph=True,
    )
    assert loss.num_particles == 2  # a particle alone has no baseline
    assert loss.max_plate_nesting == 2
    assert loss.vectorize_particles
    assert loss.retain_graph
    assert not replacements.TraceGraph_ELBO().vectorize_particles  # Pyro's default
    assert replacements.TraceGraph_ELBO(max_iarange_nesting=1).max_plate_nesting == 1
    assert replacements.RenyiELBO(num_particles=7).num_particles == 7
    assert replacements.ReweightedWakeSleep(insomnia=0.5, model_has_params=False).insomnia == 0.5


def test_how_particles_run_can_be_chosen_for_all():
    replacements.USAGE.vectorised = True
    assert replacements.Trace_ELBO().vectorize_particles
    replacements.USAGE.vectorised = None


@pytest.mark.usefixtures("replaced")
def test_a_step_with_a_stand_in_is_noted():
    def model():
        with pyro.plate("data", 3):
            h = pyro.sample("h", dist.Bernoulli(0.5))
            pyro.sample("y", dist.Normal(h, 1.0), obs=torch.zeros(3))

    def guide():
        q = pyro.param("q", torch.zeros(3))
        with pyro.plate("data", 3):
            pyro.sample("h", dist.Bernoulli(logits=q))

    loss = pyro.infer.Trace_ELBO(num_particles=20)
    replacements.USAGE.reset()
    svi = pyro.infer.SVI(model, guide, pyro.optim.SGD({"lr": 0.1}), loss)
    svi.step()
    assert replacements.USAGE.used
    assert pyro.param("q").abs().sum() > 0


def test_a_folder_that_is_no_checkout_is_refused(tmp_path):
    with pytest.raises(pytest.UsageError, match=r"no tests/common\.py"):
        adopt(tmp_path)


def test_errors_become_one_line_and_are_grouped():
    with pytest.raises(ValueError, match="site") as caught:
        raise ValueError("\nsite 'h12' is 3.5 wide\nand more")
    assert one_line(caught) == "ValueError: site 'h12' is 3.5 wide"
    assert reason(one_line(caught)) == "ValueError: site '...' is # wide"
