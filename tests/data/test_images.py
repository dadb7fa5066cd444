import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sfnn_pyro.data import binarise
from sfnn_pyro.data.images import centred, halves, reduced
from tests.data.helpers import refusal, untimed


def seed(number):
    return torch.Generator().manual_seed(number)


def test_a_pixel_is_sampled_with_its_grey_value_as_expectation():
    draws = 20_000
    grey = torch.arange(0, 256, 5, dtype=torch.uint8)
    expectation = grey.double() / 255
    mean = binarise(grey.expand(draws, -1), seed(0)).double().mean(0)
    deviation = (expectation * (1 - expectation) / draws).sqrt()
    # Of 52 means one is six deviations off with a probability below 1e-6.
    assert ((mean - expectation).abs() <= 6 * deviation).all()


@untimed
@given(st.integers(0, 2**63 - 1))
def test_black_and_white_are_never_changed(number):
    grey = torch.tensor([0, 255], dtype=torch.uint8).expand(100, 2)
    assert torch.equal(
        binarise(grey, seed(number)), torch.tensor([0.0, 1.0]).expand(100, 2).float()
    )


def test_pixels_are_sampled_independently():
    grey = torch.full((4000, 6), 128, dtype=torch.uint8)
    correlation = torch.corrcoef(binarise(grey, seed(0)).double().T)
    assert (correlation - torch.eye(6)).abs().max() < 5 / 4000**0.5


@untimed
@given(st.integers(0, 1000))
def test_probabilities_give_what_grey_values_give(number):
    grey = torch.randint(0, 256, (3, 5), generator=seed(number), dtype=torch.uint8)
    probability = grey.to(torch.float32) / 255
    assert torch.equal(binarise(grey, seed(1)), binarise(probability, seed(1)))
    assert torch.equal(binarise(grey, seed(1)), binarise(probability.double(), seed(1)))


def test_the_argument_is_left_alone_and_the_result_is_float32():
    probability = torch.full((4,), 0.5)
    result = binarise(probability, seed(0))
    assert torch.equal(probability, torch.full((4,), 0.5))
    assert result.dtype == torch.float32


def test_another_epoch_is_another_sample():
    grey = torch.full((100,), 128, dtype=torch.uint8)
    generator = seed(0)
    assert not torch.equal(binarise(grey, generator), binarise(grey, generator))


@pytest.mark.parametrize("wrong", [-0.1, 1.1, float("nan"), float("inf")])
def test_what_is_no_probability_is_refused(wrong):
    with refusal("outside [0, 1]"):
        binarise(torch.tensor([0.5, wrong]))


def test_other_integers_are_refused():
    with refusal("torch.int64"):
        binarise(torch.tensor([3]))


@untimed
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 5))
def test_halves_put_together_are_the_images(count, half_rows, columns):
    images = torch.rand(count, 2 * half_rows, columns, dtype=torch.float32)
    parts = halves(images)
    assert parts.x.shape == parts.y.shape == (count, half_rows * columns)
    assert torch.equal(torch.cat([parts.x, parts.y], 1).reshape(images.shape), images)


def test_an_odd_image_has_no_half():
    with refusal("3 rows"):
        halves(torch.zeros(1, 3, 2))


def test_only_the_training_mean_is_taken_away():
    train, test = torch.rand(7, 2, 3, dtype=torch.float32), torch.rand(4, 2, 3, dtype=torch.float32)
    inputs = centred([train, test])
    assert inputs[0].mean(0).abs().max() < 1e-6
    torch.testing.assert_close(inputs[1] + train.flatten(1).mean(0), test.flatten(1))


@untimed
@given(st.floats(0, 1, width=32))
def test_an_even_image_stays_even(level):
    images = torch.full((2, 8, 8), level, dtype=torch.float32)
    assert torch.equal(reduced(images, (6, 6)), images[:, :6, :6])


def test_fine_stripes_become_grey_and_not_other_stripes():
    stripes = torch.arange(64).remainder(2).to(torch.float32).expand(1, 64, 64)
    inner = reduced(stripes, (24, 24))[:, :, 2:-2]
    assert (inner - 0.5).abs().max() < 0.15


def test_reduction_agrees_with_a_slow_triangle_filter():
    images = torch.rand(1, 64, 64)
    scale = 64 / 48
    centre = (torch.arange(48) + 0.5) * scale
    distance = (torch.arange(64) + 0.5 - centre[:, None]).abs() / scale
    weight = (1 - distance).clamp(min=0)
    weight = weight / weight.sum(1, keepdim=True)  # (48, 64)
    torch.testing.assert_close(reduced(images, (48, 48)), weight @ images @ weight.T)
