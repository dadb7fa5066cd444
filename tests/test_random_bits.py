"""Sixteen bits decide all but one draw in 65,536, and the whole is exactly p."""

import pytest
import torch

from sfnn_pyro.distributions.random_bits import SMALL, draw, from_bits

ALL = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16)


@pytest.mark.parametrize("p", [0.0, 1e-7, 1e-5, 0.25, 0.3, 0.5, 0.7, 0.99999, 1 - 2**-24, 1.0])
def test_every_bit_pattern_once_gives_p(p, monkeypatch):
    """65,535 patterns decide; the last one gives what is missing, read off its threshold."""
    probs = torch.tensor(p, dtype=torch.float32)
    asked = []
    real = torch.rand

    def zero(*size, **options):
        asked.append(1)
        return torch.zeros_like(real(*size, **options))

    monkeypatch.setattr(torch, "rand", zero)  # the undecided draw becomes a one if it can
    most = from_bits(ALL, probs, torch.Size([65536]), torch.float32).double().sum().item()
    monkeypatch.setattr(torch, "rand", lambda *s, **o: torch.ones_like(real(*s, **o)))
    least = from_bits(ALL, probs, torch.Size([65536]), torch.float32).double().sum().item()
    exact = probs.double().item() * 65536
    assert len(asked) == 1
    assert least <= exact <= most <= least + 1
    if p not in (0.0, 1.0):
        left = exact - least
        monkeypatch.setattr(
            torch, "rand", lambda *s, **o: torch.full_like(real(*s, **o), left * (1 - 1e-6))
        )
        below = from_bits(ALL, probs, torch.Size([65536]), torch.float32).double().sum().item()
        assert below == (least + 1 if left > 0 else least)


def test_broadcasts_like_probs():
    p = torch.linspace(0, 1, 5000, dtype=torch.float32).round()
    drawn = draw(p, torch.Size([7, 3, 5000]), torch.float32)
    assert torch.equal(drawn, p.expand(7, 3, 5000))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [3, SMALL // 10])
def test_means_within_six_sigma(dtype, width):
    """False-alarm rate below 1e-6 over all comparisons; the seed is fixed."""
    p = torch.rand(width, dtype=torch.float32)
    count = 40_000 // width + 100
    drawn = draw(p, torch.Size([count, width]), dtype)
    assert drawn.dtype == dtype
    sigma = (p * (1 - p) / count).sqrt() + 1e-9
    assert ((drawn.float().mean(0) - p).abs() < 6 * sigma).all()


def test_same_seed_same_draws():
    p = torch.rand(9, 999, dtype=torch.float32)
    torch.manual_seed(1)
    first = draw(p, p.shape, torch.float32)
    torch.manual_seed(1)
    assert torch.equal(first, draw(p, p.shape, torch.float32))
