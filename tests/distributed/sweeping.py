"""A sweep of three small runs as a process: python -m tests.distributed.sweeping FOLDER ENGINE."""

import sys
from pathlib import Path

from sfnn_pyro.experiments.grid import Grid, Row, Run
from sfnn_pyro.experiments.on_ray import Cluster
from sfnn_pyro.experiments.sweep import sweep

RUN = Run("digits", hidden=(20,), epochs=25, test_particles=5)
ROWS = tuple(
    Row(f"M = {count}", Run(**{**RUN.changes(), "particles": count}), (0.1,), 1)
    for count in (1, 2, 3)
)
GRID = Grid("g", "t", "negative_log_likelihood", "nats", ROWS)
NAMES = {row.at(0.1, 0).name for row in ROWS}


def main(folder, engine):
    cluster = Cluster(workers=2) if engine == "ray" else None
    sweep([GRID], Path(folder), cluster=cluster, workers=2 if engine == "processes" else 1)


if __name__ == "__main__":
    main(*sys.argv[1:])
