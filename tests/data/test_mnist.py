import dataclasses

import numpy as np
import pytest
import torch

from sfnn_pyro.data import binarise, load_dataset, mnist, mnist_grey
from sfnn_pyro.data.reading import sha256
from sfnn_pyro.data.sources import SourceFile
from tests.data.helpers import refusal
from tests.data.made_up import idx, zipped

PINNED = "d1de4eb435f3a3f6"
ROWS = {"train": 60, "t10k": 20}


@pytest.fixture
def made_up(tmp_path, monkeypatch):
    """Sixty training and twenty test images, of which ten are for validation."""
    random = np.random.default_rng(0)
    contents = {}
    for part, rows in ROWS.items():
        contents[f"{part}-images-idx3-ubyte"] = idx(random.integers(0, 256, (rows, 28, 28)))
        contents[f"{part}-labels-idx1-ubyte"] = idx(np.arange(rows) % 10)
    for name, data in contents.items():
        (tmp_path / f"{name}.gz").write_bytes(zipped(data))
    files = tuple(
        SourceFile(file.name, sha256(contents[file.name]), len(contents[file.name]))
        for file in mnist.MNIST.files
    )
    monkeypatch.setattr(mnist, "MNIST", dataclasses.replace(mnist.MNIST, files=files))
    monkeypatch.setattr(mnist, "VALIDATION", 10)
    return tmp_path


def test_completion(made_up):
    data = load_dataset("mnist", root=made_up)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [50, 10, 20]
    assert (data.x_size, data.y_size, data.x_shape) == (392, 392, (14, 28))
    assert data.provenance["binarisation_seed"] == 0
    assert data.provenance["train-images-idx3-ubyte_sha256"] == mnist.MNIST.files[0].sha256


def test_one_generator_samples_the_training_file_and_then_the_test_file(made_up):
    data = load_dataset("mnist", binarisation_seed=5, root=made_up)
    grey = mnist_grey(made_up)
    generator = torch.Generator().manual_seed(5)
    train = binarise(torch.cat([grey["train"], grey["validation"]]), generator)
    test = binarise(grey["test"], generator)
    assert torch.equal(torch.cat([data.train.x, data.train.y], 1), train[:50].flatten(1))
    assert torch.equal(torch.cat([data.validation.x, data.validation.y], 1), train[50:].flatten(1))
    assert torch.equal(torch.cat([data.test.x, data.test.y], 1), test.flatten(1))


def test_grey_images_are_the_bytes_of_the_files(made_up):
    grey = mnist_grey(made_up)
    random = np.random.default_rng(0)
    expected = random.integers(0, 256, (60, 28, 28))
    np.testing.assert_array_equal(torch.cat([grey["train"], grey["validation"]]), expected)
    assert grey["test"].dtype == torch.uint8


def test_classification(made_up):
    data = load_dataset("mnist-classification", root=made_up)
    grey = mnist_grey(made_up)["train"].flatten(1).double() / 255
    torch.testing.assert_close(data.train.x.double(), grey - grey.mean(0), atol=1e-6, rtol=0)
    assert torch.equal(data.test.y, torch.arange(20) % 10)
    assert (data.x_size, data.y_size, data.likelihood) == (784, 10, "categorical")


@pytest.mark.parametrize("name", ["mnist", "mnist-classification"])
def test_a_file_that_was_changed_is_refused(made_up, name):
    path = made_up / "t10k-images-idx3-ubyte.gz"
    path.write_bytes(zipped(idx(np.zeros((20, 28, 28)))))
    with refusal(str(path), "SHA-256", "sfnn data download mnist"):
        load_dataset(name, root=made_up)


def test_a_file_that_is_too_long_is_refused(made_up):
    path = made_up / "train-images-idx3-ubyte.gz"
    path.write_bytes(zipped(bytes(100_000)))
    with refusal(str(path), "holds more than 47056 bytes"):
        load_dataset("mnist", root=made_up)


def test_a_missing_file_is_named(made_up):
    (made_up / "train-labels-idx1-ubyte.gz").unlink()
    load_dataset("mnist", root=made_up)
    with refusal("train-labels-idx1-ubyte", str(made_up), "sfnn data download mnist", "SFNN_DATA"):
        load_dataset("mnist-classification", root=made_up)


@pytest.mark.slow
def test_the_real_completion_task(real_mnist):
    data = load_dataset("mnist", root=real_mnist)
    assert [len(part) for part in (data.train, data.validation, data.test)] == [
        50_000,
        10_000,
        10_000,
    ]
    grey = mnist_grey(real_mnist)
    for name in ("train", "validation", "test"):
        part = getattr(data, name)
        binary = torch.cat([part.x, part.y], 1)
        probability = grey[name].flatten(1).float() / 255
        assert ((binary == 0) | (binary == 1)).all()
        assert (binary[probability == 1] == 1).all() and (binary[probability == 0] == 0).all()
        spread = (probability * (1 - probability)).sum().double().sqrt()
        assert abs((binary - probability).double().sum()) < 5 * spread
    assert sha256(torch.cat([data.test.x, data.test.y], 1).numpy().tobytes())[:16] == PINNED


@pytest.mark.slow
def test_the_real_classification_task(real_mnist):
    data = load_dataset("mnist-classification", root=real_mnist)
    assert (data.x_size, data.y_size, len(data.train)) == (784, 10, 50_000)
    assert data.train.x.mean(0).abs().max() < 1e-5
    assert data.test.y[:5].tolist() == [7, 2, 1, 0, 4]
