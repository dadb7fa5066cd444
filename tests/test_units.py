import pyro.distributions as dist
import torch

from sfnn_pyro.distributions.units import BernoulliUnits


def test_the_lazy_form_is_of_bernoullis_given_by_logits_alone():
    logits = torch.randn(4, 3)
    units = BernoulliUnits.of(dist.Bernoulli(logits=logits).to_event(1))
    assert units.logits is logits and (units.batch_shape, units.event_shape) == ((4,), (3,))
    assert BernoulliUnits.of(dist.Bernoulli(logits=logits)).event_shape == ()
    assert BernoulliUnits.of(dist.Bernoulli(torch.full((3,), 0.5)).to_event(1)) is None
    assert BernoulliUnits.of(dist.Normal(logits, 1.0).to_event(2)) is None
    assert BernoulliUnits.of(dist.Categorical(logits=logits)) is None


def test_moments_and_support_are_those_of_the_law():
    logits = torch.randn(4, 3)
    units = BernoulliUnits(logits, 1).expand([2, 4])
    law = dist.Bernoulli(logits=logits).to_event(1).expand([2, 4])
    assert torch.allclose(units.mean, law.mean) and units.mean.shape == (2, 4, 3)
    assert torch.allclose(units.variance, law.variance)
    values = torch.tensor([[0.0, 1.0, 1.0], [0.0, 0.5, 1.0]])
    assert units.support.check(values).tolist() == [True, False]


def test_probabilities_are_computed_once_and_shared_by_every_expansion():
    units = BernoulliUnits(torch.randn(4, 3, requires_grad=True), 1)
    assert units.probs is units.probs and not units.probs.requires_grad
    assert units.expand([5, 4]).probs is units.probs
