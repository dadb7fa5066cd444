"""Which experiments there are, and which grids of runs each needs."""

from collections.abc import Sequence

from sfnn_pyro.experiments.grid import Grid, GridError, grid_names, load_grid

EXPERIMENTS: dict[str, tuple[str, ...]] = {
    "theorem1": ("theorem1",),
    "table1": ("table1",),
    "faces": ("faces",),
    "table2": ("table2",),
    "figure1": ("figure1",),
    "figure2": ("figure2",),
    "initialisation": ("initialisation",),
    "hidden-rates": ("hidden-rates",),
    "beyond": ("beyond",),
    "tfd": ("tfd",),
    "vae": ("vae",),
    "vae-linear": ("vae-linear",),
    "vae-centred": ("vae-centred",),
    "vae-anchor": ("vae-anchor",),
    "vae-others": ("vae-others",),
}
"""The grids of each experiment; figures are drawn from the runs of tables."""

OWN_DATA = ("tfd", "vae-others")
"""Experiments on files that a user has to have fetched, left out of ``all``."""


def choose(names: Sequence[str], quick: bool = False) -> list[Grid]:
    """The grids of the experiments named.

    Raises:
        GridError: no such experiment, or none that is quick.

    Example:
        >>> [grid.name for grid in choose(["table1"], quick=True)]
        ['table1-quick']
    """
    wanted: list[str] = []
    for name in names:
        if name not in (*EXPERIMENTS, "all"):
            raise GridError(f"no experiment {name!r}: choose of {', '.join(EXPERIMENTS)}, all")
        if quick and name != "all" and not _is_quick(name):
            known = ", ".join(one for one in EXPERIMENTS if _is_quick(one))
            raise GridError(
                f"{name} has no --quick version, only {known}: leave --quick out, or choose {known}"
            )
        for one in EXPERIMENTS if name == "all" else [name]:
            if name == one or one not in OWN_DATA:
                wanted += [f"{grid}-quick" if quick else grid for grid in EXPERIMENTS[one]]
    if "all" in names:
        wanted = [name for name in wanted if name in grid_names()]
    return [load_grid(name) for name in dict.fromkeys(wanted)]


def _is_quick(name: str) -> bool:
    return all(f"{grid}-quick" in grid_names() for grid in EXPERIMENTS[name])
