"""``sfnn train --config``, ``--print-config`` and ``--tracker``."""

import json
import os
import tomllib
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sfnn_pyro.data import OwnData
from sfnn_pyro.data.own import BINARISATIONS, INPUTS
from sfnn_pyro.runs import RunConfig, RunError, make_config, to_toml
from sfnn_pyro.training import Schedule
from tests.commands import TINY, assert_refused, sfnn
from tests.data.helpers import untimed

FILE = """
hidden = [5]
epochs = 2
particles = 2
batch_size = 300
learning_rate = 0.01
estimator = "rws"
encoder = 3
rising_epochs = 1
"""


def test_a_run_of_a_file_is_that_of_the_options(capsys, tmp_path):
    path = tmp_path / "rün [1].toml"
    path.write_text(FILE.replace("rising_epochs = 1", ""), encoding="utf-8")
    options = ("--estimator=rws", "--encoder=3")
    assert sfnn(capsys, "train", "--config", path, "--out", tmp_path / "a").code == 0
    assert sfnn(capsys, "train", *TINY, *options, "--out", tmp_path / "b").code == 0
    for name in ("config.json", "history.csv", "model.safetensors"):
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


def test_an_option_counts_more_than_the_file(capsys, tmp_path):
    (tmp_path / "run.toml").write_text(FILE)
    options = ("--config", tmp_path / "run.toml", "--print-config")
    assert 'proposal = "recognition"' in sfnn(capsys, "train", *options).out
    printed = tomllib.loads(sfnn(capsys, "train", *options, "--epochs=7", "--hidden=4,3").out)
    assert (printed["epochs"], printed["hidden"], printed["particles"]) == (7, [4, 3], 2)
    assert printed["rising_epochs"] == 1
    # The default, given, is given.
    assert tomllib.loads(sfnn(capsys, "train", *options, "--epochs=50").out)["epochs"] == 50


def test_what_is_printed_configures_the_same_run(capsys, tmp_path):
    run, path = tmp_path / "run", tmp_path / "run.toml"
    options = (*TINY, "--network=hybrid", "--stochastic=2", "--ema=0.5")
    printed = sfnn(capsys, "train", *options, "--print-config")
    assert (printed.code, printed.err) == (0, "") and not run.exists()
    path.write_text(printed.out)
    assert sfnn(capsys, "train", "--config", path, "--out", run).code == 0
    assert sfnn(capsys, "train", "--resume", run, "--print-config").out == printed.out
    found = json.loads(sfnn(capsys, "train", "--resume", run, "--print-config", "--json").out)
    assert found == tomllib.loads(printed.out)


def test_every_key_of_the_configuration_is_a_key_of_the_file():
    names = {f.name for kind in (RunConfig, Schedule, OwnData) for f in fields(kind)}
    assert len(names) == sum(len(fields(kind)) for kind in (RunConfig, Schedule, OwnData))
    with pytest.raises(RunError, match="known: ") as caught:
        make_config({"more": 1})
    assert set(str(caught.value).partition("known: ")[2].split(", ")) == names - {"schedule", "own"}


TEXTS = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1)


@untimed
@given(
    data=TEXTS,
    x=TEXTS,
    own_input=st.sampled_from(INPUTS),
    binarise=st.sampled_from(BINARISATIONS),
    rate=st.floats(1e-30, 1e30),
    hidden=st.lists(st.integers(1, 2**40), min_size=1),
    seed=st.integers(0, 2**63 - 1),
)
def test_any_configuration_is_written_and_read_back(
    data, x, own_input, binarise, rate, hidden, seed
):
    config = RunConfig(
        data="./" + data,
        hidden=tuple(hidden),
        binarise=binarise,
        own=OwnData(x=x, input=own_input, shape=(4, 6), validation=0.0),
        schedule=Schedule(learning_rate=rate, seed=seed),
    )
    assert make_config(tomllib.loads(to_toml(config))) == config


WRONG = [
    (None, "cannot be read (No such file"),
    (b"epochs = ", "is no TOML"),
    (b"\xff", "is no TOML"),
    (b"a = " + b"[" * 100_000, "is no TOML"),
    (b"epoch = 3", "unknown key 'epoch'; known: data, network"),
    (b"[schedule]\nepochs = 3", "unknown key 'schedule'"),
    (b'epochs = "3"', "epochs='3': expected int"),
    (b"epochs = 3.0", "epochs=3.0: expected int"),
    (b"\xef\xbb\xbfepochs = 3.0", "epochs=3.0: expected int"),
    (b"epochs = 0", "epochs=0: must lie between 1"),
    (b"epochs = true", "epochs=True: expected int"),
    (b"epochs = 1" + b"0" * 40, "epochs="),
    (b"epochs = 1" + b"0" * 5000, "is no TOML"),
    (b"epochs = 2020-01-01", "epochs="),
    (b"learning_rate = nan", "learning_rate=nan: must be positive"),
    (b"learning_rate = inf", "learning_rate=inf: must be positive"),
    (b"hidden = 5", "hidden=5: expected a list of int"),
    (b"hidden = []", "hidden=[]: give at least one width"),
    (b"hidden = [[1]]", "hidden=[[1]]"),
    (b"estimator = 3", "estimator=3: expected str"),
    (b"estimator = []", "estimator=[]: expected str"),
    (b'estimator = "g9"', "estimator='g9': choose one of"),
    (b'estimator = "rws"\nproposal = "prior"', "the estimator rws does not take it"),
    (b"kept = 30", "fewer than the 20 particles"),
    (b'x = "a"', "the data set 'digits' has its own"),
    (b'data = ""', "is empty"),
    (b'data = "nowhere.csv"', "nowhere.csv cannot be read"),
]


@pytest.mark.parametrize(("contents", "part"), WRONG)
def test_a_file_that_is_none_is_one_line_and_leaves_nothing(capsys, tmp_path, contents, part):
    path = tmp_path / "größe [1].toml"
    if contents is not None:
        path.write_bytes(contents)
    result = sfnn(capsys, "train", "--config", path, "--out", tmp_path / "run")
    assert_refused(result, part)
    assert len(result.err) < 1000 and not (tmp_path / "run").exists()


@pytest.mark.parametrize("place", ["/dev/zero", ".", "fifo"])
def test_what_is_no_file_is_one_line(capsys, tmp_path, monkeypatch, place):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    result = sfnn(capsys, "train", "--config", place, "--out", "run")
    assert_refused(result, f"{place} cannot be read")


def test_a_configuration_is_not_given_twice(capsys, tmp_path):
    assert sfnn(capsys, "train", "--out", tmp_path / "run", *TINY).code == 0
    result = sfnn(capsys, "train", "--resume", tmp_path / "run", "--config", "x.toml")
    assert_refused(result, "--config has no effect with --resume")
    assert_refused(sfnn(capsys, "train", "--config="), "is an empty path")


def test_tensorboard_follows_and_changes_nothing(capsys, tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    run = tmp_path / "run [ü]"
    result = sfnn(capsys, "train", "--out", run, *TINY, "--tracker=tensorboard")
    assert (result.code, result.err) == (0, "")
    events = accumulator.EventAccumulator(str(run / "tensorboard"))
    events.Reload()
    steps = [one.step for one in events.Scalars("step/log_likelihood")]
    assert steps == list(range(1, 9))
    lines = (run / "history.csv").read_text().splitlines()[1:]
    values = [one.value for one in events.Scalars("validation/log_likelihood")]
    name = (run / "history.csv").read_text().splitlines()[0].split(",")
    column = name.index("validation_log_likelihood")
    assert values == pytest.approx([float(line.split(",")[column]) for line in lines], rel=1e-6)
    assert sfnn(capsys, "train", "--out", tmp_path / "plain", *TINY).code == 0
    assert (tmp_path / "plain" / "model.safetensors").read_bytes() == (
        run / "model.safetensors"
    ).read_bytes()


def test_a_tracker_that_is_none_leaves_nothing(capsys, tmp_path, monkeypatch):
    run = tmp_path / "run"
    train = ("train", "--out", run, *TINY)
    assert_refused(sfnn(capsys, *train, "--tracker=wandb"), "tracker='wandb': choose one of none")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert_refused(sfnn(capsys, *train, "--tracker=tensorboard"), "pip install tensorboard")
    assert not run.exists()
