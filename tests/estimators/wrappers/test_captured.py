"""The captured step: what it does between captures on any machine, the capture itself on a GPU."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro import poutine
from pyro.infer import SVI
from torch import Tensor

from sfnn_pyro.estimators import ESTIMATORS, G1, G3, G4, G5, VIMCO, Captured, Chunked
from sfnn_pyro.estimators.wrappers import captured
from sfnn_pyro.guides import PriorProposal
from sfnn_pyro.models import SFNN
from sfnn_pyro.optim import JointOptim

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class Recorder:
    """Stands for a CUDA graph: a replay does the work again, into the same results."""

    def __init__(self) -> None:
        self.captures = 0

    def __call__(self, work):
        self.captures += 1
        results = [result.clone() for result in work()]

        def replay() -> None:
            for kept, new in zip(results, work(), strict=True):
                kept.copy_(new)

        return replay, results


@pytest.fixture
def recorder(monkeypatch) -> Recorder:
    fake = Recorder()
    monkeypatch.setattr(captured, "record", fake)
    monkeypatch.setattr(torch.Tensor, "is_cuda", True)
    return fake


def make(seed: int = 0) -> tuple[SFNN, Tensor, Tensor]:
    torch.manual_seed(seed)
    model = SFNN([4, 3, 5], name=f"network{seed}")
    return model, torch.rand(6, 4).round(), torch.rand(6, 5).round()


@pytest.mark.parametrize("name", ["g3", "g4", "g5", "vimco", "rloo", "ovis", "disarm", "gumbel"])
def test_a_replayed_step_is_the_step(recorder: Recorder, name: str) -> None:
    estimator = ESTIMATORS[name](4)
    model, x, y = make()
    guide, elbo = PriorProposal(model), Captured(ESTIMATORS[name](4))
    for step in range(3):  # of which the first captures
        torch.manual_seed(step)
        if step:
            expected = estimator.differentiable_loss(model, guide, x, y)
            wanted = torch.autograd.grad(expected, list(model.parameters()))
            torch.manual_seed(step)
        loss = elbo.loss_and_grads(model, guide, x, y)
        grads = [p.grad.clone() for p in model.parameters()]
        model.zero_grad()
        if step:
            assert loss == pytest.approx(expected.item(), abs=1e-12)
            for found, grad in zip(grads, wanted, strict=True):
                torch.testing.assert_close(found, grad, rtol=0, atol=1e-12)
    assert recorder.captures == 1


def test_svi_trains_and_gradients_add_up(recorder: Recorder) -> None:
    pyro.clear_param_store()
    model, x, y = make()
    before = [p.detach().clone() for p in model.parameters()]
    elbo = Captured(G5(4))
    optim = JointOptim(torch.optim.SGD(model.parameters(), lr=0.1))
    svi = SVI(model, PriorProposal(model), optim, elbo)
    assert all(isinstance(svi.step(x, y), float) for _ in range(3))
    assert all(not torch.equal(p, old) for p, old in zip(model.parameters(), before, strict=True))
    guide, sums = PriorProposal(model), []
    elbo.loss_and_grads(model, guide, x, y)  # which captures
    for calls in (1, 2):
        model.zero_grad()
        for _ in range(calls):
            torch.manual_seed(1)
            elbo.loss_and_grads(model, guide, x, y)
        sums.append(model.layers[0].weight.grad.clone())
    torch.testing.assert_close(sums[1], 2 * sums[0])


def test_another_scale_shape_or_parameter_is_captured_anew(recorder: Recorder) -> None:
    model, x, y = make()
    guide, elbo = PriorProposal(model), Captured(G4(3))

    def captures(x: Tensor, y: Tensor, scale: float = 1.0) -> int:
        before = recorder.captures
        with poutine.scale(scale=scale):
            elbo.loss_and_grads(model, guide, x, y)
        return recorder.captures - before

    assert captures(x, y) == 1
    assert captures(x, y) == 0
    assert captures(x, y, scale=0.5) == 1
    assert captures(x[:2], y[:2]) == 1
    assert captures(x, y, scale=0.5) == 0
    pyro.clear_param_store()  # the network's parameters come back as they were
    assert captures(x, y) == 0

    def own(x: Tensor) -> None:
        p = pyro.param("p", torch.tensor(0.0))
        with pyro.plate("data", len(x)):
            pyro.sample("y", dist.Bernoulli(logits=p), obs=x)

    model, guide = own, PriorProposal(own)
    elbo.loss_and_grads(own, guide, x[:, 0])
    pyro.clear_param_store()  # and this model's is a new one
    before = recorder.captures
    elbo.loss_and_grads(own, guide, x[:, 0])
    assert recorder.captures == before + 1


def test_chunks_are_refused() -> None:
    with pytest.raises(ValueError, match="cannot capture Chunked"):
        Captured(Chunked(VIMCO(6), 3))


def test_a_state_in_python_is_refused(recorder: Recorder) -> None:
    model, x, y = make()
    with pytest.raises(ValueError, match="G1 keeps a state in Python"):
        Captured(G1(3)).loss_and_grads(model, PriorProposal(model), x, y)


def test_a_minibatch_of_its_own_is_refused(recorder: Recorder) -> None:
    def model(x: Tensor) -> None:
        with pyro.plate("data", len(x), subsample_size=2) as rows:
            h = pyro.sample("h", dist.Bernoulli(0.5).expand([2]))
            pyro.sample("y", dist.Bernoulli(0.2 + 0.6 * h), obs=x[rows])

    with pytest.raises(ValueError, match="plate 'data' draws a minibatch of its own"):
        Captured(G4(3)).loss_and_grads(model, PriorProposal(model), torch.ones(5))


def test_tensors_elsewhere_are_refused() -> None:
    model, x, y = make()
    with pytest.raises(ValueError, match="positional tensors on a CUDA device"):
        Captured(G3(3)).loss_and_grads(model, PriorProposal(model), x, y)


@needs_gpu
@pytest.mark.parametrize("estimator", [G3, G4, G5, VIMCO])
def test_a_graph_has_the_gradients_of_the_step(estimator) -> None:
    """From one random state, captured and uncaptured steps draw the same particles."""
    model, x, y = make()
    model, x, y = model.cuda(), x.cuda(), y.cuda()
    guide, elbo = PriorProposal(model), Captured(estimator(50))
    elbo.loss_and_grads(model, guide, x, y)
    found = []
    for one in (elbo, estimator(50)):
        model.zero_grad()
        totals = [0.0, torch.zeros_like(model.layers[0].weight)]
        for seed in range(200):
            torch.cuda.manual_seed(seed)
            model.zero_grad()
            totals[0] += one.loss_and_grads(model, guide, x, y)
            totals[1] += model.layers[0].weight.grad
        found.append(totals)
    assert found[0][0] == pytest.approx(found[1][0], rel=1e-10)
    torch.testing.assert_close(found[0][1], found[1][1], rtol=1e-8, atol=1e-10)
