import functools
import json
import os
import subprocess
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import safetensors
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pyro import poutine

from sfnn_pyro.estimators import ESTIMATORS, Compiled
from sfnn_pyro.runs import (
    RunConfig,
    RunError,
    SavedRun,
    load_model,
    load_run,
    read_config,
    save,
    train_run,
)
from sfnn_pyro.runs.choices import accepts
from sfnn_pyro.system.sealed_files import SealError, read_sealed, write_sealed
from sfnn_pyro.system.stop_requests import Interrupted
from sfnn_pyro.training import NonFiniteError, Schedule
from tests.data.helpers import memory_below, untimed

FIRST_RELEASE = Path(__file__).with_name("fixtures") / "first-release"
CONFIG = RunConfig(
    hidden=(2,), particles=2, schedule=Schedule(epochs=2, batch_size=600, learning_rate=0.01)
)


@pytest.fixture(autouse=True)
def float32():
    torch.set_default_dtype(torch.float32)


def test_a_configuration_is_read_back():
    config = RunConfig("mnist", "deterministic", (3, 4), "g5", 7, Schedule(3, 0.5, 10, 0.0, 1.5, 9))
    assert RunConfig.from_json(config.to_json()) == config
    assert RunConfig.from_json("{}") == RunConfig()
    assert RunConfig.from_json('{"schedule": {"learning_rate": 1}}').schedule.learning_rate == 1


def outcome(text):
    """What a text configures, or None if it is refused politely; anything else is a failure."""
    try:
        return RunConfig.from_json(text)
    except ValueError as error:
        assert str(error)
        return None


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)
KEYS = sorted(asdict(RunConfig()))


@settings(untimed, max_examples=50)
@given(
    st.dictionaries(
        st.sampled_from(KEYS),
        VALUES | st.dictionaries(st.sampled_from(sorted(asdict(Schedule()))), VALUES),
    )
)
def test_any_table_is_a_configuration_or_refused(raw):
    with memory_below(2**24):
        config = outcome(json.dumps(raw))
    assert config is None or RunConfig.from_json(config.to_json()) == config


@untimed
@given(st.text() | st.sampled_from(["[" * 10**5, "1" * 10**4, '{"a":' * 10**5]))
def test_any_text_is_a_configuration_or_refused(text):
    outcome(text)


@pytest.fixture
def first_release(tmp_path):
    """A copy of the run folder that the first release left half way."""
    for path in FIRST_RELEASE.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def test_files_of_the_first_release_still_load(first_release):
    model, config, data = load_model(first_release / "best.pt")
    assert (config, data.name, model.sizes) == (CONFIG, "digits", [32, 2, 32])
    assert read_config(first_release) == CONFIG
    expected = json.loads((first_release / "expected.json").read_text())
    total = sum(p.double().sum().item() for p in model.parameters())
    assert total == pytest.approx(expected["sum_of_parameters"], rel=1e-12)


def test_a_training_of_the_first_release_goes_on(first_release):
    state = read_sealed(first_release / "checkpoint.pt", "checkpoint")["trainer"]
    assert (len(state["history"]), state["steps"]) == (1, 1)
    model, _ = train_run(CONFIG, first_release)
    lines = (first_release / "history.csv").read_text().splitlines()
    assert len(lines) == 3 and lines[1] == f"1,{','.join(map(repr, state['history'][0][1:]))}"
    assert all(p.isfinite().all() for p in model.parameters())
    kept = {path.name for path in first_release.iterdir()} - {"expected.json"}
    assert kept == {".lock", "config.json", "history.csv", "best.safetensors", "model.safetensors"}


def test_a_training_of_the_first_release_is_saved_in_the_second_format(first_release):
    def on_step(trainer, mean):
        raise Interrupted(15)

    with pytest.raises(Interrupted):
        train_run(CONFIG, first_release, on_step=on_step)
    stored = torch.load(first_release / "checkpoint.pt", weights_only=True)
    assert stored["kind"] == "checkpoint 2" and stored["config"] == CONFIG.to_json()
    command = ["sha256sum", "--check", "--strict", "checkpoint.pt.sha256"]
    subprocess.run(command, cwd=first_release, check=True, capture_output=True)
    train_run(CONFIG, first_release)


@pytest.mark.parametrize(("estimator", "proposal"), [("g4", "prior"), ("rws", "mixture")])
def test_a_model_opens_without_this_package(tmp_path, estimator, proposal):
    config = replace(CONFIG, estimator=estimator, proposal=proposal)
    model, data = train_run(config, tmp_path)
    path = tmp_path / "model.safetensors"
    tensors = safetensors.torch.load_file(path)
    assert all(torch.equal(tensors.pop(name), one) for name, one in model.state_dict().items())
    assert all(name.startswith("guide:guide.") for name in tensors)
    assert bool(tensors) == (proposal == "mixture")
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata["kind"] == "model 2" and metadata["config"] == config.to_json()
    assert json.loads(metadata["provenance"]) == dict(data.provenance)


RUNS = [
    {"proposal": "prior"},
    {"estimator": "rws", "proposal": "recognition", "ema": 0.5},
    {"network": "deterministic", "estimator": "g3"},
    {"network": "hybrid", "stochastic": 1, "estimator": "rws", "proposal": "recognition"},
    {"network": "coins", "stochastic": 1, "ema": 0.5},
]


@pytest.mark.parametrize("options", RUNS, ids=str)
def test_a_run_is_loaded_and_saved_again(tmp_path, options):
    config = replace(CONFIG, **{"estimator": "g4", **options})
    model, _ = train_run(config, tmp_path)
    run = load_run(str(tmp_path))
    assert isinstance(run, SavedRun) and run.config == config and type(run.model) is type(model)
    for name, one in model.state_dict().items():  # of an average, if the run has one
        assert torch.equal(one, run.model.state_dict()[name])
    save(run, str(tmp_path / "copy.safetensors"))
    first, second = tmp_path / "model.safetensors", tmp_path / "copy.safetensors"
    assert first.read_bytes() == second.read_bytes()
    again = load_run(second)
    if config.proposal == "recognition":
        for a, b in zip(run.guide.parameters(), again.guide.parameters(), strict=True):
            assert torch.equal(a, b)
    trace = poutine.trace(run.program).get_trace(run.data.test.x[:3], run.data.test.y[:3])
    assert trace.log_prob_sum().isfinite()


def test_a_checkpoint_is_small_enough_to_commit():
    assert sum(path.stat().st_size for path in FIRST_RELEASE.iterdir()) < 40_000


@pytest.mark.parametrize(
    ("change", "part"),
    [
        (lambda c: c.pop("trainer"), "does not hold a whole training ('trainer')"),
        (lambda c: c["trainer"].pop("moment"), "does not hold a whole training ('moment')"),
        (lambda c: c["trainer"].update(parameters=3), "does not hold a whole training"),
        (lambda c: c["trainer"].update(parameters=[]), "the state has parameters of shapes []"),
        (lambda c: c.update(config=RunConfig().to_json()), "belongs to another configuration"),
        (lambda c: c["provenance"].update(split_seed=9), "was trained on other digits data"),
    ],
)
def test_a_checkpoint_with_other_contents_is_refused(first_release, change, part):
    path = first_release / "checkpoint.pt"
    contents = read_sealed(path, "checkpoint")
    change(contents)
    write_sealed(path, "checkpoint", contents)
    before = path.read_bytes()
    with pytest.raises(ValueError) as caught:
        train_run(CONFIG, first_release)
    assert part in str(caught.value) and "\n" not in str(caught.value)
    assert path.read_bytes() == before and not (first_release / "model.safetensors").exists()


def test_a_checkpoint_without_its_checksum_is_refused(first_release):
    path = first_release / "checkpoint.pt"
    write_sealed(path, "checkpoint", read_sealed(path, "checkpoint"))
    (first_release / "checkpoint.pt.sha256").unlink()
    with pytest.raises(SealError, match=r"has no checkpoint.pt.sha256 beside it: copy both files"):
        train_run(CONFIG, first_release)


def test_a_damaged_checkpoint_is_refused_and_kept(first_release):
    path = first_release / "checkpoint.pt"
    damaged = path.read_bytes()[:-1]
    path.write_bytes(damaged)
    with pytest.raises(SealError, match="was cut or altered"):
        train_run(CONFIG, first_release)
    assert path.read_bytes() == damaged


def test_a_folder_with_files_but_no_configuration_is_refused(first_release):
    (first_release / "config.json").unlink()
    with pytest.raises(RunError, match=r"but no config\.json"):
        train_run(CONFIG, first_release)


def test_a_step_that_is_not_finite_leaves_a_checkpoint_and_a_report(tmp_path, monkeypatch):
    from sfnn_pyro.estimators import G3

    real, calls = G3.loss_and_grads, []

    def spoiled(self, *args):
        calls.append(1)
        loss = real(self, *args)
        return float("nan") if len(calls) == 3 else loss

    monkeypatch.setattr(G3, "loss_and_grads", spoiled)
    with pytest.raises(NonFiniteError, match=r"the objective is nan at step 3 \(epoch 2\)"):
        train_run(CONFIG, tmp_path)
    report = json.loads((tmp_path / "failure.json").read_text())
    assert (report["step"], report["epoch"], len(report["minibatch"])) == (3, 2, 600)
    state = read_sealed(tmp_path / "checkpoint.pt", "checkpoint")["trainer"]
    assert len(state["history"]) * 2 + state["steps"] == 2
    monkeypatch.undo()
    train_run(CONFIG, tmp_path)
    assert not (tmp_path / "failure.json").exists()
    train_run(CONFIG, tmp_path / "whole")
    whole = (tmp_path / "whole" / "model.safetensors").read_bytes()
    assert (tmp_path / "model.safetensors").read_bytes() == whole


def test_checkpoints_come_at_the_interval(tmp_path, monkeypatch):
    """Every two seconds of a clock that every step moves by one."""
    clock, seen = [0.0], []
    monkeypatch.setattr("sfnn_pyro.runs.checkpointed.time.monotonic", lambda: clock[0])

    def on_step(trainer, mean):
        clock[0] += 1.0
        seen.append((tmp_path / "checkpoint.pt").exists())

    train_run(CONFIG, tmp_path, checkpoint_minutes=2 / 60, on_step=on_step)
    assert seen == [False, False, True, True]


def test_the_best_model_is_that_of_the_best_validation(tmp_path, monkeypatch):
    values = iter([-20.0, -10.0, -15.0])
    monkeypatch.setattr(
        "sfnn_pyro.training.trainer.log_likelihood",
        lambda *args, **kwargs: torch.tensor([next(values)]),
    )
    kept = []
    config = RunConfig(
        hidden=(2,), particles=2, schedule=Schedule(epochs=3, batch_size=600, learning_rate=0.01)
    )

    def on_step(trainer, mean):
        best = tmp_path / "best.safetensors"
        kept.append(best.read_bytes() if best.exists() else None)

    train_run(config, tmp_path, on_step=on_step)
    assert kept[0] is None and kept[2] != kept[4]
    assert (
        (tmp_path / "best.safetensors").read_bytes()
        == kept[4]
        != (tmp_path / "model.safetensors").read_bytes()
    )


@pytest.mark.parametrize("estimator", ["g3", "g1"])
def test_a_recorded_training_ends_with_the_same_bits_wherever_it_stopped(
    tmp_path, monkeypatch, estimator
):
    replay = functools.partial(Compiled, compile=False)  # no compiler is needed here
    monkeypatch.setattr("sfnn_pyro.runs.configuration.Compiled", replay)
    schedule = Schedule(epochs=2, batch_size=500, learning_rate=0.01)
    config = RunConfig(
        hidden=(2,), estimator=estimator, particles=2, schedule=schedule, compile=True
    )
    whole, _ = train_run(config, tmp_path / "whole")

    def stop(trainer, mean):
        if trainer.steps == 4:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        train_run(config, tmp_path / "part", checkpoint_minutes=0, on_step=stop)
    part, _ = train_run(config, tmp_path / "part")
    assert read_config(tmp_path / "part").compile
    for one, other in zip(whole.parameters(), part.parameters(), strict=True):
        assert torch.equal(one, other)
    plain, _ = train_run(replace(config, compile=False), tmp_path / "plain")
    for one, other in zip(whole.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5)


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    (tmp_path / ".checkpoint.pt.abc123").write_bytes(b"half")
    train_run(CONFIG, tmp_path)
    assert not (tmp_path / ".checkpoint.pt.abc123").exists()
    assert "checkpoint.pt" not in os.listdir(tmp_path)


@pytest.mark.parametrize("proposal", ["recognition", "mixture"])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_learned_proposal_is_learned(estimator, proposal):
    """Whatever estimator takes it gives every parameter of it a gradient; no other is accepted."""
    if not accepts(estimator, proposal):
        with pytest.raises(RunError, match=f"proposal='{proposal}': the estimator {estimator}"):
            RunConfig(estimator=estimator, proposal=proposal)
        return
    config = RunConfig(
        hidden=(3,), estimator=estimator, proposal=proposal, encoder=3, particles=4,
    )  # fmt: skip
    data = config.load_data()
    model = config.make_model(data)
    trainer = config.make_trainer(model, data)
    trainer.compute_gradients(torch.arange(20))
    assert all(p.grad is not None and p.grad.any() for p in trainer.trained[4:])
    assert len(trainer.trained) > 4
