"""Whole configurations by name, and the command that trains them."""

from dataclasses import replace

import pytest
import torch

from sfnn_pyro.runs import RunConfig, RunError, presets, read_config
from sfnn_pyro.runs.presets import PRESETS, preset
from sfnn_pyro.training import Schedule
from tests.commands import sfnn


def test_fast_is_the_papers_network_on_its_images():
    config = preset("fast")
    assert (config.data, config.hidden, config.network) == ("mnist", (200, 200), "sfnn")
    assert (config.estimator, config.particles, config.proposal) == ("g3", 20, "prior")
    assert config.binarise in ("", "once")


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_read_back(name):
    config = preset(name, seed=3, precision="bfloat16")
    assert RunConfig.from_json(config.to_json()) == config
    assert (config.schedule.seed, config.precision) == (3, "bfloat16")
    usual = replace(config.schedule, seed=0)
    assert replace(config, schedule=usual, precision="float32") == PRESETS[name]


def test_what_is_no_preset_is_refused():
    with pytest.raises(RunError, match="preset='slow': choose one of fast"):
        preset("slow")
    with pytest.raises(RunError, match="precision='half': choose one of float32, bfloat16"):
        preset("fast", precision="half")


def test_train_takes_a_preset_with_a_seed_of_its_own(capsys, tmp_path, monkeypatch):
    torch.set_default_dtype(torch.float32)
    schedule = Schedule(epochs=1, batch_size=300, learning_rate=0.01)
    monkeypatch.setitem(
        presets.PRESETS, "fast", RunConfig(hidden=(5,), particles=3, kept=2, schedule=schedule)
    )
    run = tmp_path / "run"
    result = sfnn(capsys, "train", "--preset=fast", "--seed=7", "--quiet", "--out", run)
    assert result.code == 0, result.err
    assert read_config(run) == preset("fast", seed=7)
