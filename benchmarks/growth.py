"""How the cost of a step grows: with particles, width, depth, datapoints and processes.

python -m benchmarks.growth             # measures what the result lacks, and draws the figure
python -m benchmarks.growth --draw      # draws it alone

392-200-200-392, B = 100, M = 20 but for what an axis changes, G3; Pyro's ``RenyiELBO`` has no
gradient through the hidden units. Many particles are those of one datapoint. Of every point a few
repetitions; killed, it goes on where it was. A step is compiled at some of the points alone, since
each takes half a minute.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch

from benchmarks.growth_figure import draw
from benchmarks.network import BATCH, PARTICLES, SIZES
from benchmarks.rivals import STEPS, build
from benchmarks.timing import machine, peak_memory, write_json
from sfnn_pyro.system.allocator import keep_pages

ROOT = Path(__file__).parent.parent
OUT = ROOT / "benchmarks/results/growth.json"
FIGURE = ROOT / "docs/growth.png"

CONTENDERS = ("floor_g3", "ours_g3", "compiled_g3", "jax_g3", "pyro_renyi")
CHUNKED = "chunked_g3"
CHUNK = 1_000
SECONDS = 0.6
"""Of repetitions of one point, all contenders together; two rounds at least, and at most fifty."""


@dataclass(frozen=True)
class Point:
    """One problem on an axis, which contenders step and whose memory is measured."""

    axis: str
    value: int
    batch: int = BATCH
    particles: int = PARTICLES
    sizes: tuple[int, ...] = SIZES
    compiled: bool = False
    memory: bool = False

    @property
    def contenders(self) -> tuple[str, ...]:
        return tuple(name for name in CONTENDERS if self.compiled or name != "compiled_g3")


def points() -> list[Point]:
    """All points of the four axes that one process measures, the cheapest of each axis first."""
    found = []
    for count in (1, 10, 100, 1_000, 10_000, 100_000):
        ends = count in (1, 1_000, 100_000)
        found.append(
            Point("particles", count, batch=1, particles=count, compiled=ends, memory=ends)
        )
    for width in (50, 100, 200, 500, 1_000, 2_000, 4_000):
        ends = width in (50, 500, 4_000)
        sizes = (SIZES[0], width, width, SIZES[-1])
        found.append(Point("width", width, sizes=sizes, compiled=ends or width == 200, memory=ends))
    for depth in (1, 2, 3, 5, 10):
        sizes = (SIZES[0], *(200,) * depth, SIZES[-1])
        found.append(
            Point(
                "depth", depth, sizes=sizes, compiled=depth in (2, 10), memory=depth in (1, 3, 10)
            )
        )
    for batch in (1, 10, 100, 1_000, 10_000):
        ends = batch in (1, 100, 10_000)
        found.append(Point("datapoints", batch, batch=batch, compiled=ends, memory=ends))
    return found


def measure(point: Point, names: list[str]) -> dict[str, float]:
    """Median milliseconds of a step, by contender; their repetitions take turns."""
    calls, around = build(names, point.batch, point.particles, point.sizes)
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for name, call in calls.items():
        with around.get(name, nullcontext)():
            for _ in range(2):
                call()
    begin, rounds = time.perf_counter(), 0
    while rounds < 2 or (rounds < 50 and time.perf_counter() - begin < SECONDS):
        for name, call in calls.items():
            with around.get(name, nullcontext)():
                start = time.perf_counter()
                call()
                seconds[name].append(time.perf_counter() - start)
        rounds += 1
    return {name: 1e3 * statistics.median(values) for name, values in seconds.items()}


def peak(point: Point, name: str) -> int:
    """Bytes at the peak of two steps in a process of its own, above its imports."""
    options: dict[str, object] = dict(STEPS["ours_g3"].options)
    if name == CHUNKED:
        module, factory = "benchmarks.ours", "make_ours"
        options["particle_chunk"] = CHUNK
    else:
        module, factory = STEPS[name].module, STEPS[name].factory
        options = STEPS[name].options
    found = peak_memory(
        module, factory, point.batch, point.particles, point.sizes, repeat=2, **options
    )
    return found["peak"] - found["imports"]


def processes(count: int) -> float:
    """Milliseconds of a step of B = 100 that several processes of one thread divide."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", str(count), "-m", "benchmarks.growth_processes"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return json.loads(done.stdout.splitlines()[-1])


class Result:
    """The numbers so far, in a file that is whole after each of them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.table: dict = {"machine": None, "milliseconds": {}, "bytes": {}}
        if path.exists():
            self.table = json.loads(path.read_text())

    def lacks(self, kind: str, axis: str, value: int, name: str) -> bool:
        return str(value) not in self.table[kind].get(axis, {}).get(name, {})

    def add(self, kind: str, axis: str, value: int, name: str, number: float) -> None:
        self.table[kind].setdefault(axis, {}).setdefault(name, {})[str(value)] = number
        write_json(self.path, self.table)
        print(f"{axis}={value} {name}: {number:.4g} {kind}", flush=True)


def main(argv=None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--draw", action="store_true", help="measure nothing")
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no point after these")
    parser.add_argument("--axes", nargs="+", default=["particles", "width", "depth", "datapoints"])
    parser.add_argument("--only", nargs="+", choices=["milliseconds", "bytes"], default=None)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--figure", type=Path, default=FIGURE)
    args = parser.parse_args(argv)
    result = Result(args.out)
    if not args.draw:
        torch.set_num_threads(args.threads)
        keep_pages()
        result.table["machine"] = machine(args.threads)
        fill(result, args)
    draw(result.table, args.figure)


def fill(result: Result, args: argparse.Namespace) -> None:
    """Measures what a result lacks, until the time is over."""
    begin = time.perf_counter()

    def late() -> bool:
        return time.perf_counter() - begin > 60 * args.minutes

    kinds = args.only or ["milliseconds", "bytes"]
    for point in points():
        if point.axis not in args.axes or "milliseconds" not in kinds or late():
            continue
        at = "milliseconds", point.axis, point.value
        names = [name for name in point.contenders if result.lacks(*at, name)]
        for name, number in measure(point, names).items() if names else ():
            result.add(*at, name, number)
    for count in (1, 2) if "milliseconds" in kinds else ():
        for name, number in () if late() else processes(count).items():
            if result.lacks("milliseconds", "processes", count, name):
                result.add("milliseconds", "processes", count, name, number)
    for point in points():
        at = "bytes", point.axis, point.value
        names = ["ours_g3", "jax_g3", "pyro_renyi"] + [CHUNKED] * (point.axis == "particles")
        for name in names if point.memory and "bytes" in kinds else ():
            if point.axis in args.axes and result.lacks(*at, name) and not late():
                result.add(*at, name, peak(point, name))


if __name__ == "__main__":
    main()
