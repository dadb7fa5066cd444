"""The README's Python runs, word for word, but for the number of epochs."""

import re
from pathlib import Path

import pytest
import torch

README = (Path(__file__).parent.parent / "README.md").read_text()


@pytest.mark.slow
def test_the_python_example_runs(capsys):
    torch.set_default_dtype(torch.float32)
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert "range(20)" in code
    names = {}
    exec(code.replace("range(20)", "range(2)"), names)
    assert names["completions"].shape == (10, 300, 32)
    assert re.match(r"tensor\(-1\d\.", capsys.readouterr().out)


def test_every_file_of_the_tree_table_exists():
    root = Path(__file__).parent.parent
    table = README.split("## The tree")[1]
    for name in re.findall(r"`([\w./]+)`", table):
        if "/" in name or name.endswith(".py"):
            assert (root / name).exists() or (root / "sfnn_pyro" / name).exists(), name


def test_the_results_are_those_of_the_report():
    report = (Path(__file__).parent.parent / "docs/results/report.md").read_text()
    rows = [line for line in README.split("## Results")[1].splitlines() if " M = " in line]
    rows = [row for row in rows if row.startswith("|") and "png" not in row and "Figure" not in row]
    assert len(rows) >= 7
    assert all(row in report for row in rows)
