"""What the ranks of a training send to each other: bytes and milliseconds for every step.

torchrun --standalone --nproc-per-node 2 -m benchmarks.communication

Measures data- and particle-parallel steps with and without communication, and single messages by
size, from which latency and bandwidth are fitted. With them it projects 8 and 64 devices.
"""

from __future__ import annotations

import argparse
import itertools
import math
import statistics
import time
from contextlib import nullcontext

import numpy as np
import torch
import torch.distributed as dist
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook
from torch.nn.parallel import DistributedDataParallel

from benchmarks.network import SIZES, make_batch
from benchmarks.timing import machine, write_json
from sfnn_pyro.distributed import ParticleParallel, joined
from sfnn_pyro.estimators import G3
from sfnn_pyro.guides import PriorProposal
from sfnn_pyro.models import SFNN

BATCH, PARTICLES = 100, 20
MESSAGES = [8, 2**10, 2**13, 2**16, 2**18, 2**20, 2**22]
DEVICES = (2, 8, 64)
NUMBERS = itertools.count()


def timed(group, call, rounds, per_round=2):
    """Milliseconds per call in every round, of the slowest rank; all ranks begin together."""
    found = []
    for _ in range(rounds):
        group.sum([0.0])
        start = time.perf_counter()
        for _ in range(per_round):
            call()
        found.append(1e3 * (time.perf_counter() - start) / per_round)
    slowest = [group.max([value])[0] for value in found[1:]]
    return {"median": statistics.median(slowest), "min": min(slowest)}


class Steps:
    """A step of G3 on some of the rows with some of the particles, by itself or with the others."""

    def __init__(self, group, rows, particles, *, divided):
        torch.manual_seed(0)
        model = SFNN(list(SIZES), name=f"network{next(NUMBERS)}")
        self.estimator = G3(num_particles=particles)
        if divided:
            self.estimator = ParticleParallel(G3(num_particles=particles * group.size), group)
        self.bytes = 0
        self.module = self.estimator(model, PriorProposal(model))
        if not group.is_alone:
            self.module = DistributedDataParallel(self.module, gradient_as_bucket_view=True)
            self.module.register_comm_hook(None, self.counted)
        torch.manual_seed(group.rank)
        self.x, self.y = map(torch.from_numpy, make_batch(max(rows, 1), SIZES))
        self.group = group

    def counted(self, state, bucket):
        self.bytes += bucket.buffer().nbytes
        return allreduce_hook(state, bucket)

    def together(self):
        """As ``DistributedTrainer``: sends gradients, the objective, whether to stop or save."""
        self.bytes = 0
        loss = self.module(self.x, self.y)
        loss.backward()
        self.group.sum([loss.item()])
        self.group.max([0.0, 0.0])
        self.module.zero_grad()

    def apart(self):
        quiet = nullcontext() if self.group.is_alone else self.module.no_sync()
        with quiet:
            self.module(self.x, self.y).backward()
        self.module.zero_grad()


def link(times, size):
    """Seconds of latency and seconds per byte of a ring of ``size``, by least squares."""
    rounds = [2 * (size - 1)] * len(times)
    moved = [2 * (size - 1) / size * count for count in times]
    seconds = np.array([1e-3 * times[count]["min"] for count in times])
    # Relative errors, so that small messages count as much as large ones.
    design = np.array([rounds, moved]).T / seconds[:, None]
    latency, per_byte = np.linalg.lstsq(design, np.ones(len(times)), rcond=None)[0]
    return {"latency_seconds": float(latency), "bytes_per_second": float(1 / per_byte)}


def projected(measured, devices):
    """Estimated milliseconds of a ring's messages in each step."""
    latency = 1e3 * measured["link"]["latency_seconds"]
    per_byte = 1e3 / measured["link"]["bytes_per_second"]
    gradient = measured["data"]["gradient_bytes"]
    weights = measured["particles"]["log_weight_bytes"]  # of each device
    ring = 2 * (devices - 1) * latency + 2 * (devices - 1) / devices * gradient * per_byte
    numbers = 2 * 2 * math.ceil(math.log2(devices)) * latency  # two small sums, by trees
    gathered = (devices - 1) * (latency + weights * per_byte)
    step = measured["compute"]
    share = step[str(max(1, BATCH // devices))]["min"]
    one = step[str(BATCH)]["min"]
    return {
        "devices": devices,
        "data_message_ms": ring + numbers,
        "particle_message_ms": ring + numbers + gathered,
        "minibatch_100_step_ms": share + ring + numbers,
        "minibatch_100_speedup": one / (share + ring + numbers),
        "100_each_efficiency": one / (one + ring + numbers),
        "20_particles_each_efficiency": one / (one + ring + numbers + gathered),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=40, help="Number of rounds.")
    parser.add_argument(
        "--out", default="benchmarks/results/communication.json", help="File of the results."
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    with joined() as group:
        data = Steps(group, BATCH // group.size, PARTICLES, divided=False)
        particles = Steps(group, BATCH, PARTICLES // group.size, divided=True)
        measured: dict = {
            "ranks": group.size,
            "backend": dist.get_backend(),
            "rounds": options.rounds,
        }
        for name, steps in (("data", data), ("particles", particles)):
            apart = timed(group, steps.apart, options.rounds)
            together = timed(group, steps.together, options.rounds)
            measured[name] = {
                "gradient_bytes": steps.bytes,
                "number_bytes": 3 * 8,
                "with_messages_ms": together,
                "gradients_apart_ms": apart,
            }
        measured["particles"]["log_weight_bytes"] = 4 * BATCH * PARTICLES // group.size
        sums = {}
        for count in MESSAGES:
            tensor = torch.zeros(count // 4)
            sums[count] = timed(
                group, lambda tensor=tensor: dist.all_reduce(tensor), options.rounds
            )
        measured["all_reduce_ms"] = sums
        measured["link"] = link(sums, group.size)
        gradient = torch.zeros(data.bytes // 4)
        measured["gradient_all_reduce_ms"] = timed(
            group, lambda: dist.all_reduce(gradient), options.rounds
        )
        weights = torch.zeros(PARTICLES // group.size, BATCH)
        measured["log_weight_all_gather_ms"] = timed(
            group, lambda: group.all_gather(weights), options.rounds
        )
        measured["two_number_sums_ms"] = timed(
            group, lambda: (group.sum([0.0]), group.max([0.0, 0.0])), options.rounds
        )
        measured["compute"] = {
            str(rows): timed(
                group, Steps(group, rows, PARTICLES, divided=False).apart, options.rounds
            )
            for rows in sorted({BATCH, *(max(1, BATCH // devices) for devices in DEVICES)})
        }
        measured["projection"] = [projected(measured, devices) for devices in DEVICES]
        measured["machine"] = machine(threads=1)
        if group.is_first:
            write_json(options.out, measured)
            print(options.out)


if __name__ == "__main__":
    main()
