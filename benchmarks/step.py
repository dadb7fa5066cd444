"""Time one training step: ours, its rivals, and the matrix products alone.

python -m benchmarks.step --out results.json
"""

from __future__ import annotations

import argparse
import statistics

import torch

from benchmarks.network import BATCH, PARTICLES, SIZES
from benchmarks.options import add_keep_pages, add_quiet, parser_for
from benchmarks.rivals import STEPS, build
from benchmarks.timing import interleave, machine, peak_memory, ratio, summary, write_json
from sfnn_pyro.system.allocator import keep_pages


def parse(argv=None) -> argparse.Namespace:
    parser = parser_for(__doc__, rounds=25)
    names = list(STEPS)
    parser.add_argument(
        "--only", nargs="+", choices=names, metavar="NAME", default=[], help="Steps to time."
    )
    parser.add_argument("--batch", type=int, default=BATCH, help="Number of datapoints B.")
    parser.add_argument("--particles", type=int, default=PARTICLES, help="Number of particles M.")
    sizes = list(SIZES)
    parser.add_argument("--sizes", type=int, nargs="+", default=sizes, help="Widths of the layers.")
    add_quiet(parser, per_round=4)
    add_keep_pages(parser)
    parser.add_argument(
        "--memory", action="store_true", help="Also measure peak memory, each in its own process."
    )
    parser.add_argument(
        "--check", action="store_true", help="First check that all implementations agree."
    )
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
        raise SystemExit("--keep-pages needs a C library with mallopt: leave it out")
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
