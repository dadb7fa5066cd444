"""``sfnn evaluate --proposal guide``: particles from the proposal that a run has learned."""

import json

import pytest
import torch

from sfnn_pyro.evaluation import exact_log_likelihood
from sfnn_pyro.runs import load_run
from tests.commands import TINY, assert_refused, sfnn
from tests.model_files import read_model_file, write_model_file


@pytest.fixture
def learned(capsys, tmp_path):
    """A function that trains a tiny run with a learned proposal."""

    def train(*options):
        folder = tmp_path / "run [ü]"
        result = sfnn(capsys, "train", "--out", folder, *TINY, "--encoder=4", *options)
        assert result.code == 0, result.err
        return folder

    return train


OPTIONS = [
    ("--proposal=recognition", "--estimator=rws"),
    ("--proposal=mixture", "--estimator=rws"),
    ("--proposal=recognition", "--estimator=vimco", "--network=hybrid", "--stochastic=2"),
    ("--proposal=recognition", "--estimator=rws", "--ema=0.5"),
]


@pytest.mark.parametrize("options", OPTIONS)
def test_the_guide_of_the_run_gives_the_likelihood_of_the_model(capsys, learned, options):
    run = learned(*options)
    result = sfnn(capsys, "evaluate", run, "--particles=100", "--proposal=guide")
    assert result.code == 0, result.err
    assert "M = 100, from the guide: " in result.out
    record = json.loads((run / "evaluation-test-100-guide.json").read_text())
    assert record["proposal"] == "guide"
    saved = load_run(run)
    exact = exact_log_likelihood(saved.program, saved.data.test.x, saved.data.test.y).mean()
    # An estimate lies below in expectation, here by its variance of some 0.01 over two.
    assert abs(-record["negative_log_likelihood"] - exact.item()) < 0.05


def test_the_weights_of_the_guide_are_those_of_the_file(learned):
    run = learned("--proposal=recognition", "--estimator=rws")
    stored = read_model_file(run / "model.safetensors")["guide"]
    saved = load_run(run)
    state = saved.guide.state_dict()
    assert state.keys() == stored.keys()
    assert all(torch.equal(state[name], stored[name]) for name in state)
    fresh = saved.config.make_guide(saved.model, saved.program).state_dict()
    assert not all(torch.equal(state[name], fresh[name]) for name in state)


@pytest.mark.parametrize("options", [(), ("--network=deterministic",)])
def test_a_run_without_a_guide_is_refused_by_name(capsys, tmp_path, options):
    run = tmp_path / "run"
    assert sfnn(capsys, "train", "--out", run, *TINY, *options).code == 0
    before = sorted(run.iterdir())
    result = sfnn(capsys, "evaluate", run, "--proposal=guide")
    assert_refused(result, f"{run} was trained with the prior", "leave --proposal out")
    assert sorted(run.iterdir()) == before


def test_another_proposal_is_refused(capsys, learned):
    run = learned("--proposal=mixture", "--estimator=rws")
    assert_refused(
        sfnn(capsys, "evaluate", run, "--proposal=recognition"),
        "proposal='recognition': choose one of prior, guide",
    )
    assert_refused(
        sfnn(capsys, "evaluate", run, "--proposal=guide", "--particles=1"),
        "num_particles=1: a MixtureProposal needs at least 2",
    )


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda c: c.pop("guide"), "does not hold a whole model (guide has the fields []"),
        (lambda c: c["guide"].popitem(), "does not hold a whole model"),
        (
            lambda c: c["guide"].update({"encoder.weight": torch.zeros(2, 2)}),
            "does not hold a whole model",
        ),
    ],
)
def test_a_crafted_guide_is_refused(capsys, learned, change, part):
    run = learned("--proposal=recognition", "--estimator=rws")
    contents = read_model_file(run / "model.safetensors")
    change(contents)
    write_model_file(run / "model.safetensors", contents)
    assert_refused(sfnn(capsys, "evaluate", run, "--proposal=guide"), part)


def test_a_guide_of_nan_is_refused_before_anything_is_written(capsys, learned):
    run = learned("--proposal=recognition", "--estimator=rws")
    contents = read_model_file(run / "model.safetensors")
    contents["guide"]["encoder.weight"].fill_(float("nan"))
    write_model_file(run / "model.safetensors", contents)
    before = sorted(run.iterdir())
    assert_refused(sfnn(capsys, "evaluate", run, "--proposal=guide"), "NaN")
    assert sorted(run.iterdir()) == before


def test_a_split_that_was_not_set_aside_is_refused(capsys, tmp_path):
    table = tmp_path / "t.csv"
    table.write_text("a,b\n" + "0,1\n1,0\n" * 10)
    run = tmp_path / "run"
    options = ("--data", table, "--y=b", "--test=0", "--out", run)
    assert sfnn(capsys, "train", *options, *TINY).code == 0
    assert_refused(sfnn(capsys, "evaluate", run), "split='test': the run set no data aside")
    assert sfnn(capsys, "evaluate", run, "--split=validation").code == 0
