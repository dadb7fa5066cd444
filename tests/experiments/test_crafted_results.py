"""Result files with any field replaced: a report, or one line that names the file."""

import json
import os
import random
from collections import Counter
from pathlib import Path

import pytest

from sfnn_pyro.cli import reproduce
from sfnn_pyro.experiments.catalogue import choose
from sfnn_pyro.experiments.result_check import check_result
from sfnn_pyro.experiments.results import read_results
from tests.commands import sfnn
from tests.experiments.helpers import tiny_grid, use_tiny_data
from tests.test_crafted_files import replaced

VARIANTS = 10
"""``SFNN_VARIANTS=10000`` in the environment tries more."""


@pytest.mark.slow
@pytest.mark.parametrize("names", [("theorem1",), ("figure1", "figure2"), ("vae",)], ids="-".join)
def test_any_field_of_a_result_replaced(capsys, monkeypatch, tmp_path, names):
    use_tiny_data(monkeypatch)
    grids = [tiny_grid(grid) for grid in choose(names)]
    monkeypatch.setattr(reproduce, "choose", lambda what, quick: grids)
    assert sfnn(capsys, "reproduce", *names, "--workers=1", "--out", tmp_path).code == 0
    paths = sorted((tmp_path / "runs").glob("*.json"))
    chance, counts = random.Random(names[0]), Counter()
    for number in range(int(os.environ.get("SFNN_VARIANTS", VARIANTS))):
        path = chance.choice(paths)
        sound = path.read_text()
        crafted, place = replaced(json.loads(sound), chance)
        path.write_text(json.dumps(crafted, default=lambda value: None))
        result = sfnn(capsys, "reproduce", "report", "--out", tmp_path)
        told = f"variant {number}, {place}: {result}"
        assert result.code in (0, 2), told
        if result.code:
            assert result.err.startswith("sfnn: ") and result.err.count("\n") == 1, told
            assert path.stem in result.err, told
        counts[place[0], "refused" if result.code else "reported"] += 1
        path.write_text(sound)
    with capsys.disabled():
        if sum(counts.values()) > VARIANTS:
            print(f"\nresults of {', '.join(names)}: {dict(sorted(counts.items()))}")
    assert {outcome for _, outcome in counts} == {"refused", "reported"}


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"seconds": float("nan")}, "seconds: input should be a finite number"),
        ({"probes": {"x": {}}}, "probes"),
        ({"failure": "it diverged"}, "not exactly one of evaluations and failure"),
        ({"evaluations": {"trained": {"test": {"a": "1"}}}}, "evaluations.trained.test.a"),
        ({"particles": {"counts": [1], "negative_log_likelihood": []}}, "different lengths"),
    ],
)
def test_a_value_that_no_run_writes_is_named(change, part):
    sound = {"config": {}, "machine": {"processor": ""}, "seconds": 1.0, "probes": {}}
    sound["evaluations"] = {}
    check_result(sound)
    with pytest.raises(ValueError, match=part):
        check_result({**sound, **change})


def test_the_published_results_are_results():
    folder = Path(__file__).parents[2] / "docs" / "results"
    assert len(read_results(folder)) > 100 and read_results(folder / "vae")
