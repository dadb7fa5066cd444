"""Every case of tests/distributed/particles.py on hosts: gradients to a file, by rank 0 alone.

torchrun ... -m tests.hosts.gradients FILE
"""

import sys

import torch

from sfnn_pyro.distributed import joined
from tests.distributed.particles import every_case


def main(path: str) -> None:
    torch.set_default_dtype(torch.float64)
    with joined() as group:
        found = every_case()
        if group.is_first:
            torch.save(found, path)


if __name__ == "__main__":
    main(sys.argv[1])
