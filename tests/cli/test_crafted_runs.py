"""Run folders with any part replaced: every command ends with its result or with one line."""

import json
import os
import random
import shutil
from collections import Counter

import numpy as np
import pytest
import torch

from sfnn_pyro.runs import RunConfig, train_run
from sfnn_pyro.system.sealed_files import read_sealed, write_sealed
from sfnn_pyro.system.weight_files import read_weights
from sfnn_pyro.training import Schedule
from tests.commands import assert_refused, sfnn
from tests.model_files import read_model_file, write_model_file
from tests.test_crafted_files import interrupted, replaced

VARIANTS = 40
"""``SFNN_VARIANTS=10000`` in the environment tries more."""

COMMANDS = (
    ("evaluate", "--particles=2"),
    ("evaluate", "--particles=2", "--proposal=guide"),
    ("complete", "--rows=1", "--samples=1", "--out={out}/c.png"),
    ("sample", "--rows=2", "--samples=2", "--out={out}/s.npz"),
    ("impute", "--known={mask}", "--rows=2", "--particles=4", "--out={out}/i.npz"),
    ("train", "--print-config"),
    ("train", "--resume"),
)
CONFIG = RunConfig(
    hidden=(3,),
    particles=2,
    estimator="rws",
    proposal="recognition",
    encoder=2,
    schedule=Schedule(epochs=1, batch_size=600, learning_rate=0.01),
)
LITTLE = 50
"""Widths, particles and epochs of a variant are no more, or the time is that of a training."""


def other_text(path, chance):
    """Text with a field of JSON, or a cell of a table, replaced; or bytes cut or changed."""
    raw = path.read_bytes()
    kind = chance.randrange(4)
    if path.suffix == ".json" and kind:
        table, _ = replaced(json.loads(raw), chance)
        path.write_text(json.dumps(table, default=lambda value: None))
    elif path.suffix == ".csv" and kind > 1:
        cells = raw.decode().split(",")
        cells[chance.randrange(len(cells))] = chance.choice(["nan", "inf", "", "x", "1e999", "\0"])
        path.write_text(",".join(cells))
    elif raw:
        at = chance.randrange(len(raw))
        path.write_bytes(
            raw[:at] + bytes([chance.randrange(256)]) + raw[at + chance.randrange(2) :]
        )


def other_file(path, chance):
    """Something else in the place of a file."""
    path.unlink()
    kind = chance.randrange(6)
    if kind == 1:
        path.mkdir()
    elif kind == 2:
        os.mkfifo(path)
    elif kind == 3:
        path.symlink_to(chance.choice(["/dev/zero", "/dev/null", "nowhere", path.name, "/etc"]))
    elif kind == 4:
        path.write_bytes(b"")
    elif kind == 5:
        path.write_bytes(bytes(chance.randrange(256) for _ in range(300)))


def other_model(path, chance):
    """A model's file with a valid checksum, and a field of any of its parts replaced."""
    contents = read_model_file(path)
    while True:
        variant, _ = replaced(contents, chance)
        try:
            return write_model_file(path, variant)
        except (TypeError, AttributeError, ValueError):
            continue  # such a file cannot be written


def craft(run, chance):
    """Replaces a part of a run folder; the name of the file."""
    path = run / chance.choice([one.name for one in run.iterdir()])
    if chance.random() < 0.25:
        other_file(path, chance)
    elif path.suffix == ".safetensors":
        other_model(path, chance)
    elif path.suffix == ".pt":
        contents = read_sealed(path, "checkpoint")
        if chance.random() < 0.4:
            table, _ = replaced(json.loads(contents["config"]), chance)
            contents["config"] = json.dumps(table, default=lambda value: None)
        else:
            contents, _ = replaced(contents, chance)
        write_sealed(path, "checkpoint", contents)
    else:
        other_text(path, chance)
    return path.name


def is_long(run):
    """Whether a variant's own numbers ask for a training or a network that takes its time."""
    readers = {
        "config.json": lambda path: path.read_text(),
        "model.safetensors": lambda path: read_weights(path, "model")[1]["config"],
        "best.safetensors": lambda path: read_weights(path, "model")[1]["config"],
        "checkpoint.pt": lambda path: read_sealed(path, "checkpoint")["config"],
    }
    for name, read in readers.items():
        try:
            config = RunConfig.from_json(read(run / name) if (run / name).is_file() else "")
        except (ValueError, LookupError, TypeError, AttributeError):
            continue
        counts = (config.particles, config.schedule.epochs, config.encoder, *config.hidden)
        if max(counts) > LITTLE:
            return True
    return False


def complete(folder):
    train_run(CONFIG, folder)
    return folder


def begun(folder):
    """With a checkpoint of its second step, of four."""
    return interrupted(folder, RunConfig(**{**vars(CONFIG), "schedule": Schedule(2, 0.01, 400)}))


@pytest.mark.parametrize("make", [complete, begun])
def test_any_part_of_a_run_folder_replaced(capsys, tmp_path, make):
    torch.set_default_dtype(torch.float32)
    count = int(os.environ.get("SFNN_VARIANTS", VARIANTS))
    sound, run, out = make(tmp_path / "sound"), tmp_path / "run", tmp_path / "out"
    np.save(tmp_path / "mask.npy", np.arange(32) % 2)
    shutil.copytree(sound, run)
    assert sfnn(capsys, "train", "--resume", run, "--quiet").code == 0
    right = (run / "model.safetensors").read_bytes()
    shutil.rmtree(run)
    chance, counts = random.Random(make.__name__), Counter()
    for number in range(count):
        shutil.copytree(sound, run)
        name = craft(run, chance)
        if is_long(run):
            counts[name, "long"] += 1
            shutil.rmtree(run)
            continue
        command, *options = chance.choice(COMMANDS)
        words = [word.format(out=out, mask=tmp_path / "mask.npy") for word in options]
        if command == "train":
            words = ["--resume", run, *(word for word in words if word != "--resume")]
        else:
            words = [run, *words]
        result = (
            sfnn(capsys, command, *words, "--quiet")
            if command in ("train", "evaluate", "impute")
            else sfnn(capsys, command, *words)
        )
        told = f"variant {number}, {command}: {result}"
        assert result.code in (0, 1, 2), told
        if result.code:
            assert result.err.startswith("sfnn: ") and result.err.count("\n") == 1, told
        elif "--resume" in words and name not in ("config.json", "checkpoint.pt"):
            model = run / "model.safetensors"
            others = name == model.name or "--print-config" in words
            assert others or model.read_bytes() == right, told
        counts[name, "refused" if result.code else "done"] += 1
        assert not list(tmp_path.rglob(".*.??????*")), told  # nothing half written
        shutil.rmtree(run)
        shutil.rmtree(out, ignore_errors=True)
    with capsys.disabled():
        if count > VARIANTS:
            print(f"\nfolder of a {make.__name__} run: {count} variants")
            for (name, outcome), number in sorted(counts.items()):
                print(f"  {name}: {number} {outcome}", flush=True)
    assert {outcome for _, outcome in counts} >= {"refused", "done"}


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
@pytest.mark.parametrize("other", [{"hidden": (4,)}, {"particles": 3}])
def test_a_file_of_another_run_is_refused(capsys, tmp_path, name, other):
    torch.set_default_dtype(torch.float32)
    train_run(CONFIG, tmp_path / "run")
    train_run(RunConfig(**{**vars(CONFIG), **other}), tmp_path / "other")
    shutil.copy(tmp_path / "other" / name, tmp_path / "run" / name)
    result = sfnn(capsys, "train", "--resume", tmp_path / "run", "--quiet")
    assert_refused(result, "model.safetensors is of another configuration than", "config.json")


@pytest.mark.parametrize("text", ["", "null", "\0" * 100, "epoch,learning_rate\n"])
def test_a_history_without_its_columns_is_refused(capsys, tmp_path, text):
    torch.set_default_dtype(torch.float32)
    train_run(CONFIG, tmp_path)
    (tmp_path / "history.csv").write_text(text)
    result = sfnn(capsys, "train", "--resume", tmp_path, "--quiet")
    assert_refused(result, "history.csv is no history of a training")
