import json
import re

import pytest

from sfnn_pyro.cli import reproduce
from sfnn_pyro.experiments.catalogue import choose
from tests.commands import assert_refused, sfnn
from tests.experiments.helpers import tiny_grid, use_tiny_data


@pytest.fixture
def tiny(monkeypatch):
    use_tiny_data(monkeypatch)
    monkeypatch.setattr(
        reproduce, "choose", lambda what, quick: [tiny_grid(grid) for grid in choose(what, quick)]
    )


def test_a_sweep_and_its_report(tiny, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("sfnn_pyro.experiments.sweep.LOG_SECONDS", 0.0)
    result = sfnn(capsys, "reproduce", "theorem1", "table1", "--quick", "--out", tmp_path)
    assert_refused(result, "theorem1 has no --quick version, only table1")
    result = sfnn(capsys, "reproduce", "table1", "--quick", "--out", tmp_path, "--workers", 1)
    assert result.code == 0, result.err
    first, *lines = result.err.splitlines()
    assert first.endswith(" first") and " to make: mnist-" in first
    assert any(re.fullmatch(r"mnist-\S+: \d+ %, .*nats.*", line) for line in lines), lines
    assert "| G3 (proposed biased), M = 20 | 53.8 ± 0.2 |" in result.out
    assert "Best first, paper: deterministic, binary noise (D), M = 20;" in result.out
    assert (tmp_path / "report-quick.html").is_file()
    again = ("reproduce", "table1", "--quick", "--out", tmp_path)
    result = sfnn(capsys, *again, "--dry-run")
    assert result.code == 0 and not result.out.strip()
    assert json.loads(sfnn(capsys, *again, "--dry-run", "--json").out) == {"runs": []}
    found = json.loads(sfnn(capsys, *again, "--workers", 1, "--json").out)
    assert found["report"] == str(tmp_path / "report-quick.html")
    (table,) = found["experiments"]
    row = next(one for one in table["rows"] if one["paper"] == "53.8 ± 0.2")
    assert row["complete"] and sum(row["runs"].values()) == row["mean"] * len(row["runs"])


def test_a_dry_run_lists_what_comes_and_writes_nothing(capsys, tmp_path):
    result = sfnn(capsys, "reproduce", "table1", "--out", tmp_path / "out", "--dry-run")
    assert result.code == 0 and not (tmp_path / "out").exists()
    lines = result.out.split()
    assert lines[0].startswith("mnist-sfnn-g3-M1-r0.1-s0-")
    assert len(lines) == len(set(lines)) == 3 * 8 + 1  # B has the runs of A, C one more rate


def test_a_folder_without_results_has_no_report(capsys, tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    result = sfnn(capsys, "reproduce", "report", "--out", tmp_path)
    assert_refused(result, f"{tmp_path} holds no results")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_unknown_experiments_are_one_line(capsys, tmp_path):
    assert_refused(sfnn(capsys, "reproduce", "table3", "--out", tmp_path), "no experiment 'table3'")


def test_a_report_keeps_what_earlier_commands_ran(tiny, capsys, tmp_path):
    sfnn(capsys, "reproduce", "theorem1", "--out", tmp_path, "--workers", 1)
    result = sfnn(capsys, "reproduce", "figure2", "--out", tmp_path, "--workers", 1)
    assert "Theorem 1" in result.out
    assert "Theorem 1" in (tmp_path / "report.html").read_text()


def test_the_folders_that_are_not_given_are_defaults(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert sfnn(capsys, "reproduce", "theorem1", "--dry-run").code == 0
    assert_refused(sfnn(capsys, "demo", "--epochs=0"), "epochs=0")
