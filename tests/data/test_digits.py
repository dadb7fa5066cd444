import hashlib
from pathlib import Path

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfnn_pyro.data import digits, load_dataset
from tests.data.helpers import refusal

PINNED = "dafaef412cd35961"
# Of the arrays of `sklearn.datasets.load_digits`, as bytes: the committed results are of these.
SOURCE_SHA256 = {
    "images": "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3",
    "labels": "8ba4f891220f5e4c9c819638d1602d74b83618f167043c6da52a2a247841ddf0",
}


def source():
    with np.load(Path(digits.__file__).with_name("digits.npz")) as arrays:
        return dict(arrays)


def images(split):
    return torch.cat([split.x, split.y], 1)


def test_completion_is_the_task_of_the_paper_in_small():
    data = load_dataset("digits")
    assert (data.likelihood, data.x_shape, data.y_shape) == ("bernoulli", (4, 8), (4, 8))
    assert [len(part) for part in (data.train, data.validation, data.test)] == [1197, 300, 300]
    for part in (data.train, data.validation, data.test):
        assert part.x.dtype == part.y.dtype == torch.float32
        assert set(images(part).unique().tolist()) == {0.0, 1.0}


def test_the_file_holds_the_digits_of_scikit_learn_and_who_is_to_be_credited():
    arrays = source()
    found = {name: hashlib.sha256(rows.tobytes()).hexdigest() for name, rows in arrays.items()}
    assert found == SOURCE_SHA256
    assert arrays["images"].shape == (1797, 8, 8) and arrays["images"].max() == 16
    assert "Alpaydin" in load_dataset("digits").provenance["credit"]


def test_black_and_white_pixels_are_those_of_the_source():
    data = load_dataset("digits", split_seed=3)
    grey = torch.from_numpy(source()["images"]).to(torch.float64).reshape(-1, 64)
    binary = torch.cat([images(part) for part in (data.train, data.validation, data.test)])
    # Each digit's certain pixels find it again in the source.
    certain_white, certain_black = (grey == 16).double(), (grey == 0).double()
    wrong = (1 - binary).double() @ certain_white.T + binary.double() @ certain_black.T
    assert (wrong.min(1).values == 0).all()
    white = grey / 16
    deviation = (white * (1 - white)).sum().sqrt() / white.numel()
    assert abs(binary.mean() - white.mean()) < 6 * deviation  # false alarms: 2e-9; a fixed seed


def test_the_seed_means_the_same_in_every_process():
    data = load_dataset("digits")
    digest = hashlib.sha256(images(data.train).numpy().tobytes()).hexdigest()
    assert digest[:16] == PINNED


@settings(max_examples=3, deadline=None)
@given(st.integers(0, 2**63 - 1))
def test_a_seed_repeats_itself_and_others_differ(seed):
    first, again = (load_dataset("digits", binarisation_seed=seed) for _ in range(2))
    other = load_dataset("digits", binarisation_seed=seed ^ 1)
    assert torch.equal(images(first.train), images(again.train))
    assert not torch.equal(images(first.train), images(other.train))
    assert first.provenance["binarisation_seed"] == seed


def test_the_split_has_its_own_seed():
    first, other = (load_dataset("digits-classification", split_seed=seed) for seed in (0, 1))
    assert not torch.equal(first.test.y, other.test.y)
    assert (first.provenance["split_seed"], other.provenance["split_seed"]) == (0, 1)


def test_classification_has_ten_classes_and_centred_inputs():
    data = load_dataset("digits-classification")
    assert (data.likelihood, data.x_shape, data.y_shape) == ("categorical", (8, 8), None)
    assert (data.x_size, data.y_size) == (64, 10)
    assert data.train.x.mean(0).abs().max() < 1e-6
    spread = data.test.x.max(0).values - data.test.x.min(0).values
    assert 0.9 < spread.max() <= 1


def test_the_two_tasks_share_their_split():
    grey, binary = load_dataset("digits-classification"), load_dataset("digits")
    white = grey.train.x - grey.train.x.min(0).values > 0.999
    assert (images(binary.train)[white] == 1).all()


def test_a_changed_default_changes_no_data():
    data = load_dataset("digits")
    torch.set_default_dtype(torch.float32)
    assert torch.equal(load_dataset("digits").train.x, data.train.x)
    with torch.device("meta"):
        assert torch.equal(load_dataset("digits").train.x, data.train.x)


def test_loading_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    load_dataset("digits")
    assert torch.equal(torch.get_rng_state(), before)


def test_a_bad_seed_is_refused():
    with refusal("binarisation_seed=-1"):
        load_dataset("digits", binarisation_seed=-1)
    with refusal("split_seed='x'"):
        load_dataset("digits", split_seed="x")
