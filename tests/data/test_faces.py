import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from sfnn_pyro.data import load_dataset, olivetti
from sfnn_pyro.data import tfd as tfd_module
from sfnn_pyro.data.faces import expressions
from sfnn_pyro.data.images import reduced
from sfnn_pyro.data.reading import sha256
from sfnn_pyro.data.sources import SourceFile
from tests.data.helpers import outcome, refusal, untimed
from tests.data.made_up import compressed, mat, matrix, tfd

PARTS = ("train", "validation", "test")


def people(data, part):
    return set(data.provenance[f"{part}_people"].split())


@pytest.mark.slow
@untimed
@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12))
def test_the_input_is_the_mean_of_the_same_person(person):
    images = torch.rand(len(person), 2, 3, dtype=torch.float32)
    split = expressions(images, torch.tensor(person))
    assert torch.equal(split.y, images.flatten(1))
    for row, who in enumerate(person):
        own = images[torch.tensor(person) == who].flatten(1)
        torch.testing.assert_close(split.x[row], own.mean(0))


# Olivetti


@pytest.fixture
def use_olivetti(tmp_path, monkeypatch):
    def use(contents):
        (tmp_path / "olivettifaces.mat").write_bytes(contents)
        files = (SourceFile("olivettifaces.mat", sha256(contents), 2**22),)
        monkeypatch.setattr(
            olivetti, "OLIVETTI", dataclasses.replace(olivetti.OLIVETTI, files=files)
        )
        return tmp_path

    return use


@pytest.fixture
def columns():
    """Forty people; each has one grey level, and the first row of each image is black."""
    images = np.repeat(np.arange(40) * 6 + 10, 10)[:, None, None] * np.ones((1, 64, 64))
    images[:, 0, :] = 0
    return images.transpose(0, 2, 1).reshape(400, 4096).T.astype("u1")  # column-major images


def test_olivetti_is_upright_and_split_by_person(use_olivetti, columns):
    data = load_dataset("olivetti", root=use_olivetti(mat(compressed(matrix("faces", columns)))))
    assert [len(getattr(data, part)) for part in PARTS] == [260, 40, 100]
    assert (data.likelihood, data.x_shape, data.y_shape) == ("gaussian", (48, 48), (48, 48))
    image = data.test.y[0].reshape(48, 48)
    assert image[0].max() < image[2].min() and image[2:].std() < 1e-6
    levels = [set((getattr(data, part).x[:, -1] * 255).round().tolist()) for part in PARTS]
    assert [len(part) for part in levels] == [26, 4, 10]
    assert len(set.union(*levels)) == 40


def test_each_seed_is_another_split_of_all_people(use_olivetti, columns):
    root = use_olivetti(mat(matrix("faces", columns)))
    tests = set()
    for seed in range(10):
        data = load_dataset("olivetti", split_seed=seed, root=root)
        assert set.union(*(people(data, part) for part in PARTS)) == set(map(str, range(40)))
        tests.add(data.provenance["test_people"])
    assert len(tests) == 10


@pytest.mark.parametrize(
    ("contents", "reason"),
    [
        (mat(matrix("faces", np.zeros((4096, 399)))), "shape (4096, 399)"),
        (mat(matrix("faces", None, kind=3, shape=(1, 2), data=bytes(4))), "dtype int16"),
        (mat(matrix("other", [[1]])), "no variable 'faces'"),
        (b"<html>", "no usable MAT-file"),
    ],
)
def test_other_contents_are_refused(use_olivetti, contents, reason):
    with refusal("olivettifaces.mat", reason):
        load_dataset("olivetti", root=use_olivetti(contents))


def test_another_file_of_that_name_is_refused(tmp_path):
    (tmp_path / "olivettifaces.mat").write_bytes(b"MATLAB")
    with refusal("SHA-256", "sfnn data download olivetti"):
        load_dataset("olivetti", root=tmp_path)


def test_real_olivetti(real_olivetti):
    data = load_dataset("olivetti", root=real_olivetti)
    assert data.provenance["stands_in_for"] == "Toronto Face Database"
    assert 0 <= data.train.y.min() < 0.1 and 0.8 < data.train.y.max() <= 1
    for part in (data.train, data.validation, data.test):
        means = part.y.reshape(-1, 10, 2304).mean(1).repeat_interleave(10, 0)
        torch.testing.assert_close(part.x, means)
    json.dumps(data.provenance)


def test_real_olivetti_looks_like_faces(real_olivetti):
    # A face is more alike to its mirror image than to itself upside down.
    x = load_dataset("olivetti", root=real_olivetti).train.x.reshape(-1, 48, 48)
    assert (x - x.flip(2)).square().mean() < 0.5 * (x - x.flip(1)).square().mean()


# TFD


def faces(counts, seed=0):
    """Images, expressions and persons: `counts[k]` labelled pictures of person k + 1."""
    person = np.repeat(np.arange(len(counts)) + 1, counts)
    images = np.random.default_rng(seed).integers(0, 256, (len(person), 48, 48))
    return images, np.ones(len(person), int), person


@pytest.fixture
def use_tfd(tmp_path):
    def use(*arguments):
        (tmp_path / "TFD_48x48.mat").write_bytes(tfd(*arguments))
        return tmp_path

    return use


def test_people_with_ten_labelled_images_are_used(use_tfd):
    images, expression, person = faces([12, 10, 9, 11, 10, 10])
    expression[0] = -1  # person 1 keeps eleven
    expression[-1] = -1  # person 6 keeps nine
    data = load_dataset("tfd", root=use_tfd(images, expression, person))
    assert set.union(*(people(data, part) for part in PARTS)) == {"1", "2", "4", "5"}
    assert data.provenance["images"] == 11 + 10 + 11 + 10
    assert data.provenance["people"] == 4
    used = torch.cat([getattr(data, part).y for part in PARTS])
    expected = images[np.isin(person, [1, 2, 4, 5]) & (expression != -1)].reshape(-1, 48 * 48)
    rows = sorted(map(tuple, (used * 255).round().int().tolist()))
    assert rows == sorted(map(tuple, expected.tolist()))
    assert (data.likelihood, data.x_shape, data.y_size) == ("gaussian", (48, 48), 2304)


def test_images_of_unknown_people_are_left_out(use_tfd):
    images, expression, person = faces([10] * 5)
    person[person == 5] = -1
    data = load_dataset("tfd", root=use_tfd(images, expression, person))
    assert data.provenance["people"] == 4


def test_equal_images_count_once(use_tfd):
    images, expression, person = faces([10] * 5)
    images[1] = images[0]
    images[10] = images[20]  # of two people: stays
    data = load_dataset("tfd", root=use_tfd(images, expression, person))
    assert set.union(*(people(data, part) for part in PARTS)) == {"2", "3", "4", "5"}


@pytest.mark.parametrize(
    ("count", "sizes"), [(131, (90, 10, 31)), (3, (1, 1, 1)), (4, (2, 1, 1)), (13, (9, 1, 3))]
)
def test_the_ratio_is_that_of_the_paper(count, sizes):
    assert tfd_module._sizes(count) == sizes


@untimed
@given(st.integers(3, 1000))
def test_every_split_has_someone(count):
    sizes = tfd_module._sizes(count)
    assert sum(sizes) == count and min(sizes) >= 1


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        (faces([10, 10]), "has 2 people"),
        (faces([9, 9, 9]), "has 0 people"),
        ((faces([10] * 4)[0], np.full(40, -1), faces([10] * 4)[2]), "has 0 people"),
        ((faces([10] * 4)[0], np.ones(39), faces([10] * 4)[2]), "40 images and 39 of labs_ex"),
        ((np.zeros((40, 8, 8)), np.ones(40), np.ones(40)), "images of shape (40, 8, 8)"),
        ((np.zeros((40, 48)), np.ones(40), np.ones(40)), "images of shape (40, 48)"),
    ],
)
def test_other_contents_of_tfd_are_refused(use_tfd, arrays, reason):
    with refusal("TFD_48x48.mat", reason, "give the original"):
        load_dataset("tfd", root=use_tfd(*arrays))


def doubles(name, values):
    values = np.asarray(values, "<f8")
    data = values.tobytes(order="F")
    return matrix(name, None, kind=9, mx_class=6, shape=values.shape, data=data)


@pytest.mark.parametrize(
    ("name", "wrong", "reason"),
    [
        ("images", np.nan, "grey values outside"),
        ("images", -1.0, "grey values outside"),
        ("images", 256.0, "grey values outside"),
        ("labs_ex", np.nan, "no whole numbers"),
        ("labs_id", 1.5, "no whole numbers"),
        ("labs_id", 1e300, "no whole numbers"),
        ("labs_id", np.inf, "no whole numbers"),
    ],
)
def test_numbers_that_mean_nothing_are_refused(tmp_path, name, wrong, reason):
    images, expression, person = faces([10] * 3)
    arrays = {
        "images": images.astype(float),
        "labs_ex": expression[:, None].astype(float),
        "labs_id": person[:, None].astype(float),
    }
    path = tmp_path / "TFD_48x48.mat"
    path.write_bytes(mat(*(doubles(*item) for item in arrays.items())))
    assert load_dataset("tfd", root=tmp_path).provenance["images"] == 30
    arrays[name].flat[7] = wrong
    path.write_bytes(mat(*(doubles(*item) for item in arrays.items())))
    with refusal(str(path), reason):
        load_dataset("tfd", root=tmp_path)


def test_tfd_cannot_be_fetched_and_says_so(tmp_path):
    with refusal("TFD_48x48.mat", "not public", "olivetti"):
        load_dataset("tfd", root=tmp_path)


TINY = tfd(*faces([10] * 3))


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("fuzz") / "TFD_48x48.mat"


@untimed
@given(
    st.lists(st.tuples(st.integers(0, len(TINY)), st.integers(0, 255)), max_size=3),
    st.integers(0, 200),
)
@example([], 0)
def test_a_mutated_tfd_file_is_loaded_or_refused(scratch, changes, cut):
    mutated = bytearray(TINY)
    for position, value in changes:
        # Mostly near the end, where the labels are.
        mutated[-1 - position % (400 if position % 3 else len(mutated))] = value
    scratch.write_bytes(mutated[: len(mutated) - cut])
    outcome(load_dataset, "tfd", root=scratch.parent)


@pytest.mark.slow
@untimed
@given(st.data())
def test_labels_of_any_numbers_are_loaded_or_refused(scratch, data):
    labels = st.lists(st.floats() | st.integers(-1, 2).map(float), min_size=30, max_size=30)
    arrays = {
        "images": faces([10] * 3)[0],
        "labs_ex": np.array(data.draw(labels)),
        "labs_id": np.array(data.draw(labels)),
    }
    scratch.write_bytes(
        mat(
            matrix("images", arrays["images"]),
            *(doubles(name, arrays[name][:, None]) for name in ("labs_ex", "labs_id")),
        )
    )
    outcome(load_dataset, "tfd", root=scratch.parent)


def test_reduction_is_what_olivetti_uses(use_olivetti, columns):
    data = load_dataset("olivetti", root=use_olivetti(mat(matrix("faces", columns))))
    person = int(data.provenance["test_people"].split()[0])
    source = torch.from_numpy(columns.T[person * 10].copy()).reshape(64, 64).T
    expected = reduced(source[None].to(torch.float32) / 255, (48, 48))[0]
    torch.testing.assert_close(data.test.y[0].reshape(48, 48), expected)
