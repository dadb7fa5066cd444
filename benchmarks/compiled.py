"""The compiled step beside the others, for several numbers of particles in one interleaved run.

python -m benchmarks.compiled --out benchmarks/results/compiled.json
python -m benchmarks.compiled --compile-time --out benchmarks/results/compiled.json

The second adds the seconds of a first step, in a first process (empty cache) and in a later one.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from benchmarks.network import BATCH, SIZES
from benchmarks.options import add_quiet, parser_for
from benchmarks.rivals import build
from benchmarks.timing import interleave, machine, ratio, summary, write_json
from sfnn_pyro.system.allocator import keep_pages

NAMES = [
    *(f"{kind}_{name}" for kind in ("floor", "ours", "compiled", "jax") for name in ("g3", "g5")),
    "compiled_g3_bfloat16",
    "compiled_g5_bfloat16",
    "pyro_renyi",
]

PAIRS = [
    *((f"compiled_{name}", f"jax_{name}") for name in ("g3", "g5")),
    *((f"compiled_{name}", f"floor_{name}") for name in ("g3", "g5")),
    *((f"compiled_{name}_bfloat16", f"compiled_{name}") for name in ("g3", "g5")),
    *((f"ours_{name}", "pyro_renyi") for name in ("g3", "g5")),
    *((f"ours_{name}", f"floor_{name}") for name in ("g3", "g5")),
]
"""Whose time over whose."""

FIRST_STEP = """
import time, torch
start = time.perf_counter()
from benchmarks.ours import make_ours
torch.set_num_threads(2)
step = make_ours(100, 20, estimator="G3", how="compiled")
imported = time.perf_counter()
step()
first = time.perf_counter()
step()
print(imported - start, first - imported, time.perf_counter() - first)
"""


def parse(argv=None) -> argparse.Namespace:
    parser = parser_for(__doc__, rounds=25)
    parser.add_argument(
        "--particles", type=int, nargs="+", default=[1, 20, 100], help="Numbers of particles M."
    )
    parser.add_argument(
        "--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help="Steps to time."
    )
    add_quiet(parser, per_round=2)
    parser.add_argument(
        "--compile-time",
        action="store_true",
        help="Measure the first step of a first and of a later process instead.",
    )
    return parser.parse_args(argv)


def steps(args: argparse.Namespace) -> dict[str, object]:
    keep_pages()
    calls, around = {}, {}
    for count in args.particles:
        made, contexts = build(args.only, BATCH, count)
        calls |= {f"{name} {count}": call for name, call in made.items()}
        around |= {f"{name} {count}": context for name, context in contexts.items()}
    times, others = interleave(
        calls,
        rounds=args.rounds,
        per_round=args.per_round,
        patience=args.patience,
        around=around,
    )
    rows = summary(times)
    ratios: dict[str, dict[str, float]] = {}
    for one, other in PAIRS:
        found = {
            str(count): ratio(times, f"{one} {count}", f"{other} {count}")
            for count in args.particles
            if {f"{one} {count}", f"{other} {count}"} <= set(times)
        }
        ratios[f"{one} / {other}"] = found
    heads = [f"M = {count}" for count in args.particles]
    print(f"{'median ms':42s}", *(f"{head:>9s}" for head in heads))
    for name in args.only:
        cells = (rows.get(f"{name} {count}", {}).get("median") for count in args.particles)
        print(f"{name:42s}", *("" if cell is None else f"{cell:9.2f}" for cell in cells))
    for name, found in ratios.items():
        print(f"{name:42s}", *(f"{value:9.2f}" for value in found.values()))
    print(f"other processes had {statistics.median(others):.0%} in the median round")
    return {
        "machine": machine(args.threads),
        "problem": {"sizes": list(SIZES), "batch": BATCH, "particles": args.particles},
        "rounds": args.rounds,
        "milliseconds": rows,
        "ratios": ratios,
        "others": statistics.median(others),
    }


def compile_times() -> dict[str, float]:
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        environment = dict(os.environ, TORCHINDUCTOR_CACHE_DIR=folder)
        for process in ("first", "later"):
            start = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", FIRST_STEP],
                env=environment,
                capture_output=True,
                text=True,
                check=True,
            )
            imports, first, second = map(float, done.stdout.split())
            found |= {
                f"{process}_process": first,
                f"{process}_process_imports": imports,
                f"{process}_process_second_step": second,
            }
            print(f"{process} process: {first:.1f} s for the first step, {second:.3f} s after it")
            print(f"  {time.perf_counter() - start:.1f} s in all, {imports:.1f} of them imports")
    return found


def main(argv=None) -> None:
    args = parse(argv)
    torch.set_num_threads(args.threads)
    results = {"compile_seconds": compile_times()} if args.compile_time else steps(args)
    if args.out:
        known = json.loads(Path(args.out).read_text()) if Path(args.out).exists() else {}
        write_json(args.out, known | results)


if __name__ == "__main__":
    main()
