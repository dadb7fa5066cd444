import pytest
import torch

from sfnn_pyro.evaluation.completions import draw_completions, sample_completions
from sfnn_pyro.models import SFNN
from sfnn_pyro.reparam import deterministic


def test_completions_are_samples_of_the_output():
    model = SFNN([6, 5, 4])
    drawn = sample_completions(model, torch.rand(3, 6), 200)
    assert drawn.shape == (200, 3, 4)
    assert set(drawn.unique().tolist()) == {0.0, 1.0}


def test_a_deterministic_network_completes_with_one_distribution():
    """Its output units are independent: their correlation over samples is that of noise."""
    model = SFNN([6, 5, 2])
    with torch.no_grad():
        model.layers[0].weight.mul_(20)
        model.layers[1].weight.fill_(20.0)
        x = torch.rand(1, 6)
        h = torch.sigmoid(x @ model.layers[0].weight.T)
        model.layers[1].bias.fill_(-20 * h.sum())
    drawn = sample_completions(deterministic(model), x, 2000)[:, 0]
    assert set(drawn.unique().tolist()) == {0.0, 1.0}  # drawn, not their means
    centred = drawn - drawn.mean(0)
    # A standard error is at most 0.25 / sqrt(2000): a false alarm is less likely than 1e-20.
    assert (centred[:, 0] * centred[:, 1]).mean().abs() < 0.06


def test_at_least_one_sample():
    with pytest.raises(ValueError, match="num_samples=0: must be at least 1"):
        sample_completions(SFNN([6, 5, 4]), torch.rand(3, 6), 0)


def test_the_figure_shows_original_input_and_samples():
    x, y = torch.ones(3, 8), torch.zeros(3, 8)
    completions = torch.ones(5, 3, 8)
    figure = draw_completions(x, y, completions, x_shape=(2, 4), y_shape=(2, 4), title="digits")
    (axes,) = figure.axes
    (image,) = axes.get_images()
    canvas = torch.as_tensor(image.get_array())
    assert canvas.shape == (3 * 5 - 1, 7 * 5 - 1)
    assert canvas[:4, :4].mean() == 0.5  # the original: x above y
    assert canvas[2:4, 5:9].unique().tolist() == [0.25]  # what the network did not see
    assert canvas[:4, 10:14].mean() == 1.0  # a completion
    assert [text.get_text() for text in axes.texts] == ["original", "input", "completions"]


def test_halves_of_different_widths_are_refused():
    x, y = torch.ones(3, 8), torch.zeros(3, 6)
    with pytest.raises(ValueError, match="x is 4 pixels wide and y 3"):
        draw_completions(x, y, torch.ones(5, 3, 6), x_shape=(2, 4), y_shape=(2, 3))
