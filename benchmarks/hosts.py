"""What a training on two hosts costs at three bandwidths of the cable between them.

python -m benchmarks.hosts

As root: the hosts are namespaces of this machine (tests/hosts/network.py), one core and one
process each, and ``tc`` sets the bandwidth. Measures bytes on the cable and milliseconds of a
step, with the gradients summed after the backward pass and during it, for larger minibatches and
for gradients accumulated over several; and fits latency and bandwidth, from which it projects 8
and 64 hosts.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from benchmarks.communication import NUMBERS, PARTICLES, timed
from benchmarks.network import SIZES, make_batch
from benchmarks.timing import machine, write_json
from sfnn_pyro.distributed import ParticleParallel, joined
from sfnn_pyro.estimators import G3
from sfnn_pyro.guides import PriorProposal
from sfnn_pyro.models import SFNN

RATES = ("100mbit", "1gbit", "10gbit")
ROWS = (50, 100, 400)
"""Of each host."""
ACCUMULATED = 8
MESSAGES = (8, 2**13, 2**16, 2**18, 2**20)
HOSTS = (2, 8, 64)
CARDS = Path("/proc/net/dev")
ONE_BUCKET, SMALL_BUCKETS = 25.0, 0.1  # MiB


class Steps:
    """A step of G3 with all the messages of ``DistributedTrainer``."""

    def __init__(self, group, rows, particles=PARTICLES, *, divided=False, bucket=ONE_BUCKET):
        torch.manual_seed(0)
        model = SFNN(list(SIZES), name=f"network{next(NUMBERS)}")
        estimator = G3(num_particles=particles)
        if divided:
            estimator = ParticleParallel(estimator, group)
        # The first bucket, of the gradients that come first, has a size of its own.
        dist._DEFAULT_FIRST_BUCKET_BYTES = int(2**20 * min(bucket, 1))
        module = estimator(model, PriorProposal(model))
        self.module = DistributedDataParallel(
            module, gradient_as_bucket_view=True, bucket_cap_mb=bucket
        )
        torch.manual_seed(group.rank)
        self.x, self.y = map(torch.from_numpy, make_batch(rows, SIZES))
        self.group = group

    def backward(self):
        loss = self.module(self.x, self.y)
        loss.backward()
        return loss

    def numbers(self, loss):
        self.group.sum([loss.item()])
        self.group.max([0.0, 0.0])
        self.module.zero_grad()

    def during(self):
        """The buckets are summed as they fill."""
        self.numbers(self.backward())

    def after(self):
        with self.module.no_sync():
            loss = self.backward()
        self.group.all_reduce([p.grad for p in self.module.parameters()])
        self.numbers(loss)

    def accumulated(self):
        """Several minibatches to one message."""
        with self.module.no_sync():
            for _ in range(ACCUMULATED - 1):
                self.backward()
        self.numbers(self.backward())

    def alone(self):
        with self.module.no_sync():
            self.backward()
        self.module.zero_grad()


def sent_by(call) -> int:
    """Bytes that this host sends in one call, with all headers."""
    call()
    before = _sent()
    for _ in range(4):
        call()
    return (_sent() - before) // 4


def _sent() -> int:
    (card,) = (line for line in CARDS.read_text().splitlines() if "eth0:" in line)
    return int(card.partition(":")[2].split()[8])


def fitted(sums: dict) -> dict:
    """Latency of a message from the smallest one, bandwidth from the largest one."""
    small, large = (sums[count]["min"] / 1e3 for count in (MESSAGES[0], MESSAGES[-1]))
    return {"latency_seconds": small / 2, "bytes_per_second": MESSAGES[-1] / (large - small)}


def measure(group, rounds) -> dict:
    """All times in milliseconds of the slower host, of rounds which both begin together."""
    found: dict = {"alone": {}, "after": {}, "during": {}, "small_buckets": {}}
    for rows in ROWS:
        name, count = str(rows), max(4, rounds * 50 // rows)
        whole, small = Steps(group, rows), Steps(group, rows, bucket=SMALL_BUCKETS)
        found["alone"][name] = timed(group, whole.alone, count)
        found["after"][name] = timed(group, whole.after, count)
        found["during"][name] = timed(group, whole.during, count)
        found["small_buckets"][name] = timed(group, small.during, count)
    step = Steps(group, 50)
    found["accumulated"] = timed(group, step.accumulated, max(4, rounds // ACCUMULATED), 1)
    particles = Steps(group, 100, divided=True)
    found["particles"] = timed(group, particles.during, rounds)
    found["bytes"] = {"data": sent_by(step.during), "particles": sent_by(particles.during)}
    sums = {}
    for count in MESSAGES:
        tensor = torch.zeros(count // 4)
        sums[count] = timed(group, lambda tensor=tensor: dist.all_reduce(tensor), rounds)
    found["all_reduce"] = sums
    found["link"] = fitted(sums)
    described = small.module._get_ddp_logging_data()
    found["small_buckets"]["sizes"] = described["rebuilt_bucket_sizes"]
    found["parameter_bytes"] = sum(p.nbytes for p in step.module.parameters())
    return found


def projected(found: dict, alone: dict, hosts: int) -> dict:
    """Efficiencies of a ring of hosts, estimated from the fitted link and not measured."""
    latency = 1e3 * found["link"]["latency_seconds"]
    per_byte = 1e3 / found["link"]["bytes_per_second"]
    ring = 2 * (hosts - 1) * latency
    ring += 2 * (hosts - 1) / hosts * found["parameter_bytes"] * per_byte
    ring += 4 * (hosts - 1) * latency  # two small sums
    row: dict = {"hosts": hosts, "messages_ms": ring}
    for rows, step in alone.items():
        row[f"{rows}_rows_each"] = step / (step + ring)
    step = ACCUMULATED * alone["50"]
    row["accumulated"] = step / (step + ring)
    return row


def completed(result: dict) -> dict:
    """Adds the projections. Computing takes the same at every bandwidth: the least is used."""
    rates = result["rates"].values()
    alone = {str(rows): min(found["alone"][str(rows)]["min"] for found in rates) for rows in ROWS}
    for found in rates:
        found["projection"] = [projected(found, alone, hosts) for hosts in HOSTS]
    return {**result, "alone_ms": alone}


def on_a_host(path: str, rounds: int) -> None:
    torch.set_num_threads(1)
    with joined() as group:
        found = measure(group, rounds)
        if group.is_first:
            Path(path).write_text(json.dumps(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20, help="Number of rounds.")
    parser.add_argument(
        "--out", default="benchmarks/results/hosts.json", help="File of the results."
    )
    parser.add_argument("--on-a-host", metavar="FILE", help="Internal: measure on one host.")
    options = parser.parse_args()
    if options.on_a_host:
        on_a_host(options.on_a_host, options.rounds)
        return
    from tests.hosts.elastic import Launch
    from tests.hosts.network import Network, why_not

    if reason := why_not():
        sys.exit(reason)
    result: dict = {"rates": {}, "rounds": options.rounds, "accumulated": ACCUMULATED}
    for rate in RATES:
        with tempfile.TemporaryDirectory() as folder, Network(Path(folder), rate) as network:
            found = Path(folder) / "found.json"
            command = ("benchmarks.hosts", "--on-a-host", found, "--rounds", options.rounds)
            launches = [
                Launch(host, Path(folder), *command) for host in network.switch_on("a", "b")
            ]
            if any([launch.wait() for launch in launches]):
                sys.exit(launches[0].said + launches[1].said)
            measured = json.loads(found.read_text())
        result["rates"][rate] = measured
        print(rate, json.dumps(measured["link"]), flush=True)
    result["machine"] = machine(threads=1)
    write_json(options.out, completed(result))
    print(options.out)


if __name__ == "__main__":
    main()
