"""The matrix products of a step and nothing else: no step on this machine can be faster."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import torch

from benchmarks.network import SIZES


def _product(rows: int, inner: int, columns: int, *, left: str = "n", right: str = "n"):
    a = torch.rand(rows, inner) if left == "n" else torch.rand(inner, rows).t()
    b = torch.rand(inner, columns) if right == "n" else torch.rand(columns, inner).t()
    out = torch.empty(rows, columns)
    return lambda: torch.mm(a, b, out=out)


def _together(products: list[Callable[[], object]]) -> Callable[[], None]:
    def run() -> None:
        for product in products:
            product()

    return run


def make_floor(batch: int, num_particles: int, sizes=SIZES, *, through_h: bool):
    """The products of one step; ``through_h`` adds those that carry gradients back to h.

    The first layer sees the same input in every particle: its product, and that of its
    gradient after a sum over the particles, have ``batch`` rows; all others have
    ``num_particles * batch``.
    """
    rows = batch * num_particles
    products = []
    for depth, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        n_rows = rows if depth else batch
        products.append(_product(n_rows, n_in, n_out))  # a = h W
        products.append(_product(n_in, n_rows, n_out, left="t"))  # dW = h' da
        if depth and through_h:
            products.append(_product(n_rows, n_out, n_in, right="t"))  # dh = da W'
    return _together(products)


def make_floor_g3(batch: int, num_particles: int, sizes=SIZES):
    return make_floor(batch, num_particles, sizes, through_h=True)


def make_floor_g5(batch: int, num_particles: int, sizes=SIZES):
    return make_floor(batch, num_particles, sizes, through_h=False)


def make_floor_evaluation(images: int, num_particles: int, sizes=SIZES, *, rows: int = 4000):
    """The forward products for ``images`` x ``num_particles``, ``rows`` at a time."""
    first = _product(images, sizes[0], sizes[1])
    chunk = _together([_product(rows, n, m) for n, m in itertools.pairwise(sizes)])
    chunks = -(-images * num_particles // rows)

    def run() -> None:
        first()
        for _ in range(chunks):
            chunk()

    return run
