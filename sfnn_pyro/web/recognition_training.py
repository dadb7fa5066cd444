"""A recognition network for outputs of which only a part is known."""

import math
from collections.abc import Callable
from pathlib import Path

import pyro
import torch
from pyro import poutine
from torch import Tensor

from sfnn_pyro.guides import RecognitionNetwork
from sfnn_pyro.models import SFNN
from sfnn_pyro.system.sealed_files import is_sealed, read_sealed
from sfnn_pyro.system.weight_files import read_weights, write_weights
from sfnn_pyro.training.stored_state import stored_tensors

FILL = 0.5
"""What the network sees in the place of an unknown entry: neither ink nor its absence."""

RECOGNITION_KIND = "recognition"
FINEST, COARSEST = 1.5, 6.0
"""Sizes of a mask's patches, in pixels."""


def random_mask(y: Tensor, shape: tuple[int, int]) -> Tensor:
    """Which entries of each y are known: patches of any extent, as strokes would leave them.

    Half of the masks show ink alone, which is what a pen can say of an image; the others show
    whatever lies in their patches.

    Arguments:
        y: ``(B, rows * columns)``.
        shape: rows and columns of y as an image.

    Returns:
        Booleans, ``(B, rows * columns)``.

    Example:
        >>> import torch
        >>> random_mask(torch.ones(5, 24), (4, 6)).shape
        torch.Size([5, 24])
    """
    rows = len(y)
    patch = FINEST + (COARSEST - FINEST) * torch.rand(()).item()
    grid = [max(2, math.ceil(side / patch)) for side in shape]
    noise = torch.nn.functional.interpolate(
        torch.rand(rows, 1, *grid), size=shape, mode="bilinear", align_corners=True
    ).reshape(rows, -1)
    extent = torch.rand(rows, 1)  # quantile of the noise below which an entry is known
    known = noise.argsort(-1).argsort(-1) < extent**2 * (y.shape[1] + 1)
    return known & ((y > FILL) | (torch.rand(rows, 1) < 0.5))


@torch.no_grad()
def start_from_prior(model: SFNN) -> RecognitionNetwork:
    """A recognition network without an encoder that equals the model's prior whatever y is.

    Example:
        >>> guide = start_from_prior(SFNN([4, 3, 2]))
        >>> guide.from_context[0].weight[:, 4:].abs().max().item()
        0.0
    """
    guide = RecognitionNetwork(model, width=0).to(next(model.parameters()))
    state = guide.state_dict()  # shares the parameters' memory
    for name, value in state.items():
        if name.startswith("from_context"):
            value.zero_()
    for number, layer in enumerate(model.layers[:-1]):
        state[f"from_context.{number}.bias"].copy_(layer.bias)
        if number:
            state[f"from_below.{number - 1}.weight"].copy_(layer.weight)
        else:
            state["from_context.0.weight"][:, : model.sizes[0]].copy_(layer.weight)
    return guide


def train_recognition(
    model: SFNN,
    x: Tensor,
    y_shape: tuple[int, int],
    *,
    epochs: int = 10,
    batch_size: int = 100,
    learning_rate: float = 3e-3,
    seed: int = 0,
    on_step: Callable[[float], None] | None = None,
) -> RecognitionNetwork:
    r"""Trains a recognition network of a fixed model on what the model itself imagines.

    .. math::
        \max_R \; E_{P(h, y | x)} \, E_{k} \log R(h | y_k, x)

    The sleep phase of wake-sleep, with a random part k of y known; its optimum is the posterior
    of h given any such part. It starts as the prior, so that it proposes no worse than that.

    References:
        Hinton, Dayan, Frey, Neal, *The Wake-Sleep Algorithm for Unsupervised Neural Networks*,
        Science 1995; Bornschein & Bengio, *Reweighted Wake-Sleep*, ICLR 2015, arXiv 1406.2751.

    Arguments:
        model: the network, which is not changed.
        x: ``(N, dx)``, inputs to imagine outputs for.
        y_shape: rows and columns of y as an image.
        epochs: passes over x.
        batch_size: datapoints in a minibatch.
        learning_rate: Adam's first; it falls linearly to zero.
        seed: of masks, order and particles.
        on_step: called after every step with the part that is done.

    Returns:
        The trained network, whose unknown entries are ``FILL``.

    Raises:
        ValueError: ``epochs`` is below 1.

    Example:
        >>> import torch
        >>> guide = train_recognition(SFNN([4, 3, 2]), torch.rand(20, 4).round(), (1, 2), epochs=1)
        >>> len(guide.from_context)
        1
    """
    if epochs < 1:
        raise ValueError(f"epochs={epochs}: a recognition network needs at least 1 to be trained")
    total = epochs * math.ceil(len(x) / batch_size)
    with torch.random.fork_rng(), pyro.get_param_store().scope():
        guide = start_from_prior(model)
        torch.manual_seed(seed)
        optimizer = torch.optim.Adam(guide.parameters(), learning_rate)
        step = 0
        for _ in range(epochs):
            for rows in torch.randperm(len(x)).split(batch_size):
                optimizer.param_groups[0]["lr"] = learning_rate * (1 - step / total)
                loss = _sleep_loss(model, guide, x[rows], y_shape)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                step += 1
                if on_step is not None:
                    on_step(step / total)
    return guide


def save_recognition(guide: RecognitionNetwork, path: Path) -> None:
    """Writes a recognition network that ``load_recognition`` reads."""
    write_weights(path, RECOGNITION_KIND, guide.state_dict(), {})


def load_recognition(model: SFNN, path: Path) -> RecognitionNetwork:
    """The recognition network beside a run's model.

    Arguments:
        model: the network of the run.
        path: the file, of the present format or the first.

    Raises:
        ValueError: the file is another, was altered, or belongs to a network of other sizes.
    """
    if is_sealed(path):
        state = read_sealed(path, RECOGNITION_KIND).get("state")
    else:
        state = read_weights(path, RECOGNITION_KIND)[0]
    guide = RecognitionNetwork(model, width=0).to(next(model.parameters()))
    try:
        guide.load_state_dict(stored_tensors("state", state, guide.state_dict()))
    except ValueError as error:
        raise ValueError(
            f"{path} belongs to another network than the one beside it ({error}): remove it, and "
            "train it again with --recognition-epochs"
        ) from error
    return guide


def _sleep_loss(
    model: SFNN, guide: RecognitionNetwork, x: Tensor, y_shape: tuple[int, int]
) -> Tensor:
    """Mean over the minibatch of -log R(h | y_k, x), in nats."""
    with torch.no_grad():
        dream = poutine.trace(model).get_trace(x)
    y = dream.nodes["y"]["value"]
    seen = torch.where(random_mask(y, y_shape), y, torch.full_like(y, FILL))
    hidden = {f"h{n}": dream.nodes[f"h{n}"]["value"] for n in range(1, len(model.sizes) - 1)}
    trace = poutine.trace(poutine.condition(guide, hidden)).get_trace(x, seen)
    return -trace.log_prob_sum() / len(x)
