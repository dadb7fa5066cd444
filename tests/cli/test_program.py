import csv
import importlib.metadata
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import typer

from sfnn_pyro import __version__
from sfnn_pyro.cli import program
from sfnn_pyro.data import DATASET_NAMES
from sfnn_pyro.distributed import SPLITS
from sfnn_pyro.estimators import ESTIMATORS
from sfnn_pyro.experiments.catalogue import EXPERIMENTS
from sfnn_pyro.runs import NETWORKS, PRECISIONS, PROPOSALS, load_model
from sfnn_pyro.training import OPTIMIZERS
from tests.commands import TINY, assert_refused, finish, sfnn, start


@pytest.fixture
def run(capsys, tmp_path):
    folder = tmp_path / "run"
    assert sfnn(capsys, "train", "--out", folder, *TINY).code == 0
    return folder


def test_train_writes_a_folder_and_says_what_is_next(capsys, tmp_path):
    folder = tmp_path / "some" / "run"
    result = sfnn(capsys, "train", "--out", folder, *TINY)
    assert result.code == 0 and result.err == ""
    assert f"Complete: {folder}. Next: sfnn evaluate {folder}" in result.out
    names = {path.name for path in folder.iterdir()}
    assert names == {".lock", "config.json", "history.csv", "best.safetensors", "model.safetensors"}


def test_what_is_next_can_be_pasted_for_any_name(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = sfnn(capsys, "train", "--out=-my run", *TINY).out
    assert "Next: sfnn evaluate './-my run'; sfnn complete './-my run'" in told


def test_history_is_a_csv_with_a_line_for_every_epoch(run):
    with open(run / "history.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2"]
    assert all(math.isfinite(float(value)) for row in rows for value in row.values())


def test_evaluate_prints_the_value_and_the_file_on_lines_of_their_own(capsys, run):
    result = sfnn(capsys, "evaluate", run, "--particles", 3, "--split", "validation")
    *_, value, wrote = result.out.splitlines()
    path = run / "evaluation-validation-3.json"
    assert wrote == f"Wrote {path}"
    record = json.loads(path.read_text())
    nats = record["negative_log_likelihood"]
    assert value.startswith(f"negative log-likelihood, validation, M = 3: {nats:.2f} ± ")
    assert (record["datapoints"], record["particles"]) == (300, 3)
    assert record["config"]["hidden"] == [5] and record["machine"]["torch"] == torch.__version__


def test_the_best_model_is_evaluated_beside_the_last(capsys, run):
    result = sfnn(capsys, "evaluate", run / "best.safetensors", "--particles", 3)
    assert result.code == 0
    assert (run / "best-evaluation-test-3.json").is_file()


def test_complete_draws_a_picture(capsys, run, tmp_path):
    picture = tmp_path / "some" / "picture.pdf"
    result = sfnn(capsys, "complete", run, "--rows", 2, "--samples", 2, "--out", picture)
    assert result.out == f"Wrote {picture}\n"
    assert picture.read_bytes().startswith(b"%PDF")
    assert (
        sfnn(capsys, "complete", run / "model.safetensors", "--rows", 2, "--samples", 2).code == 0
    )
    assert (run / "completions.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("network", ["sfnn", "deterministic"])
def test_same_seed_same_bytes_and_another_seed_others(capsys, tmp_path, network):
    def trained(name, seed):
        options = ("--network", network, "--seed", seed)
        assert sfnn(capsys, "train", "--out", tmp_path / name, *TINY, *options).code == 0
        return [
            (tmp_path / name / file).read_bytes() for file in ("model.safetensors", "history.csv")
        ]

    assert trained("a", 1) == trained("b", 1)
    assert trained("a2", 2) != trained("b2", 3)


def test_same_seed_same_evaluation_and_same_picture(capsys, run):
    def results():
        sfnn(capsys, "evaluate", run, "--particles", 3)
        sfnn(capsys, "complete", run, "--rows", 2, "--samples", 2)
        return [(run / name).read_bytes() for name in ("evaluation-test-3.json", "completions.png")]

    assert results() == results()


def test_resume_of_a_complete_run_does_nothing(capsys, run):
    before = (run / "model.safetensors").stat().st_mtime_ns
    result = sfnn(capsys, "train", "--resume", run)
    assert result.code == 0 and f"Complete: {run}" in result.out
    assert (run / "model.safetensors").stat().st_mtime_ns == before


@pytest.mark.slow
def test_demo_trains_both_networks_once(capsys, tmp_path):
    first = sfnn(capsys, "demo", "--out", tmp_path, "--epochs", 1)
    assert first.code == 0 and "deterministic" in first.out
    assert (tmp_path / "completions.png").is_file()
    model, config, _ = load_model(tmp_path / "sfnn")
    assert config.schedule.epochs == 1 and model.sizes == [32, 60, 60, 32]
    before = (tmp_path / "sfnn" / "model.safetensors").stat().st_mtime_ns
    assert sfnn(capsys, "demo", "--out", tmp_path, "--epochs", 1).code == 0
    assert (tmp_path / "sfnn" / "model.safetensors").stat().st_mtime_ns == before
    assert_refused(
        sfnn(capsys, "demo", "--out", tmp_path, "--epochs", 2), "run of another configuration"
    )


def test_data_list_says_what_is_here_and_how_to_get_the_rest(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("SFNN_DATA", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    result = sfnn(capsys, "data", "list")
    assert result.code == 0
    assert "1,197 / 300 / 300" in result.out and "32 -> 32" in result.out
    assert "download" in result.out


def test_data_download_says_where_it_wrote(capsys, monkeypatch):
    monkeypatch.setattr("sfnn_pyro.cli.datasets.download", lambda name: Path("cache") / name)
    assert sfnn(capsys, "data", "download", "mnist").out == "Wrote cache/mnist\n"


@pytest.mark.parametrize("arguments", [(), ("data",)])
def test_without_a_command_the_help_is_shown(capsys, arguments):
    result = sfnn(capsys, *arguments)
    assert result.code == 2 and result.err == ""
    assert "Usage" in result.out and "Commands" in result.out


COMMANDS = dict(typer.main.get_command(program.app).commands)
COMMANDS |= {f"data {name}": one for name, one in COMMANDS.pop("data").commands.items()}
NO_SENTENCE = re.compile(r"[a-z]|.*[^.]$|.*\b(TODO|etc)\b|.*``", re.DOTALL)


@pytest.mark.parametrize("name", [*COMMANDS, "data"])
def test_every_command_has_help(capsys, name):
    result = sfnn(capsys, *name.split(), "--help")
    assert result.code == 0 and "Usage: sfnn" in result.out


@pytest.mark.parametrize("name", COMMANDS)
def test_every_help_is_of_sentences_and_says_what_is_the_default(name):
    command = COMMANDS[name]
    for text in command.help.split("\n\n"):
        assert not NO_SENTENCE.match(text), text
    for one in command.params:
        assert one.help and not NO_SENTENCE.match(one.help), (one.name, one.help)
        says_all = one.required or one.is_flag or one.show_default or one.name == "help"
        assert says_all or "If not given" in one.help, one.name


def test_the_help_names_every_kind(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "10000")
    text = sfnn(capsys, "train", "--help").out
    for kinds in (NETWORKS, PROPOSALS, PRECISIONS, ESTIMATORS, OPTIMIZERS, SPLITS, DATASET_NAMES):
        assert all(re.search(rf"\b{kind}\b", text) for kind in kinds), kinds
    text = sfnn(capsys, "reproduce", "--help").out
    assert all(len(re.findall(rf"\b{one}\b", text)) > 1 for one in EXPERIMENTS)


def test_the_version_has_one_source(capsys):
    assert sfnn(capsys, "--version").out == f"{__version__}\n"
    assert importlib.metadata.version("sfnn_pyro") == __version__


def test_a_mistake_of_ours_is_not_hidden(capsys, monkeypatch, run):
    monkeypatch.setattr("sfnn_pyro.cli.evaluate.log_likelihood", lambda *args, **kwargs: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        sfnn(capsys, "evaluate", run)


@pytest.mark.slow
def test_the_installed_command_and_the_module_are_the_same(tmp_path):
    command = Path(sys.executable).with_name("sfnn")
    installed = subprocess.run([command, "evaluate", tmp_path], capture_output=True, text=True)
    module = finish(start("evaluate", tmp_path))
    assert_refused(module, f"{tmp_path} holds no model.safetensors")
    assert (installed.returncode, installed.stderr) == (2, module.err)


@pytest.mark.slow
def test_two_processes_with_one_seed_write_the_same_bytes(tmp_path):
    for process in [start("train", "--out", tmp_path / name, *TINY) for name in "ab"]:
        assert finish(process).code == 0
    for file in ("model.safetensors", "history.csv"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()
