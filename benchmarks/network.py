"""The one problem that every rival solves: sizes, a batch, the starting weights."""

from __future__ import annotations

import itertools

import numpy as np

SIZES = (392, 200, 200, 392)
BATCH = 100
PARTICLES = 20
LEARNING_RATE = 1e-4  # the objective is a sum over the batch
MOMENTUM = 0.9

Layers = list[tuple[np.ndarray, np.ndarray]]


def make_batch(size: int = BATCH, sizes=SIZES, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Binary images: noisy copies of ten prototypes that share one layout for x and y.

    Returns:
        ``x`` of shape (size, sizes[0]) and ``y`` of shape (size, sizes[-1]), float32.
    """
    rng = np.random.default_rng(seed)
    kind = rng.integers(10, size=size)
    prototypes = rng.random((10, sizes[0] + sizes[-1])) ** 2
    image = rng.random((size, sizes[0] + sizes[-1])) < prototypes[kind]
    image = image.astype(np.float32)
    return image[:, : sizes[0]].copy(), image[:, sizes[0] :].copy()


def make_layers(sizes=SIZES, seed: int = 0) -> Layers:
    """Starting weights (n_in, n_out) and biases (n_out,), float32."""
    rng = np.random.default_rng(seed)
    return [
        (
            (rng.standard_normal((n_in, n_out)) / np.sqrt(n_in)).astype(np.float32),
            np.zeros(n_out, dtype=np.float32),
        )
        for n_in, n_out in itertools.pairwise(sizes)
    ]
