"""What docs/distributed.md says is so."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from sfnn_pyro.estimators import ESTIMATORS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/distributed.md").read_text()


@pytest.mark.slow
def test_the_loop_runs_under_torchrun(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "train.py").write_text(code)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]
    done = subprocess.run(
        [sys.executable, *launcher, str(tmp_path / "train.py")],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["0", "1"]


def test_the_table_of_estimators():
    for name, estimator in ESTIMATORS.items():
        row = next(line for line in PAGE.splitlines() if f"`{estimator.__name__}`" in line
                   and line.startswith(("| divide", "| refuse")))  # fmt: skip
        assert row.startswith("| divide") is estimator(num_particles=2).divisible, name


def test_links_exist():
    headings = {
        re.sub(r"[^a-z0-9 -]", "", line.lstrip("# ").lower()).replace(" ", "-")
        for line in PAGE.splitlines()
        if line.startswith("#")
    }
    for link in re.findall(r"\]\(([^)]+)\)", PAGE):
        if link.startswith("#"):
            assert link[1:] in headings, link
        else:
            assert link.startswith("http") or (ROOT / "docs" / link).exists(), link


def test_the_likelihoods_are_those_of_the_result():
    result = json.loads((ROOT / "docs/results/distributed/mnist-g3.json").read_text())
    for run in result["runs"]:
        name = {1: "one process", 2: "two processes"}[run["ranks"]]
        row = next(line for line in PAGE.splitlines() if line.startswith(f"| {name} |"))
        assert f"{run['negative_log_likelihood']:.2f}" == row.split("|")[2 + run["seed"]].strip()


def test_the_projection_is_that_of_the_result():
    result = json.loads((ROOT / "benchmarks/results/communication.json").read_text())
    for one in result["projection"]:
        row = [
            f"{one['devices']}",
            f"{one['data_message_ms']:.1f}",
            f"{one['minibatch_100_speedup']:.1f}",
            f"{one['100_each_efficiency']:.2f}",
            f"{one['20_particles_each_efficiency']:.2f}",
        ]
        assert f"| {' | '.join(row)} |" in PAGE


def test_the_costs_of_two_hosts_are_those_of_the_result():
    result = json.loads((ROOT / "benchmarks/results/hosts.json").read_text())
    names = {"100mbit": "100 Mbit/s", "1gbit": "1 Gbit/s", "10gbit": "10 Gbit/s"}
    for rate, found in result["rates"].items():
        ways = (found[way]["50"]["min"] for way in ("alone", "after", "during", "small_buckets"))
        milliseconds = [f"{value:.0f}" for value in (*ways, found["particles"]["min"])]
        row = [names[rate], f"{found['bytes']['data']:,}", *milliseconds]
        assert f"| {' | '.join(row)} |" in PAGE, row
        for one in found["projection"]:
            efficiencies = [
                f"{one[key]:.2f}"
                for key in ("50_rows_each", "100_rows_each", "400_rows_each", "accumulated")
            ]
            row = [names[rate], f"{one['hosts']}", f"{one['messages_ms']:.0f}", *efficiencies]
            assert f"| {' | '.join(row)} |" in PAGE, row


def test_the_likelihoods_of_minibatches_are_those_of_the_result():
    result = json.loads((ROOT / "benchmarks/results/minibatch.json").read_text())
    column = {"as it was": 2, "root": 3, "in proportion": 4}
    for one in result["rows"]:
        row = next(
            line for line in PAGE.splitlines() if line.startswith(f"| {one['batch_size']} |")
        )
        mean = sum(one["validation"]) / len(one["validation"])
        assert row.split("|")[column[one["rescaled"]]].strip() == f"{mean:.2f}", row


def test_what_was_cut_or_killed_is_in_the_log():
    log = (ROOT / "docs/results/distributed/hosts.txt").read_text()
    rows = [
        line for line in PAGE.splitlines() if line.startswith(("| torchrun", "| Slurm", "| Ray"))
    ]
    assert len(rows) >= 9
    for row in rows:
        assert row in log, row
