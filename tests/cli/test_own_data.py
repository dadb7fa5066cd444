"""A person's own files through the command line: described, trained on, changed."""

import json
import re
import shlex
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfnn_pyro.data import OwnData, load_own
from sfnn_pyro.runs import load_run, train_run
from sfnn_pyro.system.stop_requests import Interrupted
from tests.commands import TINY, assert_refused, sfnn


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "my pictures [1]"
    folder.mkdir()
    chance = np.random.default_rng(0)
    for number in range(30):
        grey = chance.integers(0, 256, (6, 6)).astype("u1")
        Image.fromarray(grey).save(folder / f"ü{number:02}.png")
    return folder


def test_a_folder_of_pictures_is_described_and_trained_on(capsys, pictures, tmp_path):
    found = json.loads(sfnn(capsys, "data", "describe", pictures, "--json").out)
    assert found["task"]["likelihood"] == "bernoulli"
    assert (found["task"]["train"], found["task"]["x_size"]) == (24, 18)
    run = tmp_path / "run"
    assert sfnn(capsys, "train", "--data", pictures, "--out", run, *TINY).code == 0
    assert json.loads((run / "config.json").read_text())["own"]["sha256"] == found["sha256"]
    assert sfnn(capsys, "evaluate", run, "--particles=2").code == 0
    (pictures / "ü00.png").unlink()
    assert_refused(
        sfnn(capsys, "evaluate", run, "--particles=2"), "is not the file of the training"
    )


def test_the_path_of_the_page_runs(capsys, pictures, tmp_path, monkeypatch):
    page = Path(__file__).parents[2] / "docs" / "own-data.md"
    commands = re.search(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    pictures.rename(tmp_path / "pictures")
    mask = np.full((6, 6), 255, "u1")
    mask[3:, 3:] = 0
    Image.fromarray(mask).save(tmp_path / "mask.png")
    monkeypatch.chdir(tmp_path)
    run, done = tmp_path / "run", set()
    for line in commands[1].splitlines():
        program, *arguments = shlex.split(line)
        result = sfnn(capsys, *arguments)
        assert (program, result.code) == ("sfnn", 0), result.err
        done.add(arguments[0])
    assert done == {"data", "train", "evaluate", "complete", "impute", "sample"}
    assert (run / "evaluation-test-20-guide.json").is_file()
    for name in ("completions.png", "imputations.png"):
        with Image.open(run / name) as picture:
            assert picture.width > 100
    with np.load(tmp_path / "draws.npz") as draws:
        assert draws["y"].shape == (16, 3, 18)


@pytest.mark.parametrize(
    "options",
    [
        ("--input=none", "--proposal=recognition", "--estimator=rws"),
        ("--input=left-half", "--network=hybrid", "--stochastic=2", "--binarise=epoch"),
        ("--network=coins", "--stochastic=2", "--ema=0.5", "--optimizer=adam"),
        ("--likelihood=gaussian", "--noise=0.1", "--patience=1", "--precision=bfloat16"),
        ("--particles=4", "--kept=2", "--optimizer=adamw", "--weight-decay=0.01"),
    ],
)
def test_every_kind_of_training_ends(capsys, pictures, tmp_path, options):
    run = tmp_path / "run"
    result = sfnn(capsys, "train", "--data", pictures, "--out", run, *TINY, *options)
    assert result.code == 0, result.err
    assert sfnn(capsys, "evaluate", run, "--particles=2").code == 0


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (("--stochastic=3",), "leave --stochastic out"),
        (("--kept=2",), "fewer than the 2 particles"),
        (("--optimizer=adam", "--momentum=0.5"), "leave --momentum out"),
        (("--input=none",), "leave --input out"),
        (("--shape=28",), "give rows and columns like 28x28"),
        (("--ema=1",), "must lie in [0, 1)"),
        (("--data=nowhere.csv",), "nowhere.csv cannot be read"),
        (("--data=/dev/null.npz",), "cannot be read"),
        (("--data=/dev",), "holds no pictures"),
    ],
)
def test_what_cannot_be_is_one_line_and_leaves_nothing(capsys, tmp_path, options, part):
    result = sfnn(capsys, "train", "--out", tmp_path / "run", *TINY, *options)
    assert_refused(result, part)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda path: None, "cannot be read (No such file or directory)"),
        (lambda path: path.mkdir(), "holds no pictures (it holds nothing)"),
        (lambda path: path.write_bytes(b"PK"), "is no NumPy archive"),
        (lambda path: path.write_bytes(b""), "is no NumPy archive"),
    ],
)
def test_what_cannot_be_read_is_one_line(capsys, tmp_path, make, part):
    path = tmp_path / "größe 試.npz"
    make(path)
    for command in (
        ("data", "describe", path),
        ("train", "--data", path, "--out", tmp_path / "run", *TINY),
    ):
        assert_refused(sfnn(capsys, *command), path.name, part)
    assert not (tmp_path / "run").exists()


def test_nan_is_described_and_refused(capsys, tmp_path):
    path = tmp_path / "pairs.npz"
    x = np.zeros((20, 3))
    x[7, 1] = np.nan
    np.savez(path, x=x, y=np.arange(20) % 2)
    described = sfnn(capsys, "data", "describe", path)
    assert described.code == 0
    assert "1 NaN or infinite" in described.out
    assert "cannot be trained on yet" in described.out and "number 7 (from 0)" in described.out
    assert_refused(
        sfnn(capsys, "train", "--data", path, "--out", tmp_path / "run", *TINY),
        "1 of 20 datapoints hold NaN or infinity, the first is number 7 (from 0) with nan",
    )
    assert not (tmp_path / "run").exists()


def write_npz(folder, value=0.0):
    np.savez(folder / "d.npz", x=np.full((20, 3), value), y=np.arange(20) % 2)
    return folder / "d.npz", ()


def write_npy_pair(folder, value=0.0):
    np.save(folder / "x.npy", np.full((20, 3), value))
    np.save(folder / "y.npy", np.arange(20) % 2)
    return folder / "x.npy", ("--x=0-2", f"--y={folder / 'y.npy'}")


def write_csv(folder):
    rows = "".join(f"{n}.5,1,2,{'odd' if n % 2 else 'even'}\n" for n in range(20))
    (folder / "t.csv").write_text("a,b,ç,kind\n" + rows, encoding="utf-8")
    return folder / "t.csv", ("--x=a,1,ç", "--y=kind")


def write_safetensors(folder):
    save = pytest.importorskip("safetensors.numpy").save_file
    save({"x": np.zeros((20, 3), "f4"), "y": np.arange(20) % 2}, folder / "d.safetensors")
    return folder / "d.safetensors", ()


@pytest.mark.parametrize("write", [write_npz, write_npy_pair, write_csv, write_safetensors])
def test_each_kind_of_file_is_described_and_trained_on(capsys, tmp_path, write):
    path, options = write(tmp_path)
    path.chmod(0o444)
    before = path.read_bytes()
    found = json.loads(sfnn(capsys, "data", "describe", path, *options, "--json").out)
    assert found["problem"] is None
    task = found["task"]
    assert (task["likelihood"], task["x_size"], task["y_size"]) == ("categorical", 3, 2)
    run = tmp_path / "run"
    result = sfnn(capsys, "train", "--data", path, *options, "--out", run, *TINY)
    assert result.code == 0, result.err
    assert sfnn(capsys, "evaluate", run, "--particles=2").code == 0
    assert path.read_bytes() == before


@pytest.mark.parametrize("write", [write_npz, write_npy_pair])
def test_data_that_were_moved_are_named_and_checked(capsys, tmp_path, write):
    old, new, run = tmp_path / "old", tmp_path / "neu [ü]", tmp_path / "run"
    old.mkdir()
    path, options = write(old)
    assert sfnn(capsys, "train", "--data", path, *options, "--out", run, *TINY).code == 0
    value = sfnn(capsys, "evaluate", run, "--particles=2").out.partition("\n")[0]
    old.rename(new)
    moved = new / path.name
    before = sorted(run.iterdir())
    result = sfnn(capsys, "evaluate", run, "--particles=2")
    assert_refused(result, f"{path} does not exist", "with --data")
    result = sfnn(capsys, "evaluate", run, "--particles=2", "--data", moved)
    assert (result.code, result.out.partition("\n")[0]) == (0, value), result.err
    assert sfnn(capsys, "sample", run, "--data", moved, "--out", new / "s.npz").code == 0
    assert load_run(run, moved).config.data == str(moved)
    write(new, 1.0)
    assert_refused(sfnn(capsys, "sample", run, "--data", moved), "is not the file of the training")
    assert_refused(sfnn(capsys, "sample", run, "--data="), "is an empty path")
    assert sorted(run.iterdir()) == before


def test_a_training_resumes_after_its_pictures_were_moved(capsys, pictures, tmp_path, monkeypatch):
    def stop(trainer, mean):
        raise Interrupted(15)

    train = ("train", "--data", pictures, *TINY)
    assert sfnn(capsys, *train, "--out", tmp_path / "whole").code == 0
    with monkeypatch.context() as patched:
        patched.setattr(
            "sfnn_pyro.cli.train.train_run",
            lambda *values, **options: train_run(*values, **{**options, "on_step": stop}),
        )
        assert sfnn(capsys, *train, "--out", tmp_path / "run").code == 143
    moved = pictures.rename(tmp_path / "elsewhere")
    resume = ("train", "--resume", tmp_path / "run")
    assert_refused(sfnn(capsys, *resume), "does not exist", "with --data")
    assert_refused(sfnn(capsys, *resume, "--data=digits"), "digits does not exist")
    assert sfnn(capsys, *resume, "--data", moved).code == 0
    assert load_run(tmp_path / "run").config.data == str(moved)
    assert json.loads((tmp_path / "run" / "config.json").read_text())["data"] == str(moved)
    whole, run = (load_run(tmp_path / name, moved) for name in ("whole", "run"))
    for name, weight in whole.model.state_dict().items():
        assert run.model.state_dict()[name].equal(weight)
    assert sfnn(capsys, *resume).code == 0


def test_data_that_have_a_name_have_no_place(capsys, tmp_path):
    run = tmp_path / "run"
    assert sfnn(capsys, "train", "--out", run, *TINY).code == 0
    assert_refused(
        sfnn(capsys, "evaluate", run, "--data=x.npz"),
        "was trained on the data set digits",
        "leave --data out",
    )


def test_bytes_of_zeros_and_ones_are_bits(capsys, tmp_path):
    bits = (np.arange(240).reshape(20, 12) % 2).astype("u1")
    np.savez(tmp_path / "d.npz", x=bits * 255, y=bits)
    found = json.loads(sfnn(capsys, "data", "describe", tmp_path / "d.npz", "--json").out)
    assert found["task"]["likelihood"] == "bernoulli"
    data = load_own(tmp_path / "d.npz")
    assert data.train.x.unique().tolist() == data.train.y.unique().tolist() == [0, 1]


def test_grey_values_that_are_not_scaled_get_a_hint(capsys, tmp_path):
    np.savez(tmp_path / "d.npz", pictures=np.arange(20 * 64.0).reshape(20, 8, 8) % 256)
    told = sfnn(capsys, "data", "describe", tmp_path / "d.npz").out
    assert "Likelihood: gaussian" in told and "give --scale 255)" in told
    told = sfnn(capsys, "data", "describe", tmp_path / "d.npz", "--scale=255").out
    assert "Likelihood: bernoulli" in told


TABLE = [["a", "b", "kind"], *[[f"{n}.5", str(n), "xy"[n % 2]] for n in range(12)]]


@pytest.mark.parametrize(
    ("line", "column", "value", "part"),
    [
        (1, 0, "NA", "line 3, column 'a': '1.5' is a number, and 'NA' above it is none"),
        (1, 0, "", "line 2, column 'a': there is no value"),
        (5, 0, "-", "line 6, column 'a': '-' is no number"),
        (5, 2, "", "line 6, column 'kind': there is no value"),
        (5, 2, "7", "line 6, column 'kind': '7' is a number, and 'x' above it is none"),
        (1, 0, "0,5", "line 2, column 'a': '0,5' has a decimal comma"),
        (5, 2, "a\0", "it holds null characters"),
        (0, 1, "2019", "line 2, column '0': '0.5' is a number, and 'a' above it is none"),
    ],
)
def test_a_column_of_a_table_has_one_kind_of_values(capsys, tmp_path, line, column, value, part):
    rows = [list(row) for row in TABLE]
    rows[line][column] = value
    path = tmp_path / "t.csv"
    path.write_text("".join(";".join(row) + "\n" for row in rows))
    result = sfnn(capsys, "data", "describe", path, "--y=kind")
    assert_refused(result, part)


def test_two_arrays_of_one_name_are_refused(capsys, tmp_path):
    np.savez(tmp_path / "d.npz", x=np.zeros((20, 3)), y=np.arange(20) % 2)
    with zipfile.ZipFile(tmp_path / "d.npz", "a") as archive:
        archive.writestr("y", archive.read("y.npy"))
    result = sfnn(capsys, "data", "describe", tmp_path / "d.npz")
    assert_refused(result, "d.npz holds two arrays 'y'")


def save_arrays(path, **arrays):
    np.savez(path, **{"x": np.zeros((20, 4)), "y": np.arange(20) % 2, **arrays})


@pytest.mark.parametrize(
    ("arrays", "options", "part"),
    [
        ({}, ("--x=x", "--y=x"), "share values"),
        ({}, ("--x=x:0-2", "--y=x:2,3"), "share values"),
        ({"y": np.ones(20, int)}, (), "the same class for every datapoint"),
        ({"x": np.zeros((0, 4))}, (), "holds no datapoints"),
        ({"x": np.zeros(())}, (), "holds a single value"),
        ({"x": np.zeros((20, 3, 4))}, ("--x=x", "--input=upper-half"), "pictures have 3 rows"),
        ({"x": np.ones((20, 4))}, ("--scale=1e-320",), "become infinite: give a larger --scale"),
        ({"x": np.zeros((1, 4)), "y": np.ones((1, 4))}, (), "d.npz holds 1 datapoint, and 3 are"),
        ({"x": np.zeros((20, 1))}, ("--x=x", "--input=left-half"), "rows of 1 value, no pictures"),
    ],
)
def test_what_makes_no_task_is_one_sentence(capsys, tmp_path, arrays, options, part):
    save_arrays(tmp_path / "d.npz", **arrays)
    described = sfnn(capsys, "data", "describe", tmp_path / "d.npz", *options)
    assert described.code == 0 and part in described.out
    train = ("train", "--data", tmp_path / "d.npz", "--out", tmp_path / "run", *TINY)
    assert_refused(sfnn(capsys, *train, *options), part)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("option", ["--likelihood=poisson", "--binarise=maybe"])
def test_a_name_that_there_is_not_is_refused_by_describe(capsys, tmp_path, option):
    save_arrays(tmp_path / "d.npz")
    result = sfnn(capsys, "data", "describe", tmp_path / "d.npz", option)
    assert_refused(result, "choose one of")


def test_pictures_of_bytes_and_of_more_shades_are_alike(capsys, pictures):
    deep = np.full((6, 6), 65535, "u2")
    Image.fromarray(deep).save(pictures / "deep.png")
    data = load_own(pictures, OwnData(input="none"), likelihood="gaussian")
    assert data.train.y.max() <= 1


@pytest.mark.parametrize(
    ("make", "part"),
    [
        (lambda path: path.write_bytes(b""), "a.png is no picture that can be read (it is empty"),
        (
            lambda path: Image.fromarray(np.full((6, 6), 200, "f4")).save(path, "tiff"),
            "a.png has grey values from 200 to 200: they must lie between 0 and 1",
        ),
        (
            lambda path: Image.fromarray(np.full((6, 6), 70000, "i4")).save(path, "tiff"),
            "they must lie between 0 and 65535",
        ),
    ],
)
def test_a_picture_that_cannot_be_read_is_one_line(capsys, pictures, make, part):
    make(pictures / "a.png")
    assert_refused(sfnn(capsys, "data", "describe", pictures), part)


def test_links_to_folders_are_said_to_be_left_out(capsys, pictures, tmp_path):
    (tmp_path / "more").mkdir()
    (pictures / "linked").symlink_to(tmp_path / "more")
    assert "left out, no pictures: 1 file, linked" in sfnn(capsys, "data", "describe", pictures).out


def test_one_test_datapoint_has_no_error(capsys, tmp_path):
    save_arrays(tmp_path / "d.npz")
    train = ("train", "--data", tmp_path / "d.npz", "--test=0.01", "--out", tmp_path / "run")
    assert sfnn(capsys, *train, *TINY).code == 0
    told = sfnn(capsys, "evaluate", tmp_path / "run", "--particles=2").out
    assert " nats" in told and "nan" not in told and "±" not in told
