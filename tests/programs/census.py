"""Runs many generated programs and says what every estimator made of them.

    python -m tests.programs.census --programs 20000 --seed 0 --out census.json

A chunk of programs is written to the file as soon as it is done; the same command goes on where
the file ends. Exits with 1 when a number was wrong without a word, or a call crashed.
"""

import argparse
import json
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.programs.check import EXACT, NOISY, UNFORCED, Setting, examine, examine_drawn
from tests.programs.evaluations import EVALUATIONS, examine_evaluations
from tests.programs.grammar import programs
from tests.programs.spec import Program

CHUNK = 100


def chunk_outcomes(
    number: int, base: int, most: int, size: int, noisy_one_in: int
) -> dict[str, Any]:
    """What one chunk of programs gives: counts, reasons and the programs that differ."""
    counts: Counter = Counter()
    reasons: Counter = Counter()
    found: list[dict[str, str]] = []
    examples: dict[str, str] = {}
    seen: set[tuple[Program, Setting]] = set()

    @seed(base * 1_000_003 + number)
    @settings(
        max_examples=size,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(programs(most))
    def run(case: tuple[Program, Setting]) -> None:
        if case in seen:
            return
        seen.add(case)
        program, setting = case
        outcomes = [*examine(*case), *examine_drawn(*case), *examine_evaluations(*case)]
        if program.seed % noisy_one_in == 0:
            plain = replace(setting, vectorize=True, call="differentiable_loss")
            outcomes += examine(program, replace(plain, num_particles=2), NOISY)
        for outcome in outcomes:
            within = "declared" if outcome.declared else "other"
            counts[f"{outcome.estimator} {within} {outcome.status}"] += 1
            if outcome.status == "refused":
                reasons[f"{outcome.estimator} {within}: {outcome.detail}"] += 1
                if outcome.declared:
                    examples.setdefault(outcome.detail, f"{case[0]!r}, {case[1]!r}")
            if outcome.status in ("differs", "crashed"):
                found.append(
                    {
                        "estimator": outcome.estimator,
                        "status": outcome.status,
                        "detail": outcome.detail,
                        "program": repr(case[0]),
                        "setting": repr(case[1]),
                    }
                )

    run()
    return {
        "programs": len(seen),
        "counts": counts,
        "reasons": reasons,
        "examples": examples,
        "found": found,
    }


def table(counts: Counter) -> str:
    """The census in words."""
    lines = [
        f"{'':22} {'declared':>9} {'agrees':>8} {'refused':>8} {'accepted':>9} "
        f"{'differs':>8} {'crashed':>8} | {'other':>7} {'agrees':>8} {'refused':>8} {'differs':>8}"
    ]
    for name in (*EXACT, *NOISY, *UNFORCED, *EVALUATIONS):
        row = {
            within: {
                status: counts[f"{name} {within} {status}"]
                for status in ("agrees", "refused", "differs", "crashed")
            }
            for within in ("declared", "other")
        }
        inside, other = row["declared"], row["other"]
        total = sum(inside.values())
        accepted = 100 * (total - inside["refused"] - inside["crashed"]) / max(total, 1)
        lines.append(
            f"{name:22} {total:9} {inside['agrees']:8} {inside['refused']:8} {accepted:8.1f}% "
            f"{inside['differs']:8} {inside['crashed']:8} | {sum(other.values()):7} "
            f"{other['agrees']:8} {other['refused']:8} {other['differs'] + other['crashed']:8}"
        )
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--programs", type=int, default=20_000, help="how many to generate")
    parser.add_argument("--seed", type=int, default=0, help="of the generator")
    parser.add_argument("--out", type=Path, required=True, help="JSON file, resumed if it exists")
    parser.add_argument("--most", type=int, default=36, help="largest number of particle tuples")
    parser.add_argument(
        "--noisy-one-in",
        type=int,
        default=20,
        help="programs for each that is tried with DisARM and Resampled, which cost the most",
    )
    parser.add_argument("--quiet", action="store_true", help="print the final table alone")
    options = parser.parse_args()
    state: dict[str, Any] = {
        "seed": options.seed,
        "most": options.most,
        "chunks": 0,
        "programs": 0,
        "seconds": 0.0,
        "counts": {},
        "reasons": {},
        "examples": {},
        "found": [],
    }
    if options.out.exists():
        state = json.loads(options.out.read_text())
        if (state["seed"], state["most"]) != (options.seed, options.most):
            parser.error(f"{options.out} is of seed {state['seed']} and --most {state['most']}")
    while state["programs"] < options.programs:
        start = time.monotonic()
        size = min(CHUNK, options.programs - state["programs"])
        part = chunk_outcomes(
            state["chunks"], options.seed, options.most, size, options.noisy_one_in
        )
        state["chunks"] += 1
        state["programs"] += part["programs"]
        state["seconds"] += time.monotonic() - start
        for key in ("counts", "reasons"):
            state[key] = dict(Counter(state[key]) + part[key])
        state["examples"] = {**part["examples"], **state["examples"]}
        state["found"] += part["found"][: max(0, 100 - len(state["found"]))]
        state["reasons"] = dict(sorted(state["reasons"].items(), key=lambda item: -item[1]))
        temporary = options.out.with_suffix(".part")
        temporary.write_text(json.dumps(state, indent=1, sort_keys=False))
        temporary.replace(options.out)
        if not options.quiet:
            speed = state["programs"] / state["seconds"]
            print(f"{state['programs']} programs, {speed:.1f} a second", flush=True)
    counts = Counter(state["counts"])
    print(table(counts))
    within: Counter = Counter()
    for reason, count in state["reasons"].items():
        if " declared: " in reason:
            within[reason.split(" declared: ", 1)[1]] += count
    print("refused of what is declared, by reason:")
    for reason, count in within.most_common(20):
        print(f"{count:8} {reason}")
    bad = sum(n for key, n in counts.items() if key.endswith(("differs", "crashed")))
    print(f"{bad} silent differences and crashes in {state['programs']} programs")
    return 1 if bad else 0


if __name__ == "__main__":
    raise SystemExit(main())
