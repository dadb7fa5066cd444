"""The axes of the growth benchmark, its resumable result and its figure."""

import json
import os

import pytest
import torch

from benchmarks import growth
from benchmarks.growth_figure import AXES, curve, draw


def test_the_axes_reach_as_far_as_the_page_says():
    reach = {}
    for point in growth.points():
        low, high = reach.get(point.axis, (point.value, point.value))
        reach[point.axis] = min(low, point.value), max(high, point.value)
    assert reach == {
        "particles": (1, 100_000),
        "width": (50, 4_000),
        "depth": (1, 10),
        "datapoints": (1, 10_000),
    }


def test_only_what_an_axis_changes_differs():
    for point in growth.points():
        rows = point.batch, point.particles
        inputs, *hidden, outputs = point.sizes
        assert (inputs, outputs) == (392, 392)
        assert rows == {
            "particles": (1, point.value),
            "datapoints": (point.value, 20),
        }.get(point.axis, (100, 20))
        assert hidden == {"width": [point.value] * 2, "depth": [200] * point.value}.get(
            point.axis, [200, 200]
        )
        assert ("compiled_g3" in point.contenders) == point.compiled


def test_a_result_knows_what_it_lacks_after_a_restart(tmp_path, capsys):
    path = tmp_path / "growth.json"
    result = growth.Result(path)
    at = "milliseconds", "width", 50
    assert result.lacks(*at, "ours_g3")
    result.add(*at, "ours_g3", 1.5)
    again = growth.Result(path)
    assert not again.lacks(*at, "ours_g3")
    assert again.lacks(*at, "jax_g3") and again.lacks("bytes", "width", 50, "ours_g3")
    assert json.loads(path.read_text())["milliseconds"]["width"]["ours_g3"] == {"50": 1.5}


def test_a_measured_point_has_its_contenders():
    torch.set_default_dtype(torch.float32)
    names = ["floor_g3", "ours_g3"]
    point = growth.Point("width", 6, batch=2, particles=3, sizes=(5, 6, 6, 5))
    found = growth.measure(point, names)
    assert list(found) == names and min(found.values()) > 0


@pytest.mark.parametrize("axes", [("particles",), tuple(AXES)])
def test_the_figure_draws_what_there_is(tmp_path, axes):
    numbers = {"1": 1.0, "2": 2.0}
    table = {
        "milliseconds": {axis: {"ours_g3": numbers, "floor_g3": numbers} for axis in axes},
        "bytes": {"particles": {"chunked_g3": {"1000": 2.0**20}}},
    }
    figure = draw(table, tmp_path / "growth.png")
    drawn = [panel for panel in figure.axes if panel.lines and panel.get_xscale() == "log"]
    assert len(drawn) == len(axes) + 1
    assert os.path.getsize(tmp_path / "growth.png") < 300_000


def test_a_curve_is_in_the_order_of_its_axis():
    assert curve({"100": 3.0, "20": 2.0}) == ([20, 100], [2.0, 3.0])


def test_the_memory_on_the_page_is_that_of_the_result():
    page = (growth.ROOT / "docs/speed.md").read_text()
    found = json.loads(growth.OUT.read_text())["bytes"]["particles"]
    chunked, pyro, jax = (
        f"{found[name]['100000'] / 2**20:,.0f}" for name in ("chunked_g3", "pyro_renyi", "jax_g3")
    )
    text = " ".join(page.split())
    assert f"{chunked} MiB at M = 100,000 where Pyro takes {pyro} and JAX {jax}" in text
