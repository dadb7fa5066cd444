"""A GPU's figures in one command of a few minutes: steps, floors, replicas, evaluation, a profile.

python -m benchmarks.gpu --out gpu.json
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from benchmarks.floors import make_floor_g3, make_floor_g5
from benchmarks.network import BATCH, SIZES, make_batch
from benchmarks.options import parser_for
from benchmarks.ours import make_ours
from benchmarks.timing import interleave, machine, ratio, summary, write_json
from sfnn_pyro.evaluation import log_likelihood
from sfnn_pyro.models import SFNN

HOWS = ("eager", "lazy", "compiled")
PRECISIONS = ("float32", "tf32", "bfloat16")
REPLICAS = 32


def timed(step: Callable[[], object], precision: str, device: str) -> Callable[[], None]:
    """The step at a precision of its products, ended by a synchronisation."""

    def call() -> None:
        torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
        with torch.autocast(torch.device(device).type, torch.bfloat16, precision == "bfloat16"):
            step()
        if device != "cpu":
            torch.cuda.synchronize()

    return call


def contenders(device: str) -> dict[str, Callable[[], None]]:
    """Names and calls: estimator, particles, how, precision."""
    on_gpu = device != "cpu"
    hows = HOWS if on_gpu else HOWS[:2]
    precisions = PRECISIONS if on_gpu else PRECISIONS[:1]
    calls = {}
    for particles in (1, 20, 100):
        for name in ("G3", "G4", "G5"):
            for how in hows:
                for precision in precisions if particles == 20 else ("tf32",):
                    step = make_ours(BATCH, particles, estimator=name, device=device, how=how)
                    calls[f"{name} M={particles} {how} {precision}"] = timed(
                        step, precision, device
                    )
    for name in ("G3", "G5"):
        step = make_ours(BATCH, 20, estimator=name, device=device, how=hows[-1], replicas=REPLICAS)
        calls[f"{name} M=20 {hows[-1]} tf32 {REPLICAS} replicas"] = timed(step, "tf32", device)
    with torch.device(device):
        for name, floor in (("G3", make_floor_g3), ("G5", make_floor_g5)):
            for precision in PRECISIONS[:2]:
                calls[f"floor {name} {precision}"] = timed(floor(BATCH, 20), precision, device)
    return calls


def evaluation_seconds(device: str) -> float:
    """Of the likelihood of 10,000 images with 100 particles."""
    model = SFNN(list(SIZES)).to(device)
    x, y = (torch.from_numpy(part).to(device) for part in make_batch(10_000, SIZES))
    seconds = []
    for _ in range(3):
        begin = time.perf_counter()
        float(log_likelihood(model, x, y, num_particles=100).sum())
        seconds.append(time.perf_counter() - begin)
    return min(seconds)


def profile(device: str) -> str:
    """Where an eager G3 step spends its time."""
    step = timed(make_ours(BATCH, 20, device=device), "tf32", device)
    for _ in range(5):
        step()
    activities = [torch.profiler.ProfilerActivity.CPU]
    if device != "cpu":
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.profiler.profile(activities=activities) as found:
        for _ in range(20):
            step()
    key = "self_cpu_time_total" if device == "cpu" else "self_device_time_total"
    return found.key_averages().table(sort_by=key, row_limit=20, max_name_column_width=60)


def main() -> None:
    parser = parser_for(__doc__, rounds=10, threads=False)
    parser.add_argument("--device", default="cuda", help="Device; cpu tests this program.")
    args = parser.parse_args()
    calls = contenders(args.device)
    often = 1 if args.device == "cpu" else 10
    times, _ = interleave(calls, rounds=args.rounds, per_round=often, settle=0.0, patience=0.0)
    for name, row in summary(times).items():
        print(f"{name:40s} {row['median']:9.3f} ms  {row['low']:.3f}-{row['high']:.3f}")
    floors = {"G3": "floor G3", "G4": "floor G5", "G5": "floor G5"}  # G4 has the products of G5
    ratios = {
        f"{name} / floor": ratio(times, name, f"{floors[name[:2]]} {name.split()[-1]}")
        for name in times
        if " M=20 " in name and name.endswith(PRECISIONS[:2])
    }
    results = {
        "machine": machine(),
        "device": torch.cuda.get_device_name() if args.device != "cpu" else "cpu",
        "milliseconds": summary(times),
        "ratios": ratios,
        "evaluation_seconds": evaluation_seconds(args.device),
        "profile": profile(args.device).splitlines(),
    }
    print(f"evaluation of 10,000 images, M = 100: {results['evaluation_seconds']:.2f} s")
    print("\n".join(results["profile"]))
    if args.out:
        write_json(args.out, results)


if __name__ == "__main__":
    main()
