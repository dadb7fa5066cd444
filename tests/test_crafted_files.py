"""Checkpoints and models with a valid checksum and any field replaced: refused, never loaded."""

import copy
import io
import random
import shutil
import zipfile
from collections import Counter
from pathlib import Path

import pytest
import torch

from sfnn_pyro.runs import RunConfig, load_run, train_run
from sfnn_pyro.runs.checkpointed import Interrupted
from sfnn_pyro.system.sealed_files import read_sealed, write_sealed
from sfnn_pyro.system.tensor_archive import ArchiveError, read_archive
from sfnn_pyro.training import Schedule
from tests.first_format import write_first_format
from tests.model_files import read_model_file, write_model_file

FIRST_RELEASE = Path(__file__).with_name("fixtures") / "first-release"

VARIANTS = 150
"""Of each estimator; ``python -m tests.test_crafted_files 10000`` tries more."""


KINDS = ("g1", "g3", "learned")
LEARNED = {"estimator": "rws", "proposal": "recognition", "encoder": 2}
OPTIONS = {"learned": {**LEARNED, "optimizer": "adam", "ema": 0.5, "patience": 1}}
"""Of a training with more in its checkpoint than that of an estimator."""


def config_of(kind):
    schedule = Schedule(epochs=2, batch_size=400, learning_rate=0.01)
    options = OPTIONS.get(kind, {"estimator": kind})
    return RunConfig(hidden=(3,), particles=2, schedule=schedule, **options)


def interrupted(folder, config):
    """A run folder with a checkpoint of its fourth step, one after the first epoch."""

    def on_step(trainer, mean):
        if trainer.steps == 4:
            raise Interrupted(15)

    with pytest.raises(Interrupted):
        train_run(config, folder, on_step=on_step)
    return folder


def fields(value, path=()):
    """The places of all fields of a table, from the outermost inwards."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else ()
    if isinstance(value, list | tuple):
        items = enumerate(value)
    for key, inner in items:
        yield from fields(inner, (*path, key))


def others(value, chance):
    """A value that is another one than that of a field."""
    number = 0.0 if torch.is_tensor(value) or not isinstance(value, int | float) else value
    made = [
        None, True, -1, 0, 7, 2**70, 0.5, float("nan"), float("inf"), -1e300, "", "text", b"",
        [], {}, (), [value], {"a": value}, number + 1, torch.zeros(1), torch.zeros(()),
        torch.zeros(2, 2), torch.zeros(0), torch.ones(3, dtype=torch.uint8),
        torch.zeros(5056, dtype=torch.uint8), torch.full((5056,), 255, dtype=torch.uint8),
    ]  # fmt: skip
    if torch.is_tensor(value):
        made += [value.double(), value.flatten(), value.expand(2, *value.shape)]
        if value.dim():
            made.append(value[:1].clone())
        made += [torch.full_like(value, 255 if value.dtype == torch.uint8 else float("nan"))]
    if isinstance(value, dict) and value:
        some = chance.choice(list(value))
        made += [{k: v for k, v in value.items() if k != some}, {**value, "more": 1}]
    if isinstance(value, list | tuple) and value:
        made += [value[:-1], [*value, value[-1]], value[::-1]]
    return chance.choice(made)


def replaced(contents, chance):
    """Contents with one field replaced, the field's place, and its new value."""
    contents = copy.deepcopy(contents)
    path = chance.choice(list(fields(contents)))
    parents = [contents]
    for key in path[:-1]:
        parents.append(parents[-1][key])
    new = others(parents[-1][path[-1]], chance)
    for parent, key in zip(reversed(parents), reversed(path), strict=True):
        if isinstance(parent, tuple):
            new = tuple(new if i == key else one for i, one in enumerate(parent))
        else:
            parent[key] = new
            break
    return contents, path


def result_of(folder, config):
    """The bytes of a model that was trained to its end, or the text of the refusal."""
    try:
        train_run(config, folder)
    except ValueError as error:
        assert str(error) and "\n" not in str(error)
        return str(error)
    return (folder / "model.safetensors").read_bytes()


def try_variants(folder, count, estimator, seed=0):
    """Trains from variants of a checkpoint; how often a field was refused, or harmless."""
    config, chance = config_of(estimator), random.Random(seed)
    begun = interrupted(folder / "begun", config)
    contents = read_sealed(begun / "checkpoint.pt", "checkpoint")
    shutil.copytree(begun, folder / "whole")
    right = result_of(folder / "whole", config)
    counts = Counter()
    for number in range(count):
        variant, path = replaced(contents, chance)
        run = folder / "variant"
        shutil.copytree(begun, run)
        try:
            write_sealed(run / "checkpoint.pt", "checkpoint", variant)
            result = result_of(run, config)
        finally:
            shutil.rmtree(run)
        is_refused = isinstance(result, str)
        counts[".".join(map(str, path[:2])), "refused" if is_refused else "harmless"] += 1
        if not is_refused and path[:2] not in HARMLESS and path[:1] not in HARMLESS:
            assert result == right, f"variant {number}, {path}: another training"
    return counts


def total(counts, outcome):
    """How many of all variants had an outcome."""
    return sum(count for (_, found), count in counts.items() if found == outcome)


HARMLESS = {
    ("provenance",),  # says where data came from, which are at hand
    ("trainer", "history"),  # what was measured before
    ("trainer", "total"),  # of what is measured
    ("trainer", "parameters"),  # of the right shape, any finite numbers
    ("trainer", "optimizer"),
    ("trainer", "average"),
    ("trainer", "moment"),
}
"""Fields of which another value of the right form cannot be told from the true one."""


@pytest.fixture(autouse=True)
def float32():
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_any_field_of_a_checkpoint_replaced(tmp_path, kind):
    assert total(try_variants(tmp_path, VARIANTS, kind), "refused") > VARIANTS // 2


def refused_or_finite(path):
    """Whether a model is refused; one that is not is whole."""
    try:
        saved = load_run(path)
    except ValueError as error:
        assert str(error) and "\n" not in str(error)
        return True
    learned = saved.config.proposal != "prior"
    modules = [saved.model, *([saved.guide] if learned else [])]
    assert all(p.isfinite().all() for one in modules for p in one.parameters())
    return False


def test_any_field_of_a_model_of_the_first_format_replaced(tmp_path):
    chance, path = random.Random(1), tmp_path / "best.pt"
    shutil.copy(FIRST_RELEASE / "best.pt", path)
    contents = read_sealed(path, "model")
    refused = 0
    for _ in range(VARIANTS):
        write_first_format(path, "model 1", replaced(contents, chance)[0])
        refused += refused_or_finite(path)
    assert refused > VARIANTS // 2


@pytest.mark.parametrize("kind", ["g3", "learned"])
def test_any_field_of_a_model_replaced(tmp_path, kind):
    chance = random.Random(1)
    train_run(config_of(kind), tmp_path / "run")
    path = tmp_path / "run" / "model.safetensors"
    contents = read_model_file(path)
    refused = 0
    for _ in range(VARIANTS):
        variant = replaced(contents, chance)[0]
        try:
            write_model_file(path, variant)
        except (TypeError, AttributeError, ValueError):
            continue  # such a file cannot be written
        refused += refused_or_finite(path)
    assert refused > VARIANTS // 4


def test_momentum_of_another_shape_never_reaches_the_optimizer(tmp_path):
    config = config_of("g3")
    run = interrupted(tmp_path, config)
    contents = read_sealed(run / "checkpoint.pt", "checkpoint")
    slots = contents["trainer"]["optimizer"]["state"][0]
    for value in (torch.zeros(1), torch.zeros(3, 32).double(), None, torch.zeros(32, 3).T):
        slots["momentum_buffer"] = value
        write_sealed(run / "checkpoint.pt", "checkpoint", contents)
        if value is not None and value.shape == (3, 32) and value.dtype == torch.float32:
            assert isinstance(result_of(run, config), bytes)  # strides are no harm: it is copied
        else:
            assert "momentum" in result_of(run, config)


def archive_with(pickled=None, **records):
    """An archive of two numbers, with other contents."""
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(2, 2)}, buffer)
    made = io.BytesIO()
    with zipfile.ZipFile(buffer) as old, zipfile.ZipFile(made, "w") as new:
        for entry in old.infolist():
            raw = old.read(entry)
            if pickled and entry.filename.endswith("data.pkl"):
                raw = pickled(raw)
            new.writestr(entry.filename, records.get(entry.filename.partition("/")[2], raw))
    return made.getvalue()


def test_a_storage_that_states_more_than_it_holds_is_not_read():
    """``torch.load`` reads past its end."""
    assert read_archive(archive_with())["a"].sum() == 4
    with pytest.raises(ArchiveError, match="storage 0 states 200 numbers and holds 16 bytes"):
        read_archive(archive_with(lambda raw: raw.replace(b"cpuq\x06K\x04", b"cpuq\x06K\xc8")))
    with pytest.raises(ArchiveError, match="states 4 numbers and holds 4 bytes"):
        read_archive(archive_with(**{"data/0": bytes(4)}))
    with pytest.raises(ArchiveError, match="larger than its storage"):
        read_archive(archive_with(lambda raw: raw.replace(b"K\x02K\x02\x86", b"K\x02K\x09\x86")))
    with pytest.raises(ArchiveError, match=r"it holds a os\.system"):
        read_archive(archive_with(lambda raw: raw.replace(b"torch\nFloatStorage", b"os\nsystem")))


if __name__ == "__main__":
    import sys
    import tempfile

    wanted = int(sys.argv[1])
    for kind in KINDS:
        with tempfile.TemporaryDirectory() as place:
            counts = try_variants(Path(place), wanted, kind)
        print(f"checkpoint of {kind}: {total(counts, 'refused')} refused of {wanted}")
        for (field, outcome), count in sorted(counts.items()):
            print(f"  {field}: {count} {outcome}", flush=True)
