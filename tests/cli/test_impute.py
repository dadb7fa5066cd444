"""``sfnn impute`` and ``sfnn sample``: files of draws, masks of every kind, and what is refused."""

import gzip
import itertools
import json
import os

import numpy as np
import pytest
import torch
from PIL import Image

from sfnn_pyro.evaluation import exact_log_likelihood
from sfnn_pyro.runs import load_run
from tests.commands import TINY, assert_refused, sfnn
from tests.model_files import read_model_file, write_model_file

PNG = b"\x89PNG"
RWS = ("--proposal=recognition", "--estimator=rws", "--encoder=4")


@pytest.fixture
def run(capsys, tmp_path):
    """A run on the 8 x 8 digits: the lower 4 x 8 from the upper."""
    folder = tmp_path / "run [ü]"
    assert sfnn(capsys, "train", "--out", folder, *TINY, *RWS).code == 0
    return folder


@pytest.fixture
def without_inputs(capsys, tmp_path):
    """A run on 20 rows of 4 values of one's own, without inputs."""
    path = tmp_path / "rows.npy"
    np.save(path, np.random.default_rng(0).integers(0, 2, (20, 4)).astype("f4"))
    folder = tmp_path / "none"
    options = ("--data", path, "--input=none", "--out", folder)
    assert sfnn(capsys, "train", *options, *TINY, *RWS).code == 0
    return folder


def left(rows, columns=8):
    """A mask of the left half."""
    mask = np.zeros((rows, columns), bool)
    mask[:, : columns // 2] = True
    return mask


def save_picture(path, mask):
    Image.fromarray(np.where(mask, 255, 0).astype("u1")).save(path)


def whole():
    """A mask of whole digits, whose upper half is the input."""
    return np.concatenate([np.ones((4, 8), bool), left(4)])


def test_impute_draws_completions_and_says_what_they_are_worth(capsys, run, tmp_path):
    save_picture(tmp_path / "mask.png", left(4))
    result = sfnn(capsys, "impute", run, "--known", tmp_path / "mask.png", "--rows=3")
    assert result.code == 0, result.err
    nats, size, wrote = result.out.splitlines()
    assert nats.startswith("log-likelihood of 16 of 32 values, M = 1000, from the guide: -")
    assert size.startswith("effective sample size of 1000 particles: median ")
    assert wrote == f"Wrote {run / 'imputations.png'}"
    assert (run / "imputations.png").read_bytes().startswith(PNG)


@pytest.mark.parametrize("proposal", ["guide", "prior"])
def test_the_likelihood_of_the_known_part_is_exact(capsys, run, tmp_path, proposal):
    np.save(tmp_path / "mask.npy", left(4))
    options = ("--known", tmp_path / "mask.npy", "--rows=4", "--out", tmp_path / "d.npz")
    result = sfnn(capsys, "impute", run, *options, "--json", "--proposal", proposal)
    found = json.loads(result.out)
    assert (found["known"], found["unknown"], found["proposal"]) == (16, 16, proposal)
    saved = load_run(run)
    x, y = (part[found["index"]] for part in (saved.data.test.x, saved.data.test.y))
    # The model of the known half alone is the model without the other outputs.
    known = torch.from_numpy(left(4).reshape(-1))
    output = saved.model.layers[-1]
    part = type(saved.model)([32, 5, 16])
    part.layers[0].load_state_dict(saved.model.layers[0].state_dict())
    part.layers[1].load_state_dict({"weight": output.weight[known], "bias": output.bias[known]})
    exact = exact_log_likelihood(part, x, y[:, known])
    assert torch.tensor(found["log_likelihood_known"]) == pytest.approx(exact.detach(), abs=0.15)
    draws = np.load(tmp_path / "d.npz")
    assert draws["y"].shape == (10, 4, 32)
    np.testing.assert_array_equal(
        draws["y"][:, :, known], np.broadcast_to(y[:, known], (10, 4, 16))
    )
    assert set(np.unique(draws["y"])) <= {0.0, 1.0}
    np.testing.assert_array_equal(draws["index"], found["index"])
    assert (draws["effective_sample_size"] <= 1000).all()


@pytest.mark.parametrize(
    ("kind", "mask"),
    [
        *itertools.product(["png", "jpg", "npy", "npy.gz"], [left(4), whole()]),
        ("npy", left(4).reshape(-1)),
    ],
)
def test_a_mask_of_any_kind_and_size_is_the_same(capsys, run, tmp_path, kind, mask):
    path = tmp_path / f"maß ke [1].{kind}"
    if kind.startswith("npy"):
        np.save(tmp_path / "mask.npy", mask.astype("i8"))
        raw = (tmp_path / "mask.npy").read_bytes()
        path.write_bytes(gzip.compress(raw) if kind.endswith("gz") else raw)
    else:
        save_picture(path, mask)
    options = ("--known", path, "--rows=2", "--samples=2", "--particles=20")
    result = sfnn(capsys, "impute", run, *options, "--out", tmp_path / "a.npz", "--quiet")
    assert result.code == 0, result.err
    found = np.load(tmp_path / "a.npz")["known"]
    np.testing.assert_array_equal(found, left(4).reshape(-1))


def test_the_same_seed_gives_the_same_bytes(capsys, run, tmp_path):
    np.save(tmp_path / "mask.npy", left(4))

    def drawn(command, *options):
        out = tmp_path / "d.npz"
        assert sfnn(capsys, command, run, *options, "--out", out).code == 0
        return out.read_bytes()

    options = ("--known", tmp_path / "mask.npy", "--particles=20", "--rows=2")
    assert drawn("impute", *options) == drawn("impute", *options)
    assert drawn("impute", *options, "--seed=1") != drawn("impute", *options)
    assert drawn("sample") == drawn("sample") != drawn("sample", "--seed=1")


def test_few_effective_particles_are_one_line(capsys, run, tmp_path):
    np.save(tmp_path / "mask.npy", left(4))
    options = ("--known", tmp_path / "mask.npy", "--rows=2", "--particles=2")
    result = sfnn(capsys, "impute", run, *options)
    assert result.code == 0
    assert result.err.startswith("sfnn: 2 of 2 datapoints have an effective sample size below 10")
    assert result.err.count("\n") == 1


def test_sample_draws_outputs_of_test_inputs(capsys, run, tmp_path):
    assert sfnn(capsys, "sample", run, "--rows=2", "--samples=3").code == 0
    assert (run / "samples.png").read_bytes().startswith(PNG)
    out = tmp_path / "new" / "d.npz"
    assert sfnn(capsys, "sample", run / "best.safetensors", "--rows=2", "--out", out).code == 0
    draws = np.load(out)
    assert draws["y"].shape == (16, 2, 32) and draws["x"].shape == (2, 32)
    data = load_run(run).data
    np.testing.assert_array_equal(draws["x"], data.test.x[draws["index"]])


def test_a_network_without_inputs_is_sampled_and_imputed(capsys, without_inputs, tmp_path):
    result = sfnn(capsys, "sample", without_inputs, "--samples=2000")
    assert result.out == f"Wrote {without_inputs / 'samples.npz'}\n"
    draws = np.load(without_inputs / "samples.npz")
    assert draws["y"].shape == (2000, 1, 4) and draws["x"].shape == (1, 0)
    saved = load_run(without_inputs)
    states = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4)
    mean = exact_log_likelihood(saved.program, torch.zeros(16, 0), states).exp() @ states
    # A standard error is at most 0.5 / sqrt(2000): a false alarm is less likely than 1e-7.
    assert np.abs(draws["y"].mean((0, 1)) - mean.detach().numpy()).max() < 0.065
    np.save(tmp_path / "mask.npy", [1, 0, 1, 0])
    options = ("--known", tmp_path / "mask.npy", "--particles=50")
    assert sfnn(capsys, "impute", without_inputs, *options).code == 0
    assert np.load(without_inputs / "imputations.npz")["y"].shape == (10, 2, 4)


def test_a_deterministic_network_imputes_too(capsys, tmp_path):
    np.save(tmp_path / "mask.npy", left(4))
    folder = tmp_path / "run"
    assert sfnn(capsys, "train", "--out", folder, *TINY, "--network=deterministic").code == 0
    options = ("--known", tmp_path / "mask.npy", "--particles=20", "--rows=2")
    result = sfnn(capsys, "impute", folder, *options)
    assert result.code == 0 and "median 20.0, least 20.0" in result.out


@pytest.mark.parametrize("command", ["sample", "impute", "complete"])
@pytest.mark.parametrize("part", ["left-half", "none"])
def test_pictures_are_put_together_as_they_were_cut(capsys, tmp_path, command, part):
    np.save(tmp_path / "p.npy", np.random.default_rng(0).integers(0, 256, (20, 4, 6)).astype("u1"))
    run = tmp_path / "run"
    train = ("train", "--data", tmp_path / "p.npy", "--input", part, "--out", run, *TINY)
    assert sfnn(capsys, *train).code == 0
    mask = np.ones((4, 6), bool)
    mask[:2, 3:] = False
    save_picture(tmp_path / "m.png", mask)
    options = ("--known", tmp_path / "m.png", "--particles=9") if command == "impute" else ()
    result = sfnn(capsys, command, run, *options, "--samples=4")
    assert result.code == 0, result.err


def test_classes_are_sampled_and_no_mask_fits_them(capsys, tmp_path):
    np.savez(tmp_path / "d.npz", x=np.eye(20, 3), y=np.arange(20) % 2)
    run = tmp_path / "run"
    trained = sfnn(capsys, "train", "--data", tmp_path / "d.npz", "--out", run, *TINY)
    assert f"sfnn sample {run}" in trained.out
    assert sfnn(capsys, "sample", run).code == 0
    assert np.load(run / "samples.npz")["y"].shape == (16, 2)
    np.save(tmp_path / "mask.npy", [True])
    assert_refused(
        sfnn(capsys, "impute", run, "--known", tmp_path / "mask.npy"), "is a class, of which"
    )
    assert_refused(
        sfnn(capsys, "sample", run, "--out", tmp_path / "s.png"), "are no pictures", ".npz"
    )


MASKS = [
    ("m.npy", None, "cannot be read (No such file"),
    ("m.png", None, "cannot be read (No such file"),
    ("nothing", None, "does not exist"),
    ("m.txt", b"1", "is no mask: give a .npy file"),
    ("m.npy", b"", "is no NumPy array"),
    ("m.png", b"\x89PNG", "is no picture that can be read"),
    ("m.npy", [np.nan] * 32, "holds nan: a mask has 1"),
    ("m.npy", [2] * 32, "holds 2: a mask has 1"),
    ("m.npy", ["a"] * 32, "holds texts"),
    ("m.npy", [], "has 0 values and the target of digits 32, 4 x 8 or 8 x 8"),
    ("m.npy", 1, "has no values"),
    ("m.npy", [1] * 31, "has 31 values and the target of digits 32, 4 x 8 or 8 x 8"),
    ("m.npy", np.ones((8, 4)), "has 8 x 4 values"),
    ("m.npy", [0] * 32, "marks nothing as known"),
    ("m.npy", [1] * 32, "marks all of the target as known"),
    ("m.npy", left(8), "marks 16 of 32 values of the input as unknown"),
]


@pytest.mark.parametrize(("name", "contents", "part"), MASKS)
def test_a_mask_that_is_none_is_one_line(capsys, run, tmp_path, name, contents, part):
    path = tmp_path / name
    if isinstance(contents, bytes):
        path.write_bytes(contents)
    elif contents is not None:
        np.save(path, contents)
    before = sorted(run.iterdir())
    assert_refused(sfnn(capsys, "impute", run, "--known", path), name, part)
    assert sorted(run.iterdir()) == before


HOSTILE = [
    (["sample", "{none}"], "holds no model.safetensors"),
    (["sample", "{mask}"], "is no file of sfnn_pyro"),
    (["sample", "{run}", "--samples=0"], "samples=0: must lie between 1"),
    (["sample", "{run}", "--samples=901"], "samples=901: must lie between 1 and 900"),
    (["sample", "{run}", "--samples=999999999", "--out={none}/a.npz"], "needs at least"),
    (["sample", "{run}", "--rows=0"], "rows=0: must lie between 1"),
    (["sample", "{run}", "--rows=301"], "rows=301: must lie between 1 and 300"),
    (["sample", "{run}", "--split=hairs"], "split='hairs': choose train, validation or test"),
    (["sample", "{run}", "--seed=-1"], "seed=-1: must lie between 0"),
    (["sample", "{run}", "--out={none}/a.npy"], "a file of draws can be", "not .npy"),
    (["sample", "{run}", "--out="], "is an empty path"),
    (["sample", "{run}", "--out=/dev/null"], "/dev/null is a device"),
    (["sample", "{run}", "--out={link}"], "is a link"),
    (["sample", "{run}", "--out={run}"], "is a folder"),
    (["impute", "{run}"], "Missing option '--known'"),
    (["impute", "{run}", "--known={run}"], "is no mask"),
    (["impute", "{run}", "--known=/dev/null"], "is no mask"),
    (["impute", "{run}", "--known={mask}", "--particles=0"], "particles=0: must lie between 1"),
    (["impute", "{run}", "--known={mask}", "--particles=999999999"], "needs at least"),
    (["impute", "{run}", "--known={mask}", "--proposal=rws"], "choose one of prior, guide"),
    (["impute", "{run}", "--known={mask}", "--samples=0"], "samples=0: must lie between 1"),
    (["impute", "{run}", "--known={mask}", "--out={fifo}"], "is a pipe"),
]


@pytest.mark.parametrize(("words", "parts"), [(words, parts) for words, *parts in HOSTILE])
def test_what_cannot_be_is_one_line_and_leaves_nothing(capsys, run, tmp_path, words, parts):
    places = {name: tmp_path / f"{name}.npy" for name in ("none", "mask", "link", "fifo")}
    np.save(places["mask"], left(4))
    places["link"].symlink_to(places["mask"])
    os.mkfifo(places["fifo"])
    before = sorted(tmp_path.rglob("*"))
    filled = [word.format(run=run, **places) for word in words]
    assert_refused(sfnn(capsys, *filled), *parts)
    assert sorted(tmp_path.rglob("*")) == before


def test_a_folder_that_cannot_be_written_gets_the_numbers_and_one_line(capsys, run, tmp_path):
    np.save(tmp_path / "mask.npy", left(4))
    (tmp_path / "file").write_text("")
    out = tmp_path / "file" / "d.npz"
    options = ("--known", tmp_path / "mask.npy", "--particles=50", "--rows=2", "--out", out)
    result = sfnn(capsys, "impute", run, *options)
    assert_refused(result, "cannot be written")
    assert "effective sample size" in result.out and "Wrote" not in result.out
    assert_refused(sfnn(capsys, "sample", run, "--out", out), "cannot be written")


@pytest.mark.parametrize("part", ["state", "guide"])
def test_weights_of_nan_are_refused(capsys, run, tmp_path, part):
    np.save(tmp_path / "mask.npy", left(4))
    contents = read_model_file(run / "model.safetensors")
    for weight in contents[part].values():
        weight.fill_(float("nan"))
    write_model_file(run / "model.safetensors", contents)
    before = sorted(run.iterdir())
    assert_refused(sfnn(capsys, "impute", run, "--known", tmp_path / "mask.npy"), "NaN")
    if part == "state":
        assert_refused(sfnn(capsys, "sample", run), "NaN")
        assert_refused(sfnn(capsys, "complete", run), "NaN")
    assert sorted(run.iterdir()) == before
