"""A training that is stopped after every step ends with the bits of one that is not."""

import numpy as np
import pytest
import torch

from sfnn_pyro.runs import make_config, train_run
from sfnn_pyro.system.stop_requests import Interrupted

FILES = ("model.safetensors", "best.safetensors", "history.csv", "config.json")
TINY = {
    "hidden": [4],
    "epochs": 3,
    "rising_epochs": 1,
    "particles": 4,
    "batch_size": 9,
    "learning_rate": 0.01,
}
RWS = {"estimator": "rws", "encoder": 3}
MIXTURE = {"estimator": "vimco", "proposal": "mixture", "encoder": 3}
VARIANTS = [
    {},
    {"ema": 0.5},
    {"binarise": "epoch"},
    {"noise": 0.1, "likelihood": "gaussian"},
    {"patience": 1, "learning_rate": 3.0, "epochs": 9, "estimator": "g1"},
    {"optimizer": "adam", "ema": 0.9, "binarise": "epoch", "patience": 2},
    {"optimizer": "adam", "ema": 0.9, "noise": 0.1, **RWS},
    {"optimizer": "adamw", "weight_decay": 0.1, **MIXTURE},
    {"optimizer": "adam", "kept": 2, "ema": 0.5},
    {"input": "none", "optimizer": "adam", "binarise": "epoch", **RWS},
    {"input": "none", "ema": 0.5, **MIXTURE},
    {"network": "hybrid", "stochastic": 2, "optimizer": "adam", "binarise": "epoch"},
    {"network": "coins", "stochastic": 2, "ema": 0.5, **RWS},
    {"network": "deterministic", "optimizer": "adam", "patience": 1},
    {"precision": "bfloat16", "momentum": 0.0, "ema": 0.5, "binarise": "epoch"},
    {"validation": 0.0, "optimizer": "adam", "ema": 0.5},
    {"estimator": "nvil", "optimizer": "adam", "ema": 0.5},
    {"estimator": "relax", "optimizer": "adam", "binarise": "epoch"},
    {"estimator": "rebar", "ema": 0.5, "hidden": [3, 2]},
]


@pytest.fixture
def pictures(tmp_path):
    torch.set_default_dtype(torch.float32)
    path = tmp_path / "pictures.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (20, 4, 4)).astype("u1"))
    return path


def stopped_after_every_step(config, folder):
    """Trains to the end; how often it was stopped."""
    stops = 0
    while True:

        def stop(trainer, mean):
            raise Interrupted(15)

        torch.manual_seed(stops)  # as the state of a new process: what is resumed does not use it
        torch.rand(stops)
        try:
            train_run(config, folder, on_step=stop)
        except Interrupted:
            stops += 1
        else:
            return stops


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: " ".join(map(str, variant)))
def test_stops_change_no_bit(pictures, tmp_path, variant):
    config = make_config({**TINY, "data": str(pictures), **variant})
    train_run(config, tmp_path / "undisturbed")
    epochs = (tmp_path / "undisturbed" / "history.csv").read_text().count("\n") - 1
    assert epochs < 9
    assert stopped_after_every_step(config, tmp_path / "run") == 2 * epochs
    for name in FILES:
        whole = tmp_path / "undisturbed" / name
        if name == "best.safetensors" and not config.own.validation:
            assert not whole.exists()
            continue
        assert (tmp_path / "run" / name).read_bytes() == whole.read_bytes(), name
