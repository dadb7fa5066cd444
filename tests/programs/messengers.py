"""Handlers that choose the particles of a run, or read them off."""

from typing import Any

import torch
from pyro import poutine
from torch import Tensor

from sfnn_pyro.distributions.wrapped import base_of


class Force(poutine.messenger.Messenger):
    """Gives the latent sites that are drawn under it chosen values, particle after particle.

    A draw of c particles takes the next c rows of ``values``, from the first again after the last
    (the second pass of a divided run), or with ``once`` never again. A straight-through sample
    keeps its path. Subsampled plates see ``indices``. Values that another handler has set are left
    alone.
    """

    def __init__(
        self,
        values: dict[str, Tensor],
        indices: dict[str, Tensor],
        nesting: int,
        particles: int,
        *,
        once: bool = False,
    ) -> None:
        super().__init__()
        self.values, self.indices, self.once = values, indices, once
        self.nesting, self.particles = nesting, particles
        self.drawn = dict.fromkeys(values, 0)
        self.pending: set[str] = set()

    def _pyro_sample(self, msg: Any) -> None:
        name = msg["name"]
        if name in self.indices and not msg["done"]:
            if msg["value"] is None:
                msg["value"], msg["done"] = self.indices[name], True
        elif name in self.values and msg["value"] is None and not msg["is_observed"]:
            self.pending.add(name)

    def _pyro_post_sample(self, msg: Any) -> None:
        name = msg["name"]
        if name not in self.pending:
            return
        self.pending.discard(name)
        if self.once and self.drawn[name] >= self.particles:
            return
        batch, drawn = msg["fn"].batch_shape, msg["value"]
        under_plate = len(batch) > self.nesting
        count = batch[-self.nesting - 1] if under_plate else 1
        start = self.drawn[name] % self.particles
        rows = self.values[name][start : start + count]
        self.drawn[name] += count
        if not under_plate:
            rows = rows[0]
        missing = rows.dim() - drawn.dim()
        if missing > 0:  # plates that the site is in none of
            rows = rows.reshape(rows.shape[missing:])
        rows = rows.to(drawn.dtype).expand(drawn.shape)
        if hasattr(base_of(msg["fn"]), "attached"):  # a path of its own for every value
            msg["value"] = base_of(msg["fn"]).attached(rows)
            return
        msg["value"] = rows + (drawn - drawn.detach()) if drawn.requires_grad else rows.clone()


class Record(poutine.messenger.Messenger):
    """Keeps the first M particles of every latent site, and the minibatch, as they were drawn."""

    def __init__(self, names: set[str], plates: set[str], nesting: int, particles: int) -> None:
        super().__init__()
        self.names, self.plates = names, plates
        self.nesting, self.particles = nesting, particles
        self.rows: dict[str, list[Tensor]] = {name: [] for name in names}
        self.indices: dict[str, Tensor] = {}
        self.pending: set[str] = set()

    def _pyro_sample(self, msg: Any) -> None:
        if msg["name"] in self.names and msg["value"] is None and not msg["is_observed"]:
            self.pending.add(msg["name"])

    def _pyro_post_sample(self, msg: Any) -> None:
        name = msg["name"]
        if name in self.plates:
            self.indices.setdefault(name, msg["value"].clone())
        if name not in self.pending:
            return
        self.pending.discard(name)
        value = msg["value"].detach().double()
        event = value.dim() - len(msg["fn"].batch_shape)
        if len(msg["fn"].batch_shape) <= self.nesting:
            value = value.unsqueeze(0)
        lacking = self.nesting + 1 + event - value.dim()
        value = value.reshape(value.shape[:1] + (1,) * lacking + value.shape[1:])
        self.rows[name] += list(value)

    def values(self) -> dict[str, Tensor]:
        """``(M, *batch, *event)``."""
        return {name: torch.stack(rows[: self.particles]) for name, rows in self.rows.items()}
