"""Everything a person may get wrong, one row each: one clear line, and nothing left behind."""

import gzip
import json
import math
import os

import pytest
import torch

from sfnn_pyro.data import DataError, Split
from sfnn_pyro.data.cache import VARIABLE
from sfnn_pyro.estimators import ESTIMATORS, G4
from sfnn_pyro.evaluation import log_likelihood
from sfnn_pyro.guides import PriorProposal
from sfnn_pyro.models import SFNN
from sfnn_pyro.runs import RunConfig, RunError
from sfnn_pyro.system.weight_files import write_weights
from sfnn_pyro.training import Schedule, Trainer
from tests.commands import TINY, assert_refused, sfnn
from tests.first_format import write_first_format

COMMAND_LINES = [
    (["train"], "give --out for a new run, or --resume"),
    (["train", "--out={out}", "--resume={out}"], "give --out for a new run, or --resume"),
    (["train", "--resume={out}"], "config.json cannot be read (No such file"),
    (["train", "--resume={run}", "--epochs=9"], "--epochs has no effect with --resume"),
    (["train", "--out={run}"], "holds a trained model already: give another --out"),
    (["train", "--out={begun}"], "not complete: go on with 'sfnn train --resume"),
    (["train", "--out={file}"], "cannot be used (Not a directory)"),
    (["train", "--out={file}/x"], "cannot be used (Not a directory)"),
    (["train", "--out={stray}"], "holds model.safetensors but no config.json"),
    (["train", "--out={out}", "--data=nowhere"], "no data set 'nowhere': choose one of digits"),
    (["train", "--out={out}", "--data=mnist"], "no file train-images-idx3-ubyte", "download"),
    (["train", "--out={out}", "--data=tfd"], "not public"),
    (["train", "--out={out}", "--network=rnn"], "network='rnn': choose one of sfnn"),
    (["train", "--out={out}", "--estimator=g9"], "estimator='g9': choose one of"),
    (["train", "--out={out}", "--device=abacus"], "device='abacus': give cpu or cuda"),
    (["train", "--out={out}", "--split=hairs"], "split='hairs': choose one of data, particles"),
    (["train", "--resume={run}", "--split=hairs"], "split='hairs': choose one of data, particles"),
    (["train", "--out={out}", "--config={out}/run.toml"], "run.toml cannot be read (No such"),
    (["train", "--resume={run}", "--config=run.toml"], "--config has no effect with --resume"),
    (["train", "--print-config", "--epochs=0"], "epochs=0: must lie between 1 and"),
    (["train", "--out={out}", "--tracker=wandb"], "tracker='wandb': choose one of none"),
    (["train", "--out={out}", "--particles=0"], "particles=0: must lie between 1"),
    (["train", "--out={out}", "--particles=-3"], "particles=-3"),
    (["train", "--out={out}", "--particles=many"], "--particles='many': give a whole number"),
    (["train", "--out={out}", "--particles=1" + "0" * 30], "must lie between 1"),
    (["train", "--out={out}", "--hidden="], "hidden='': give widths like 200,200"),
    (["train", "--out={out}", "--hidden=20;20"], "hidden='20;20': give widths"),
    (["train", "--out={out}", "--hidden=20,0"], "hidden=[20, 0]: give at least one width"),
    (["train", "--out={out}", "--hidden=-5"], "hidden=[-5]"),
    (["train", "--out={out}", "--hidden=9000000000"], "do not fit this machine's memory"),
    (["train", "--out={out}", "--hidden=" + "9" * 5000], "give widths like"),
    (["train", "--out={out}", "--epochs=0"], "epochs=0: must lie between 1 and"),
    (["train", "--out={out}", "--batch-size=0"], "batch_size=0: must lie between 1 and"),
    (["train", "--out={out}", "--learning-rate=0"], "learning_rate=0.0: must be positive"),
    (["train", "--out={out}", "--learning-rate=nan"], "learning_rate=nan: must be positive"),
    (["train", "--out={out}", "--learning-rate=inf"], "learning_rate=inf: must be positive"),
    (["train", "--out={out}", "--momentum=1"], "momentum=1.0: must lie in [0, 1)"),
    (["train", "--out={out}", "--momentum=nan"], "momentum=nan: must lie in [0, 1)"),
    (["train", "--out={out}", "--seed=-1"], "seed=-1: must lie between 0"),
    (["train", "--out={out}", "--seed=1" + "0" * 30], "must lie between 0"),
    (["train", "--out={out}", "--checkpoint-minutes=-1"], "checkpoint_minutes=-1.0: must be 0"),
    (["train", "--out={out}", "--checkpoint-minutes=nan"], "checkpoint_minutes=nan"),
    (["train", "--out={out}", "--timeout-minutes=0"], "timeout_minutes=0.0: must be above 0"),
    (["train", "--out={out}", "--timeout-minutes=inf"], "timeout_minutes=inf: must be above 0"),
    (["train", "--out={out}", "--colour=red"], "--colour"),
    (["train", "--out="], "--out", "'' is an empty path"),
    (["train", "--resume="], "--resume", "'' is an empty path"),
    (["train", "--out={pipe}"], "cannot be used (Not a directory)"),
    (["train", "--out={out}", "--device=meta"], "device='meta': give cpu or cuda"),
    (["train", "--out={out}", "--device=cpu:7"], "device='cpu:7': give cpu or cuda"),
    (["train", "--out={out}", "--learning-rate=1e39"], "learning_rate=1e+39: must be positive"),
    (
        ["train", "--out={out}", "--batch-size=1" + "0" * 23],
        "batch_size=1000",
        "must lie between 1 and",
    ),
    (["train", "--out={out}", "--particles=900000000"], "GiB of memory", "fewer --particles"),
    (["train", "--out={out}", "--estimator=vimco", "--particles=1"], "needs at least 2"),
    (["train", "--out={out}", "--proposal=posterior"], "proposal='posterior': choose one of prior"),
    (["train", "--out={out}", "--estimator=rws", "--proposal=prior"], "choose recognition or mix"),
    (["train", "--out={out}", "--estimator=g5", "--proposal=mixture"], "give --estimator rws"),
    (["train", "--out={out}", "--estimator=g3", "--proposal=mixture"], "the estimator g3 does not"),
    (["train", "--out={out}", "--quiet", "--json", "--epochs=0"], "epochs=0"),
    (["train", "--out={out}", "--x=a"], "x='a': the data set 'digits' has its own", "--x"),
    (["train", "--out={out}", "--y=a"], "y='a': the data set 'digits' has its own", "--y"),
    (
        ["train", "--out={out}", "--input=lower-half"],
        "input='lower-half': choose one of upper-half",
    ),
    (["train", "--out={out}", "--shape=8"], "shape='8': give rows and columns like 28x28"),
    (["train", "--out={out}", "--shape=0x8"], "shape=0: must lie between 1 and"),
    (["train", "--out={out}", "--scale=nan"], "scale=nan: must be a positive number"),
    (["train", "--out={out}", "--validation=1"], "validation=1.0: must be a share"),
    (["train", "--out={out}", "--validation=0.5", "--test=0.5"], "nothing is left for training"),
    (["train", "--out={out}", "--test=-1"], "test=-1.0: must be a share"),
    (["train", "--out={out}", "--split-seed=-1"], "split_seed=-1: must lie between 0"),
    (["train", "--out={out}", "--likelihood=poisson"], "likelihood='poisson': choose one of"),
    (["train", "--out={out}", "--likelihood=categorical"], "are numbers, not classes"),
    (["train", "--out={out}", "--binarise=twice"], "binarise='twice': choose one of once"),
    (["train", "--out={out}", "--binarise=none"], "is a task of zeros and ones"),
    (["train", "--out={out}", "--encoder=9"], "encoder=9: the prior as proposal has no encoder"),
    (["train", "--out={out}", "--stochastic=9"], "stochastic=9: only the networks hybrid"),
    (["train", "--out={out}", "--kept=20"], "kept=20: give fewer than the 20 particles"),
    (["train", "--out={out}", "--kept=2", "--estimator=vimco"], "kept=2:", "leave --kept out"),
    (["train", "--out={out}", "--compile", "--estimator=nvil"], "compile:", "leave --compile out"),
    (["train", "--out={out}", "--preset=slow"], "preset='slow': choose one of fast"),
    (["train", "--out={out}", "--preset="], "preset='': choose one of fast"),
    (["train", "--out={out}", "--preset=fast", "--epochs=9"], "--epochs is set by --preset fast"),
    (["train", "--out={out}", "--preset=fast", "--data=digits"], "--data is set by --preset fast"),
    (["train", "--out={out}", "--preset=fast", "--precision=half"], "precision='half': choose one"),
    (["train", "--resume={run}", "--preset=fast"], "--preset has no effect with --resume"),
    (["train", "--out={out}", "--noise=inf"], "noise=inf: must be 0 or a positive"),
    (["train", "--out={out}", "--optimizer=lbfgs"], "optimizer='lbfgs': choose one of sgd"),
    (["train", "--out={out}", "--weight-decay=-1"], "weight_decay=-1.0: must be finite"),
    (["train", "--out={out}", "--ema=1"], "ema=1.0: must lie in [0, 1)"),
    (["train", "--out={out}", "--patience=-1"], "patience=-1: must lie between 0"),
    (["train", "--out={out}", "--precision=float16"], "precision='float16': choose one of float32"),
    (["evaluate", ""], "'' is an empty path"),
    (["evaluate", "{pipe}"], "holds no model.safetensors"),
    (["evaluate", "/dev/null"], "holds no model.safetensors"),
    (["evaluate", "{run}", "--quiet", "--json", "--out="], "--out", "'' is an empty path"),
    (["evaluate", "{run}", "--particles=1" + "0" * 30], "particles=1000", "must lie between"),
    (["complete", "{run}", "--json", "--out="], "--out", "'' is an empty path"),
    (["complete", "{run}", "--out={pipe}"], "is a pipe: give another path"),
    (["complete", "{run}", "--out=/dev/null"], "is a device: give another path"),
    (["complete", "{run}", "--out={link}"], "is a link", "shall not be replaced"),
    (["complete", "{run}", "--out={run}"], "is a folder: give another path"),
    (["complete", "{run}", "--samples=1" + "0" * 22], "samples=1000", "must lie between 1 and 900"),
    (["complete", "{run}", "--seed=1" + "0" * 22], "seed=1000", "must lie between 0"),
    (["demo", "--quiet", "--json", "--out="], "--out", "'' is an empty path"),
    (["reproduce", "theorem1", "--out="], "--out", "'' is an empty path"),
    (["reproduce", "theorem1", "--out={out}", "--device=meta"], "device='meta': give cpu"),
    (["reproduce", "theorem1", "--out={out}", "--quick"], "no --quick version, only table1"),
    (["reproduce", "report", "--out={out}"], "holds no results"),
    (["reproduce", "report", "--out={run}"], "holds no results"),
    (["reproduce", "theorem1", "--out={out}", "--gpus=1", "--dry-run"], "--gpus has no effect"),
    (["train", "--out={out}", "--hidden=9000000"], "batch_size=100", "needs at least"),
    (
        ["train", "--out={out}", "--estimator=rws", "--encoder=900000000"],
        "encoder=900000000, hidden=[200, 200]: needs at least",
        "give a smaller --encoder",
    ),
    (["train", "--out={out}", "--hidden=" + "1," * 5000 + "1"], "number of layers=5001: must lie"),
    (["train", "--out={out}", "--epochs=1.5"], "--epochs='1.5': give a whole", "sfnn train --help"),
    (["train", "--out={out}", "--noise="], "--noise='': give a number", "sfnn train --help"),
    (["train", "--out={out}", "--hidden=" + "9" * 5000], "hidden='999", "give widths like"),
    (["data", "describe", "{out}/a\nb\x1b[31m.csv"], "a\\nb\\x1b[31m.csv cannot be read"),
    (["export", "{run}", "--out={out}", "--recognition-epochs=-1"], "recognition_epochs=-1: must"),
    (["export", "{run}", "--out={out}", "--recognition-epochs=1" + "0" * 30], "must lie between 0"),
    (["export", "{run}", "--out={out}", "--examples=" + "9" * 5000], "examples='999", "give row"),
    (["reproduce", "theorem1", "--out={out}", "--workers=1" + "0" * 20], "workers=1000", "10000"),
    (["reproduce", "theorem1", "--out={out}", "--cores=0"], "cores=0: must lie between 1"),
    (["trian"], "No such command 'trian'"),
    (["evaluate"], "Missing argument 'RUN'"),
    (["evaluate", "{out}"], "holds no model.safetensors: give the folder"),
    (["evaluate", "{begun}"], "complete it with 'sfnn train --resume"),
    (["evaluate", "{file}"], "is no file of sfnn_pyro"),
    (["evaluate", "{run}", "--proposal=guide"], "holds no guide: leave --proposal out"),
    (["evaluate", "{run}", "--particles=0"], "sfnn: particles=0: must lie between 1"),
    (["evaluate", "{run}", "--split=all"], "split='all': choose train, validation or test"),
    (["complete", "{out}"], "holds no model.safetensors"),
    (["complete", "{run}", "--rows=0"], "rows=0: must lie between 1 and 300"),
    (["complete", "{run}", "--rows=301"], "rows=301: must lie between 1 and 300"),
    (["complete", "{run}", "--samples=0"], "samples=0: must lie between 1"),
    (["complete", "{run}", "--out={out}/a.xyz"], "pictures can be", "not xyz"),
    (["complete", "{run}", "--out={file}/a.png"], "a.png cannot be written (Not a directory)"),
    (["demo", "--epochs=0", "--out={out}"], "epochs=0"),
    (["demo", "--out={file}"], "cannot be used"),
    (["data", "download", "nowhere"], "'nowhere' is no data set to download: choose one of"),
    (["data", "download", "tfd"], "'tfd' cannot be downloaded"),
]


@pytest.fixture
def command_line(tmp_path, monkeypatch):
    """Folders that the rows name, and no data but the embedded."""
    torch.set_default_dtype(torch.float32)
    monkeypatch.setenv(VARIABLE, str(tmp_path / "empty"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "empty"))
    return {
        name: tmp_path / name for name in ("out", "run", "begun", "file", "stray", "pipe", "link")
    }


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """One trained run folder for all rows."""
    from sfnn_pyro.runs import train_run

    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    folder = tmp_path_factory.mktemp("trained")
    schedule = Schedule(epochs=1, batch_size=400, learning_rate=0.01)
    train_run(RunConfig(hidden=(3,), particles=2, schedule=schedule), folder)
    torch.set_default_dtype(before)
    return folder


@pytest.mark.parametrize(
    "row", COMMAND_LINES, ids=lambda row: " ".join(row[0]).replace("{out}", "O")[:50]
)
def test_a_bad_command_line_is_one_line_and_leaves_nothing(capsys, command_line, trained, row):
    arguments, *parts = row
    folders = {**command_line, "run": trained}
    folders["file"].write_text("something")
    folders["link"].symlink_to(folders["file"])
    os.mkfifo(folders["pipe"])
    for name, file in (("begun", "config.json"), ("stray", "model.safetensors")):
        folders[name].mkdir()
        (folders[name] / file).write_text("{}")
    if row[0] == ["train", "--out={stray}"]:
        stray = folders["stray"]
        stray.joinpath("model.safetensors").rename(stray / "best.safetensors")
        parts = ["holds best.safetensors but no config.json"]
    before = {path.name: path.read_bytes() for path in trained.iterdir()}
    result = sfnn(capsys, *(argument.format(**folders) for argument in arguments))
    assert_refused(result, *parts)
    assert "Traceback" not in result.out
    assert not folders["out"].exists()
    assert folders["file"].read_text() == "something" and folders["link"].is_symlink()
    assert folders["pipe"].is_fifo()
    assert {path.name: path.read_bytes() for path in trained.iterdir()} == before


def packed(shape, values):
    header = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
    return gzip.compress(header + values)


@pytest.mark.parametrize(
    ("contents", "part"),
    [
        (packed((60000, 28, 28), bytes(10))[:-9], "is damaged"),
        (packed((60000, 28, 28), bytes(10))[:15], "is damaged"),
        (b"\x1f\x8bnot gzip at all", "is damaged"),
        (b"<html>not found</html>", "SHA-256"),
        (packed((5, 28, 28), bytes(5 * 784)), "SHA-256"),
        (b"", "SHA-256"),
    ],
)
def test_a_bad_mnist_file_is_named(capsys, command_line, tmp_path, contents, part):
    folder = tmp_path / "empty" / "mnist"
    folder.mkdir(parents=True)
    (folder / "train-images-idx3-ubyte.gz").write_bytes(contents)
    result = sfnn(capsys, "train", "--out", command_line["out"], "--data=mnist", *TINY)
    assert_refused(result, "train-images-idx3-ubyte", part)
    assert not command_line["out"].exists()


CONFIGURATIONS = [
    ("", "not JSON"),
    ("{", "not JSON"),
    ("[" * 100_000, "not JSON"),
    ("1" * 5000, "not JSON"),
    ("[]", "not a table"),
    ("null", "not a table"),
    ('{"schedule": []}', "not a table"),
    ('{"colour": "red"}', "unknown key 'colour'"),
    ('{"schedule": {"colour": 1}}', "unknown key 'colour'"),
    ('{"particles": "20"}', "particles='20' in the configuration: expected int"),
    ('{"particles": true}', "particles=True in the configuration: expected int"),
    ('{"particles": 2.0}', "particles=2.0 in the configuration: expected int"),
    ('{"particles": 0}', "particles=0"),
    ('{"hidden": 20}', "hidden=20"),
    ('{"hidden": "200"}', "hidden='200'"),
    ('{"hidden": [2.5]}', "hidden=[2.5]"),
    ('{"hidden": [null]}', "hidden=[None]"),
    ('{"hidden": []}', "hidden=[]"),
    ('{"data": 3}', "data=3"),
    ('{"estimator": "g9"}', "estimator='g9'"),
    ('{"network": null}', "network=None"),
    ('{"schedule": {"learning_rate": NaN}}', "learning_rate=nan"),
    ('{"schedule": {"learning_rate": "fast"}}', "expected float"),
    ('{"schedule": {"epochs": 1e3}}', "expected int"),
    ('{"schedule": {"rising_epochs": 0}}', "rising_epochs=0"),
]


@pytest.mark.parametrize(("text", "part"), CONFIGURATIONS)
def test_a_bad_configuration_is_named(capsys, command_line, tmp_path, text, part):
    folder = tmp_path / "configured"
    folder.mkdir()
    (folder / "config.json").write_text(text)
    result = sfnn(capsys, "train", "--resume", folder)
    assert_refused(result, f"{folder / 'config.json'}: ", part)
    assert [path.name for path in folder.iterdir()] in (["config.json"], [".lock", "config.json"])


def test_a_configuration_that_is_not_text_is_named(capsys, command_line, tmp_path):
    (tmp_path / "config.json").write_bytes(b"\xff\xfe\x00")
    assert_refused(sfnn(capsys, "train", "--resume", tmp_path), "config.json")


MODELS = [
    ({}, "does not hold a whole model ('config')"),
    ({"config": 3, "provenance": {}, "state": {}}, "does not hold a whole model"),
    ({"config": "{}", "provenance": 3, "state": {}}, "does not hold a whole model"),
    ({"config": "{}", "provenance": {}, "state": {}}, "does not hold a whole model"),
    ({"config": "{}", "provenance": {}, "state": 3}, "does not hold a whole model"),
    ({"config": '{"data": "x"}', "provenance": {}, "state": {}}, "no data set 'x'"),
    ({"config": "{}", "provenance": {"split_seed": 7}, "state": {}}, "trained on other digits"),
]


@pytest.mark.parametrize(("contents", "part"), MODELS)
def test_a_model_file_with_other_contents_is_refused(
    capsys, command_line, tmp_path, contents, part
):
    write_first_format(tmp_path / "model.pt", "model 1", contents)
    assert_refused(sfnn(capsys, "evaluate", tmp_path), part)


METADATA = [
    ({}, "does not hold a whole model ('provenance')"),
    ({"provenance": "{}"}, "does not hold a whole model ('config')"),
    ({"config": "3", "provenance": "{}"}, "in the configuration is not a table"),
    ({"config": "{}", "provenance": "3"}, "does not hold a whole model"),
    ({"config": "{}", "provenance": "[" * 10**5}, "does not hold a whole model"),
    ({"config": "{}", "provenance": "{}"}, "state has the fields []"),
    ({"config": '{"data": "x"}', "provenance": "{}"}, "no data set 'x'"),
    ({"config": "{}", "provenance": '{"split_seed": 7}'}, "trained on other digits"),
]


@pytest.mark.parametrize(("metadata", "part"), METADATA)
def test_a_model_file_with_other_metadata_is_refused(
    capsys, command_line, tmp_path, metadata, part
):
    write_weights(tmp_path / "model.safetensors", "model", {}, metadata)
    assert_refused(sfnn(capsys, "evaluate", tmp_path), part)


def model_and_guide(likelihood="bernoulli"):
    model = SFNN([2, 3, 4], likelihood)
    return model, PriorProposal(model)


def loss(x, y, likelihood="bernoulli"):
    model, guide = model_and_guide(likelihood)
    return G4(2).loss(model, guide, x, y)


def likelihood_of(x, y, likelihood="bernoulli"):
    return log_likelihood(SFNN([2, 3, 4], likelihood), x, y, num_particles=3)


ones, zeros = torch.ones, torch.zeros
ARGUMENTS = [
    (lambda: SFNN([]), ValueError, r"sizes=\[\]: give an input width"),
    (lambda: SFNN([3, 2]), ValueError, "at least one hidden width"),
    (lambda: SFNN([3, 0, 2]), ValueError, r"sizes=\[3, 0, 2\]"),
    (lambda: SFNN([-1, 3, 2]), ValueError, r"sizes=\[-1, 3, 2\]"),
    (lambda: SFNN([3, 3, 2], "poisson"), ValueError, "likelihood='poisson': choose one of"),
    (lambda: SFNN([3, 3, 2], data_size=0), ValueError, "data_size=0"),
    (lambda: SFNN([2, 3, 4], data_size=1)(zeros(2, 2)), ValueError, "larger than data_size=1"),
    (lambda: loss(ones(5, 3), ones(5, 4)), ValueError, r"x has shape \(5, 3\), expected \(B, 2\)"),
    (lambda: loss(ones(5), ones(5, 4)), ValueError, r"x has shape \(5,\)"),
    (lambda: loss(ones(5, 2), ones(5, 3)), ValueError, r"y has shape \(5, 3\), expected \(5, 4\)"),
    (lambda: loss(ones(5, 2), ones(4, 4)), ValueError, r"y has shape \(4, 4\)"),
    (lambda: loss(ones(5, 2), ones(5, 4), "categorical"), ValueError, "y has shape"),
    (lambda: loss(zeros(0, 2), zeros(0, 4)), ValueError, "with B at least 1"),
    (lambda: loss(ones(5, 2).float(), ones(5, 4)), ValueError, "x is torch.float32 on cpu, the"),
    (lambda: loss(ones(5, 2).long(), ones(5, 4)), ValueError, "x is torch.int64 on cpu"),
    (lambda: loss(ones(5, 2), ones(5, 4).bool()), ValueError, "y is torch.bool on cpu, the model"),
    (lambda: loss(ones(5, 2).to("meta"), ones(5, 4)), ValueError, "x is torch.float64 on meta"),
    (lambda: loss(ones(5, 2) * math.nan, ones(5, 4)), ValueError, "argument 1 .* holds NaN or inf"),
    (lambda: loss(ones(5, 2), ones(5, 4) / 0), ValueError, "argument 2 .* holds NaN or inf"),
    (lambda: loss(ones(2, 2), ones(2), "categorical"), ValueError, "float64 on cpu, expected lab"),
    (
        lambda: loss(ones(1, 2), labels(4), "categorical"),
        ValueError,
        "from 4 to 4, the model has 4",
    ),
    (lambda: loss(ones(1, 2), labels(-1), "categorical"), ValueError, "labels from -1 to -1"),
    (lambda: likelihood_of(ones(5, 2), ones(4, 4)), ValueError, r"\[4, 5\] datapoints"),
    (lambda: likelihood_of(ones(0, 2), ones(0, 4)), ValueError, "at least one"),
    (lambda: likelihood_of(2.0, 3.0), ValueError, "at least one"),
    (lambda: Split(ones(2, 3), ones(2, 3)), DataError, "float64 of shape .* give float32"),
    (lambda: Split(ones(2, 3).float(), ones(3, 3).float()), DataError, "2 rows and y 3"),
    (lambda: Split(ones(2).float(), ones(2, 3).float()), DataError, r"shape \(2,\)"),
    (lambda: Split(ones(1, 1).float() * math.nan, ones(1, 1).float()), DataError, "x holds NaN"),
    (lambda: Split(ones(1, 1).float(), ones(1, 1).float() / 0), DataError, "y holds NaN"),
    (lambda: Schedule(rising_epochs=math.nan), ValueError, "rising_epochs=nan"),
    (lambda: Schedule(weight_decay=-1e-4), ValueError, "weight_decay=-0.0001: must be finite"),
    (lambda: Schedule(weight_decay=math.nan), ValueError, "weight_decay=nan"),
    (lambda: RunConfig(particles=0), RunError, "particles=0"),
    (
        lambda: Trainer(*model_and_guide(), G4(2), Split(*empty()), Split(*empty()), Schedule()),
        ValueError,
        "training data are empty",
    ),
    *[
        (lambda estimator=estimator, bad=bad: estimator(bad), ValueError, f"num_particles={bad}")
        for estimator in ESTIMATORS.values()
        for bad in (0, -1)
    ],
]


def labels(*values):
    return torch.tensor(values)


def empty():
    return zeros(0, 2).float(), zeros(0, 4).float()


@pytest.mark.parametrize(("call", "kind", "message"), ARGUMENTS)
def test_a_bad_argument_is_named(call, kind, message):
    with pytest.raises(kind, match=message):
        call()


def test_every_command_line_option_that_takes_a_value_is_in_the_table():
    from typer.main import get_command

    from sfnn_pyro.cli import app

    tried = {part.partition("=")[0] for row in COMMAND_LINES for part in row[0]}
    commands = get_command(app).commands
    for name in ("demo", "train", "evaluate", "complete"):
        for parameter in commands[name].params:
            option = next((o for o in parameter.opts if o.startswith("--")), None)
            if option not in (None, "--help") and (name, option) != ("demo", "--seed"):
                assert option in tried, f"{name} {option} has no row"


def test_the_evaluation_record_is_json_for_any_reader(capsys, command_line, trained):
    """Also where nothing can be said about an error: no bare NaN."""
    sfnn(capsys, "evaluate", trained, "--particles=1")
    path = trained / "evaluation-test-1.json"
    json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(name))
    path.unlink()
