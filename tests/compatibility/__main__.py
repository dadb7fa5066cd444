"""Runs Pyro's own tests, and its examples, with our estimators: ``python -m tests.compatibility``.

Each file runs in a process of its own with a limit of time; the tests that fail run again with
Pyro's own losses, since what fails there too says nothing about ours.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

from tests.compatibility.examples import EXAMPLES, run_example
from tests.compatibility.replacements import PYROS

ROOT = Path(__file__).parent.parent.parent
FOLDERS = ("infer", "nn", "poutine", "contrib", "integration_tests")
INDIRECT = ("cevae", "epidemiology", "forecast", "mue")
"""Folders of tests/contrib whose library makes the losses."""


def test_files(checkout: Path) -> list[Path]:
    """The files of tests that mention a loss that is replaced, or whose library does."""
    mentions = re.compile("|".join(rf"\b{name}\b" for name in PYROS))
    return [
        path
        for folder in FOLDERS
        for path in sorted((checkout / "tests" / folder).rglob("test_*.py"))
        if path.parent.name in INDIRECT or mentions.search(path.read_text())
    ]


def run_file(path: Path, args: argparse.Namespace, only: list[str], *options: str) -> list[dict]:
    """What the plugin reported of every test of a file, or of the named ones."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.jsonl"
        report.touch()
        command = [sys.executable, "-m", "pytest", "-q", "-p", "tests.compatibility.plugin"]
        command += ["-p", "no:cacheprovider", "--rootdir", args.checkout]
        command += ["-c", args.checkout / "setup.cfg", "--compatibility-report", report]
        command += ["--compatibility-particles", args.particles]
        command += ["--compatibility-seconds", str(args.test_seconds), *options]
        command += [args.checkout / test for test in only] or [path]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
        try:
            done = subprocess.run(
                command,
                cwd=ROOT,
                env=environment,
                timeout=args.file_seconds,
                capture_output=True,
                text=True,
            )
            # 0: all passed, 1: some failed, 5: none collected.
            complaint = "" if done.returncode in (0, 1, 5) else done.stdout[-2000:] + done.stderr
        except subprocess.TimeoutExpired:
            complaint = f"the file took longer than {args.file_seconds} seconds"
        lines = [json.loads(line) for line in report.read_text().splitlines()]
        if complaint:
            print(f"{path}: {complaint}", file=sys.stderr)
            lines.append({"test": str(path), "outcome": "unfinished", "used": False})
        return lines


def reason(error: str) -> str:
    """An error with what differs from test to test taken out, to group by."""
    error = re.sub(r"'[^']*'", "'...'", error)
    return re.sub(r"-?\d+(\.\d+)?(e[+-]?\d+)?", "#", error)[:200]


def summary(path: Path, args: argparse.Namespace) -> dict[str, Any]:
    """One row of the table."""
    lines = run_file(path, args, [])
    applicable = [line for line in lines if line["used"] and line["outcome"] != "skipped"]
    failed = {line["test"]: line["error"] for line in applicable if line["outcome"] == "failed"}
    also = set()
    if failed:
        own = run_file(path, args, list(failed), "--pyros-own")
        also = {line["test"] for line in own if line["outcome"] == "failed"} & set(failed)
    groups = defaultdict(list)
    for test, error in failed.items():
        if test not in also:
            groups[reason(error)].append({"test": test, "error": error})
    return {
        "file": str(path.relative_to(args.checkout)),
        "applicable": len(applicable) - len(also),
        "passed": len(applicable) - len(failed),
        "failed": len(failed) - len(also),
        "failed_with_pyros_own_too": sorted(also),
        "finished": all(line["outcome"] != "unfinished" for line in lines),
        "failures": dict(sorted(groups.items(), key=lambda group: -len(group[1]))),
    }


def print_row(row: dict[str, Any]) -> None:
    note = "" if row["finished"] else " (not finished)"
    print(f"| {row['file']}{note} | {row['applicable']} | {row['passed']} | {row['failed']} |")
    for text, tests in row["failures"].items():
        print(f"|   {len(tests)} x {text} | | | |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.compatibility", description=__doc__)
    parser.add_argument("--checkout", type=Path, required=True, help="Checkout of pyro-ppl/pyro.")
    parser.add_argument("--out", type=Path, help="File for the result, JSON.")
    parser.add_argument("--only", default="", help="Only files whose path has this part.")
    parser.add_argument(
        "--particles", choices=["as-written", "vectorised", "sequential"], default="as-written"
    )
    parser.add_argument("--test-seconds", type=int, default=120, help="Limit of one test.")
    parser.add_argument("--file-seconds", type=int, default=1200, help="Limit of one file.")
    parser.add_argument("--examples", action="store_true", help="The examples, not the tests.")
    args = parser.parse_args()
    args.checkout = args.checkout.resolve()
    rows = []
    if args.examples:
        for name in EXAMPLES:
            if args.only in name:
                rows.append(run_example(args.checkout, name, args.test_seconds))
                for way, result in rows[-1].items():
                    print(f"| {name} | {way} | {result} |", flush=True)
    else:
        print("| file | applicable | passed | failed |\n| --- | --- | --- | --- |")
        for path in test_files(args.checkout):
            if args.only in str(path.relative_to(args.checkout)):
                rows.append(summary(path, args))
                print_row(rows[-1])
    if args.out:
        args.out.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
