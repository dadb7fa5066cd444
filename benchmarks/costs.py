"""What a step costs against particles, width and precision, and how long the start takes.

python -m benchmarks.costs --out costs.json
"""

from __future__ import annotations

import subprocess
import sys
import time

import torch

from benchmarks.network import BATCH, PARTICLES, SIZES
from benchmarks.options import parser_for
from benchmarks.ours import make_ours
from benchmarks.timing import interleave, machine, peak_memory, summary, write_json
from sfnn_pyro.system.allocator import keep_pages

CHUNK = 100
REPLICAS = 3, 9
START = """
import time
begin = time.perf_counter()
import sfnn_pyro.estimators, sfnn_pyro.guides, sfnn_pyro.models, sfnn_pyro.training
imported = time.perf_counter()
from benchmarks.ours import make_ours
make_ours(100, 20)()
print(imported - begin, time.perf_counter() - imported)
"""


def contenders() -> dict[str, dict]:
    """Arguments of ``make_ours`` by name."""
    found = {}
    for estimator in ("G3", "G5"):
        for particles in (1, 20, 100, 1_000):
            chunk = CHUNK if particles > CHUNK else None
            found[f"{estimator} M={particles}"] = {
                "num_particles": particles,
                "estimator": estimator,
                "particle_chunk": chunk,
            }
        for width in (600, 2_000):
            found[f"{estimator} width={width}"] = {
                "num_particles": PARTICLES,
                "estimator": estimator,
                "sizes": (SIZES[0], width, width, SIZES[-1]),
            }
        found[f"{estimator} bfloat16"] = {
            "num_particles": PARTICLES,
            "estimator": estimator,
            "bfloat16": True,
        }
    for particles in (20, 50, 100):
        found[f"G3 M={particles}, 5 kept"] = {"num_particles": particles, "kept": 5}
    found["G3 M=50"] = {"num_particles": 50}
    for replicas in REPLICAS:
        for particles in (1, PARTICLES):
            found[f"G3 M={particles} replicas={replicas}"] = {
                "num_particles": particles,
                "replicas": replicas,
            }
    found["G3 B=1 M=1"] = {"num_particles": 1, "batch": 1}
    found["G3 B=1 M=10000"] = {"num_particles": 10_000, "batch": 1, "particle_chunk": 1_000}
    return found


def start_up() -> tuple[float, float]:
    """Seconds to import, and from there to the end of the first step, in a fresh process."""
    printed = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", START], check=True, capture_output=True, text=True
    ).stdout
    imported, stepped = map(float, printed.split())
    return imported, stepped


def memory() -> dict[str, int]:
    """Peak bytes above the imports of the largest numbers of particles."""
    peaks = {}
    for name, batch, particles, chunk in (
        ("B=1 M=100000, chunks of 2000", 1, 100_000, 2_000),
        ("B=100 M=2000, chunks of 20", BATCH, 2_000, 20),
        ("B=100 M=200, chunks of 20", BATCH, 200, 20),
        ("B=100 M=20", BATCH, 20, None),
    ):
        peak = peak_memory(
            "benchmarks.ours", "make_ours", batch, particles, SIZES, particle_chunk=chunk
        )
        peaks[name] = peak["peak"] - peak["imports"]
        print(f"{name}: {peaks[name] / 2**20:.0f} MiB above the imports")
    return peaks


def main() -> None:
    parser = parser_for(__doc__, rounds=3)
    parser.add_argument("--device", default="cpu", help="Device, cpu or cuda.")
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    keep_pages()
    begin = time.perf_counter()
    calls = {
        name: make_ours(options.pop("batch", BATCH), **options, device=args.device)
        for name, options in contenders().items()
    }
    times, others = interleave(calls, rounds=args.rounds, per_round=1, warm_up=1, patience=30)
    for name, row in summary(times).items():
        print(f"{name:20s} {row['median']:10.2f} ms  {row['low']:.2f}-{row['high']:.2f}")
    starts = [start_up() for _ in range(3)]
    imported, stepped = (sorted(values)[1] for values in zip(*starts, strict=True))
    print(f"import {imported:.2f} s, first step {stepped:.2f} s after it")
    results = {
        "machine": machine(args.threads),
        "device": args.device,
        "milliseconds": summary(times),
        "others": others,
        "import_seconds": imported,
        "first_step_seconds": stepped,
        "memory_bytes": memory() if args.device == "cpu" else None,
    }
    if args.device != "cpu":
        results["device_name"] = torch.cuda.get_device_name()
    if args.out:
        write_json(args.out, results)
    print(f"all measurements took {time.perf_counter() - begin:.0f} s")


if __name__ == "__main__":
    main()
