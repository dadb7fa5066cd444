"""Of M particles K are kept, and no expectation changes."""

import itertools

import pytest
import torch

from sfnn_pyro.particles.resampling import resample, taken


def expectation(weight, kept):
    """The exact mean of the kept weights over the uniform number, and every choice made."""
    ordered = weight.sort(descending=True).values
    edges = [0.0, 1.0]
    for heavy in range(kept):
        others = ordered[heavy:].sum()
        if others > 0:
            edges += (ordered[heavy:].cumsum(0) * (kept - heavy) / others % 1).tolist()
    edges.sort()
    mean, choices = torch.zeros_like(weight), []
    for left, right in itertools.pairwise(edges):
        if right - left < 1e-14:  # no number lies between them
            continue
        index, found = resample(weight, kept, weight.new_tensor((left + right) / 2))
        choices.append((index, found))
        mean += (right - left) * torch.zeros_like(weight).scatter_add_(0, index, found)
    return mean, choices


@pytest.mark.parametrize("kept", [1, 2, 3, 4, 5, 6])
@pytest.mark.parametrize("sharpness", [0.0, 0.5, 2.0, 8.0, 30.0])
def test_expected_weight_is_the_particles_own(kept, sharpness):
    weight = torch.softmax(sharpness * torch.randn(7), 0)
    mean, choices = expectation(weight, kept)
    assert torch.allclose(mean, weight, rtol=1e-12, atol=1e-15)
    for index, found in choices:
        assert len(set(index.tolist())) == kept
        assert (found >= weight[index]).all()
        assert found.sum().item() == pytest.approx(1, rel=1e-12)


def test_heavy_particles_keep_their_weight_and_light_ones_share_one():
    weight = torch.tensor([0.02, 0.5, 0.03, 0.4, 0.05])
    for uniform in torch.linspace(0, 0.999, 50):
        index, found = resample(weight, 3, uniform)
        assert index[:2].tolist() == [1, 3]
        assert found.tolist() == pytest.approx([0.5, 0.4, 0.1])


def test_particles_without_weight_are_never_counted():
    weight = torch.tensor([0.0, 0.75, 0.0, 0.25, 0.0])
    index, found = resample(weight, 4, torch.tensor(0.3))
    assert len(set(index.tolist())) == 4
    assert torch.zeros(5).scatter_add_(0, index, found).tolist() == weight.tolist()
    index, found = resample(torch.zeros(5), 2, torch.tensor(0.9))
    assert len(set(index.tolist())) == 2
    assert found.tolist() == [0, 0]


def test_float32_at_the_ends_of_the_uniform_number():
    torch.manual_seed(0)
    weight = torch.softmax(6 * torch.randn(50, 10_000), 0).float()
    for uniform in (0.0, 1 - 2**-24):
        index, found = resample(weight, 5, torch.full((10_000,), uniform).float())
        assert all(len(set(column)) == 5 for column in index.T.tolist())
        assert torch.allclose(found.sum(0), torch.ones(10_000).float(), rtol=0, atol=1e-5)


def test_every_datapoint_has_its_own_choice():
    torch.manual_seed(0)
    weight, uniform = torch.softmax(3 * torch.randn(6, 2, 4), 0), torch.rand(2, 4)
    index, found = resample(weight, 3, uniform)
    for row in range(2):
        for column in range(4):
            alone = resample(weight[:, row, column], 3, uniform[row, column])
            assert torch.equal(index[:, row, column], alone[0])
            assert torch.equal(found[:, row, column], alone[1])


def test_taken_follows_the_index_in_every_plate():
    value = torch.randn(5, 2, 3, 4)  # M, two plates, units
    index = torch.randint(5, (2, 2, 3))
    found = taken(value, index)
    shared = taken(value, index[:, :1])  # one choice for the whole outer plate
    for k in range(2):
        for row in range(2):
            for column in range(3):
                chosen = value[index[k, row, column], row, column]
                assert torch.equal(found[k, row, column], chosen)
                chosen = value[index[k, 0, column], row, column]
                assert torch.equal(shared[k, row, column], chosen)
