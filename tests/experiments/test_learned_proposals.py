"""The program that compares learned proposals runs, on the embedded digits."""

import json

import pytest
import torch

from sfnn_pyro.experiments import learned_proposals as proposals

SMALL = ["--data", "digits", "--epochs", "2", "--hidden", "10", "8", "--width", "6"]


@pytest.mark.parametrize(
    "options",
    [
        ["--guide", "mixture", "--prior-from", "2"],
        ["--guide", "recognition", "--insomnia", "1"],
        ["--guide", "prior", "--estimator", "g5"],
    ],
)
def test_writes_its_result(options, tmp_path, capsys):
    torch.set_default_dtype(torch.float32)
    out = tmp_path / "result.json"
    small = ["--particles", "4", "--test-particles", "5"]
    proposals.main([*SMALL, *small, *options, "--out", str(out)])
    result = json.loads(out.read_text())
    assert len(result["epochs"]) == 2
    assert 0 < result["negative_log_likelihood_with_prior"] < 60
    assert result["options"]["out"] == "result.json" and result["machine"]["torch"]
    assert "epoch 2" in capsys.readouterr().out
