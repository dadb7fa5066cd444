"""Grey images for unsupervised learning, of made-up files."""

import dataclasses

import numpy as np
import pytest
import torch

from sfnn_pyro.data import IMAGE_NAMES, binarise, load_dataset, load_images, mnist, omniglot
from sfnn_pyro.data.reading import git_blob
from sfnn_pyro.data.sources import SourceFile
from tests.data.helpers import refusal
from tests.data.made_up import idx, mat, matrix, zipped

ROWS = {"train": 12, "t10k": 5}


@pytest.fixture
def fashion(tmp_path, monkeypatch):
    """Twelve training and five test images in the folder that Fashion-MNIST is looked for in."""
    random, files, images = np.random.default_rng(0), {}, {}
    (tmp_path / "fashion-mnist").mkdir()
    for part, rows in ROWS.items():
        images[part] = random.integers(0, 256, (rows, 28, 28))
        name, contents = f"{part}-images-idx3-ubyte", idx(images[part])
        stored = zipped(contents)
        (tmp_path / "fashion-mnist" / f"{name}.gz").write_bytes(stored)
        files[name] = SourceFile(name, "", len(contents), git_blob=git_blob(stored))
    known = tuple(files.get(file.name, file) for file in mnist.FASHION.files)
    changed = dataclasses.replace(mnist.FASHION, files=known)
    for module in ("mnist", "unsupervised"):
        monkeypatch.setattr(f"sfnn_pyro.data.{module}.FASHION", changed)
    monkeypatch.setattr(mnist, "VALIDATION", 3)
    return tmp_path, images


@pytest.fixture
def characters(tmp_path, monkeypatch):
    """Nine training and four test characters in columns, as MATLAB stores them."""
    random = np.random.default_rng(0)
    images = {"data": random.random((784, 9)), "testdata": random.random((784, 4))}
    variables = (
        matrix(name, None, kind=9, mx_class=6, shape=one.shape, data=one.tobytes(order="F"))
        for name, one in images.items()
    )
    contents = mat(*variables)
    (tmp_path / "chardata.mat").write_bytes(contents)
    file = SourceFile("chardata.mat", "", len(contents), git_blob=git_blob(contents))
    changed = dataclasses.replace(omniglot.OMNIGLOT, files=(file,))
    for module in ("omniglot", "unsupervised"):
        monkeypatch.setattr(f"sfnn_pyro.data.{module}.OMNIGLOT", changed)
    for name, count in (("TRAIN", 7), ("VALIDATION", 2), ("TEST", 4)):
        monkeypatch.setattr(omniglot, name, count)
    return tmp_path, images


def sizes(data):
    return [len(part) for part in (data.train, data.validation, data.test)]


def test_fashion_is_the_bytes_of_its_files(fashion):
    root, images = fashion
    data = load_images("fashion-mnist", root)
    assert sizes(data) == [9, 3, 5] and data.y_shape == (28, 28)
    assert data.train.x.shape == (9, 0)
    train = torch.cat([data.train.y, data.validation.y]).reshape(12, 28, 28)
    torch.testing.assert_close(train, torch.from_numpy(images["train"] / 255).float())
    torch.testing.assert_close(
        data.test.y * 255, torch.from_numpy(images["t10k"]).flatten(1).float()
    )
    names = [name for name in data.provenance if name.endswith("git_blob")]
    assert names == ["train-images-idx3-ubyte_git_blob", "t10k-images-idx3-ubyte_git_blob"]


def test_characters_are_the_columns_of_the_file(characters):
    root, images = characters
    data = load_images("omniglot", root)
    assert sizes(data) == [7, 2, 4] and data.y_shape == (28, 28)
    expected = torch.from_numpy(images["testdata"].T.reshape(4, 28, 28)).float().mT
    torch.testing.assert_close(data.test.y.reshape(4, 28, 28), expected)
    both = torch.cat([data.train.y, data.validation.y]).sum(1).sort().values
    torch.testing.assert_close(both, torch.from_numpy(images["data"].sum(0)).float().sort().values)
    assert data.provenance["split_seed"] == 0 and "chardata.mat_git_blob" in data.provenance


def test_the_completion_task_has_the_same_split(characters):
    root, _ = characters
    grey, task = load_images("omniglot", root), load_dataset("omniglot", root=root)
    fresh = task.fresh(torch.Generator().manual_seed(1))
    drawn = binarise(grey.train.y.reshape(7, 28, 28), torch.Generator().manual_seed(1))
    assert sizes(grey) == sizes(task)
    torch.testing.assert_close(torch.cat([fresh.x, fresh.y], 1), drawn.flatten(1))


@pytest.mark.parametrize("name", sorted(set(IMAGE_NAMES) - {"digits"}))
def test_a_missing_file_is_named_with_what_to_do(name, tmp_path):
    with refusal(name.split("-")[0], str(tmp_path), "SFNN_DATA"):
        load_images(name, tmp_path)
