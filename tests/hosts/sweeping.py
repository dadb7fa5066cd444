"""A sweep on a cluster: python -m tests.hosts.sweeping FOLDER [ENGINE [GRID]]."""

import sys
from pathlib import Path

from sfnn_pyro.experiments.grid import Grid, Row, Run
from sfnn_pyro.experiments.on_ray import Cluster
from sfnn_pyro.experiments.sweep import sweep

RUN = Run("digits", hidden=(20,), epochs=60, test_particles=5)
ROWS = tuple(
    Row(f"M = {count}", Run(**{**RUN.changes(), "particles": count}), (0.1,), 1)
    for count in (1, 2, 3, 4)
)
GRID = Grid("g", "t", "negative_log_likelihood", "nats", ROWS)
NAMES = {row.at(0.1, 0).name for row in ROWS}
ON_FACES = Row("faces", Run("tfd", hidden=(5,), epochs=1, test_particles=2), (0.001,), 1)
FACES = Grid("f", "t", "negative_log_likelihood", "nats", (ON_FACES,))
LONG_ROW = Row("long", Run(**{**RUN.changes(), "epochs": 100_000}), (0.1,), 1)
LONG = Grid("l", "t", "negative_log_likelihood", "nats", (LONG_ROW,))
"""Lasts longer than any test."""

GRIDS = {"digits": GRID, "faces": FACES, "long": LONG}


def main(folder: str, engine: str = "ray", grid: str = "digits") -> None:
    cluster = Cluster("auto") if engine == "ray" else None
    sweep([GRIDS[grid]], Path(folder), cluster=cluster)


if __name__ == "__main__":
    main(*sys.argv[1:])
