"""A process of ``benchmarks.growth``: a step of B = 100 that all processes divide.

Prints the milliseconds of a step, and of the matrix products of one process's share.
"""

from __future__ import annotations

import json

import torch

from benchmarks.communication import BATCH, PARTICLES, Steps, timed
from benchmarks.floors import make_floor_g3
from sfnn_pyro.distributed import joined


def main() -> None:
    torch.set_num_threads(1)
    with joined() as group:
        steps = Steps(group, BATCH // group.size, PARTICLES, divided=False)
        floor = make_floor_g3(BATCH // group.size, PARTICLES)
        found = {
            "ours_g3": timed(group, steps.together, 15)["median"],
            "floor_g3": timed(group, floor, 15)["median"],
        }
        if group.is_first:
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
