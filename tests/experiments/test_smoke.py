"""Every experiment on tiny data; a grid that no experiment lists is an error."""

import re

import pytest

from sfnn_pyro.experiments.catalogue import EXPERIMENTS, choose
from sfnn_pyro.experiments.grid import GRIDS, grid_names
from sfnn_pyro.experiments.plots import PLOTS
from sfnn_pyro.experiments.report import write_report
from sfnn_pyro.experiments.results import read_results
from sfnn_pyro.experiments.sweep import sweep
from tests.experiments.helpers import tiny_grid, use_tiny_data

SMOKED = (
    "theorem1",
    "table1",
    "faces",
    "table2",
    "figure1",
    "figure2",
    "initialisation",
    "hidden-rates",
    "beyond",
    "tfd",
    "vae",
    "vae-linear",
    "vae-centred",
    "vae-anchor",
    "vae-others",
)


def test_every_experiment_is_listed():
    assert set(SMOKED) == set(EXPERIMENTS)
    listed = {grid for grids in EXPERIMENTS.values() for grid in grids}
    assert {name.removesuffix("-quick") for name in grid_names(GRIDS)} == listed


def test_every_plot_is_used():
    grids = [grid for name in EXPERIMENTS for grid in choose([name])]
    assert {grid.figure for grid in grids} - {""} == set(PLOTS)


QUICK = ("theorem1", "figure2")


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[] if name in QUICK else pytest.mark.slow) for name in SMOKED],
)
def test_an_experiment_fills_every_cell_and_draws_its_figures(name, monkeypatch, tmp_path):
    use_tiny_data(monkeypatch)
    grids = [tiny_grid(grid) for grid in choose([name])]
    sweep(grids, tmp_path)
    results = read_results(tmp_path)
    assert results and not any("failure" in result for result in results.values())
    page = write_report(grids, tmp_path)
    text = page.with_suffix(".md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("| ") and "| method" not in line]
    rows = [line for line in rows if "---" not in line]
    assert len(rows) == sum(len(grid.rows) for grid in grids)
    for line in rows:
        assert re.search(r"\| \d+\.\d+ \| 1 \|", line), line
    drawn = {path.stem for path in (tmp_path / "figures").glob("*.png")}
    expected = {
        "theorem1": {"theorem1"},
        "table1": {"table1-entropy"},
        "figure1": {"figure1-left", "figure1-right"},
        "figure2": {"figure2-1", "figure2-2", "figure2-3"},
    }
    assert expected.get(name, set()) <= drawn
    html = page.read_text()
    assert html.count("data:image/png;base64,") == len(drawn)
    assert not re.search(r'(src|href)="(?!#|data:)', html)
