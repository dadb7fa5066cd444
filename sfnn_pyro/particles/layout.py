"""What one datapoint is, read from the plates and scales of a model and its guide."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from pyro.poutine.runtime import _PYRO_STACK
from pyro.poutine.scale_messenger import ScaleMessenger
from torch import Tensor

from sfnn_pyro.particles.plate import is_particle_plate
from sfnn_pyro.particles.terms import SiteTerm, is_drawn, scorable

SCALES = "_sfnn_pyro_scales"
"""Key of a trace's node: the factors of the ``poutine.scale`` handlers around the site."""


def scales_around() -> tuple[Any, ...]:
    """The factors of the ``poutine.scale`` handlers that are active, the outermost first."""
    return tuple(one.scale for one in _PYRO_STACK if isinstance(one, ScaleMessenger))


@dataclass(frozen=True)
class Layout:
    """What the plates and scales of a model and its guide say about its weights.

    A datapoint is an element of the plates that all latent and observed sites share, factors
    included. Of the scales, those that every site carries (the subsampling of the shared plates,
    enclosing ``poutine.scale`` handlers) multiply the objective, outside the logarithm; all
    others are part of the site's log-probability.

    Arguments:
        scale: the factor outside the logarithm.
        sum_dims: batch dimensions that do not belong to a datapoint.
        batch_shape: sizes of the shared plates, 1 at the dimensions that are summed.
        names: of the shared plates, by dimension.
        inner: what remains of every site's scale, by the identity of the site.
        inner_subsampled: names of the subsampled plates that not every site shares, whose factor
            is part of their sites' log-probability.
    """

    scale: Any
    sum_dims: tuple[int, ...]
    batch_shape: tuple[int, ...]
    names: dict[int, str]
    inner: dict[int, Any]
    inner_subsampled: tuple[str, ...] = ()

    @staticmethod
    def of(sites: Iterable[Any], plate_nesting: int) -> "Layout":
        """Reads the layout from the sample sites of all runs of a model and its guide.

        Raises:
            ValueError: a shared plate has another size at another site.
        """
        sites = list(sites)
        frames = [_vectorized(site) for site in sites]
        shared = {
            dim: frame
            for dim, frame in (frames[0].items() if frames else ())
            if all(dim in other and other[dim].name == frame.name for other in frames)
        }
        for dim, frame in shared.items():
            for other in frames:
                if (other[dim].size, _full(other[dim])) != (frame.size, _full(frame)):
                    raise ValueError(
                        f"plate '{frame.name}' has {_size(frame)} at one site and "
                        f"{_size(other[dim])} at another, in model and guide or from particle to "
                        "particle: datapoints need one size and one minibatch"
                    )
        plate_scale = 1.0
        for frame in shared.values():
            plate_scale *= _full(frame) / frame.size
        sum_dims = tuple(dim for dim in range(-plate_nesting, 0) if dim not in shared)
        outer, inner = _split(sites, plate_scale, sum_dims, shared)
        subsampled = {
            frame.name: None
            for own in frames
            for dim, frame in own.items()
            if dim not in shared and _full(frame) != frame.size
        }
        return Layout(
            plate_scale * outer,
            sum_dims,
            tuple(shared[dim].size if dim in shared else 1 for dim in range(-plate_nesting, 0)),
            {dim: frame.name for dim, frame in shared.items()},
            {id(site): scale for site, scale in zip(sites, inner, strict=True)},
            tuple(subsampled),
        )

    def term(self, site: Any) -> SiteTerm:
        """The site as a term of the log-weight."""
        own = {
            frame.dim: frame.name
            for frame in site["cond_indep_stack"]
            if frame.vectorized and self.names.get(frame.dim) != frame.name
            if not is_particle_plate(frame)
        }
        return SiteTerm(
            site["name"],
            site["fn"],
            scorable(site),
            self.inner[id(site)],
            site["mask"],
            self.sum_dims,
            is_drawn(site),
            own,
            len(self.batch_shape) + any(map(is_particle_plate, site["cond_indep_stack"])),
        )


def _vectorized(site: Any) -> dict[int, Any]:
    return {
        frame.dim: frame
        for frame in site["cond_indep_stack"]
        if frame.vectorized and not is_particle_plate(frame)
    }


def _full(frame: Any) -> int:
    return frame.size if frame.full_size is None else frame.full_size


def _size(frame: Any) -> str:
    return f"size {frame.size}" + ("" if _full(frame) == frame.size else f" of {_full(frame)}")


def _of_plates(site: Any, shared: dict[int, Any]) -> list[tuple[str, float]]:
    """Names and factors of a site's subsampled plates that are no plates of datapoints."""
    return [
        (frame.name, _full(frame) / frame.size)
        for frame in site["cond_indep_stack"]
        if not is_particle_plate(frame) and _full(frame) != frame.size
        if frame.dim not in shared or shared[frame.dim].name != frame.name
    ]


def _split(
    sites: Sequence[Any],
    plate_scale: float,
    sum_dims: tuple[int, ...],
    shared: dict[int, Any],
) -> tuple[Any, list[Any]]:
    """The factor that all sites have in common, and the rest of each.

    Two plates are two factors, whatever their sizes.
    """
    rests = [site["scale"] / plate_scale for site in sites]
    if not rests:
        return 1.0, []
    of_plates = [_of_plates(site, shared) for site in sites]
    alike = all(_same(rests[0], other) for other in rests) and _fits(rests[0], sum_dims)
    if alike and not any(of_plates):
        return rests[0], [1.0] * len(sites)
    outer: Any = 1.0
    chains: list[list[tuple[str | None, Any]]] = [
        [*((None, scale) for scale in site.get(SCALES, ())), *plates]
        for site, plates in zip(sites, of_plates, strict=True)
    ]
    for name, factor in list(chains[0]):
        found = [
            next(
                (k for k, (own, one) in enumerate(chain) if own == name and _same(one, factor)),
                None,
            )
            for chain in chains
        ]
        if any(k is None for k in found) or not _fits(factor, sum_dims):
            continue
        outer = outer * factor
        for chain, k in zip(chains, found, strict=True):
            chain.pop(k)  # type: ignore[arg-type]
    if not torch.is_tensor(outer) and outer == 1.0:
        return 1.0, rests
    return outer, [rest / outer for rest in rests]


def _same(a: Any, b: Any) -> bool:
    if a is b:
        return True
    if not (torch.is_tensor(a) or torch.is_tensor(b)):
        return abs(a - b) <= 1e-12 * abs(a)
    a, b = torch.broadcast_tensors(torch.as_tensor(a), torch.as_tensor(b)) if _fit(a, b) else (a, b)
    return (
        torch.is_tensor(a)
        and torch.is_tensor(b)
        and a.shape == b.shape
        and bool((a == b.to(a)).all())
    )


def _fit(a: Any, b: Any) -> bool:
    """Whether one of two scales is a single number, or both have the same shape."""
    shapes = {tuple(torch.as_tensor(one).shape) for one in (a, b)}
    return len(shapes) == 1 or () in shapes


def _fits(scale: Any, sum_dims: tuple[int, ...]) -> bool:
    return not torch.is_tensor(scale) or all(
        scale.dim() < -dim or scale.shape[dim] == 1 for dim in sum_dims
    )


def broadcast_weight(total: Any, num_particles: int, batch_shape: tuple[int, ...]) -> Tensor:
    """A sum of terms as ``(M, *batch)``, also where no particle or no datapoint reaches it."""
    return torch.as_tensor(total).expand(num_particles, *batch_shape)
