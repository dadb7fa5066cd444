"""Time one training step: ours, its rivals, and the matrix products alone.

python -m benchmarks.step --out results.json
"""

from __future__ import annotations

import argparse
import statistics

import torch

from benchmarks.network import BATCH, PARTICLES, SIZES
from benchmarks.rivals import STEPS, build
from benchmarks.timing import interleave, machine, peak_memory, ratio, summary, write_json
from sfnn_pyro.system.allocator import keep_pages


def parse(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="+", choices=list(STEPS), metavar="NAME", default=[])
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--particles", type=int, default=PARTICLES)
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=25)
    parser.add_argument("--per-round", type=int, default=4)
    parser.add_argument(
        "--patience", type=float, default=120.0, help="seconds to wait for a quiet machine"
    )
    parser.add_argument("--threads", type=int, default=2, help="PyTorch's; JAX takes all cores")
    parser.add_argument("--keep-pages", action="store_true", help="mallopt, see pages.py")
    parser.add_argument("--memory", action="store_true", help="also peak memory, one process each")
    parser.add_argument("--check", action="store_true", help="first see that rivals agree")
    parser.add_argument("--out", metavar="FILE.json")
    return parser.parse_args(argv)


def table(times) -> str:
    """Medians and quartiles in milliseconds; ratios to the rival's floor and to each of ours."""
    rows = summary(times)
    ours = [name for name in rows if name.startswith("ours")]
    head = ["step", "median ms", "quartiles", "/ floor", *(f"{name} /" for name in ours)]
    lines = [head]
    for name, row in rows.items():
        floor = STEPS[name].floor
        lines.append(
            [
                name,
                f"{row['median']:.2f}",
                f"{row['low']:.2f}-{row['high']:.2f}",
                f"{ratio(times, name, floor):.2f}" if floor in times else "",
                *(f"{ratio(times, own, name):.2f}" for own in ours),
            ]
        )
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if i else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        )
        for line in lines
    )


def memory(names, args) -> dict[str, dict[str, int]]:
    peaks = {}
    for name in names:
        rival = STEPS[name]
        peaks[name] = peak_memory(
            rival.module, rival.factory, args.batch, args.particles, args.sizes, **rival.options
        )
        print(
            f"{name}: peak {peaks[name]['peak'] / 2**20:.0f} MiB, "
            f"{(peaks[name]['peak'] - peaks[name]['imports']) / 2**20:.0f} above its imports"
        )
    return peaks


def main(argv=None) -> None:
    args = parse(argv)
    torch.set_num_threads(args.threads)
    if args.keep_pages and not keep_pages():
        raise SystemExit("this C library has no mallopt")
    if args.check:
        from benchmarks.check import check

        check()
    calls, around = build(args.only or STEPS, args.batch, args.particles, args.sizes)
    times, others = interleave(
        calls,
        rounds=args.rounds,
        per_round=args.per_round,
        patience=args.patience,
        around=around,
    )
    print(table(times))
    print(
        f"other processes had {statistics.median(others):.0%} of the machine in the median "
        f"round, {max(others):.0%} in the worst of the {len(others)} kept"
    )
    results = {
        "machine": machine(args.threads),
        "keep_pages": args.keep_pages,
        "problem": {"sizes": args.sizes, "batch": args.batch, "particles": args.particles},
        "milliseconds": summary(times),
        "seconds": times,
        "others": others,
    }
    if args.memory:
        results["memory_bytes"] = memory(calls, args)
    if args.out:
        write_json(args.out, results)


if __name__ == "__main__":
    main()
