"""Tiny stand-ins for the paper's data, and the least of runs."""

import itertools
import os
import signal
from dataclasses import replace

import torch

from sfnn_pyro.data import Dataset, Split
from sfnn_pyro.data.images import fresh_halves
from sfnn_pyro.experiments import problems, vae_problems
from sfnn_pyro.experiments.grid import Grid, Row

LIKELIHOODS = {
    "mnist": "bernoulli",
    "mnist-classification": "categorical",
    "olivetti": "gaussian",
    "tfd": "gaussian",
}


def tiny_data(name, split_seed=0):
    """Sixteen, eight and eight datapoints of 28 values, made from the seed."""
    generator = torch.Generator().manual_seed(split_seed)
    labels = name == "mnist-classification"

    def split(size):
        x, y = torch.rand(2, size, 28, generator=generator).round()
        return Split(x, torch.arange(size) % 10 if labels else y)

    shapes = ((2, 14), None if labels else (2, 14))
    parts = [split(size) for size in (16, 8, 8)]
    fresh = fresh_halves(tiny_grey()) if name == "mnist" else None
    provenance = {"split_seed": split_seed}
    return Dataset(name, *parts, LIKELIHOODS[name], *shapes, provenance, fresh=fresh)


def tiny_grey():
    return torch.arange(16 * 56).reshape(16, 4, 14).remainder(255).to(torch.uint8)


def tiny_images(name):
    """Sixteen, eight and eight grey images of 12 pixels."""
    generator = torch.Generator().manual_seed(0)
    parts = [
        Split(torch.zeros(size, 0), torch.rand(size, 12, generator=generator))
        for size in (16, 8, 8)
    ]
    return Dataset(name, *parts, "bernoulli", None, (3, 4), {"source": "made up"})


def use_tiny_data(monkeypatch):
    monkeypatch.setattr(
        problems,
        "load_dataset",
        lambda name, split_seed=0: tiny_data(name, split_seed),
    )
    monkeypatch.setattr(vae_problems, "load_images", tiny_images)


def stop_at(number):
    """What is called with a run's progress, and the given time sends the process SIGTERM."""
    calls = itertools.count(1)

    def on_progress(done, note):
        if next(calls) == number:
            os.kill(os.getpid(), signal.SIGTERM)

    return on_progress


def tiny(row: Row) -> Row:
    """The row with a training of two steps."""
    run = replace(
        row.run,
        hidden=(4,) * len(row.run.hidden),
        stochastic=2,
        particles=min(row.run.particles, 4),
        kept=min(row.run.kept, 2),
        early_epochs=min(row.run.early_epochs, 1),
        early_particles=min(row.run.early_particles, 4),
        epochs=2,
        batch_size=8 if row.run.data != "coin" else 500,
        train_size=0,
        compile=False,  # which takes half a minute, once for every shape
        test_particles=3,
    )
    return replace(row, run=run, rates=row.rates[:1], seeds=1)


def tiny_grid(grid: Grid) -> Grid:
    return replace(grid, rows=tuple(tiny(row) for row in grid.rows))
