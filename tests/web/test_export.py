"""What ``export_page`` writes, and refuses to write."""

import base64
import json
import re

import pytest
import torch

from sfnn_pyro.data import Dataset, Split
from sfnn_pyro.guides import RecognitionNetwork
from sfnn_pyro.models import SFNN, HybridSFNN
from sfnn_pyro.web.encoding import encode_tensors
from sfnn_pyro.web.examples import choose_examples
from sfnn_pyro.web.exporter import PAGE_FILES, ExportedNetwork, export_page
from sfnn_pyro.web.recognition_training import start_from_prior
from tests.web.networks import network, pictures, read, write


def test_the_weights_are_the_networks_in_half_precision(tmp_path):
    data = pictures(3, 5)
    model = network(data, 9, 4)
    guide = start_from_prior(model)
    written = write(tmp_path, data, model, guide=guide)
    for name, value in model.state_dict().items():
        assert torch.equal(written.model.state_dict()[name], value.half().double()), name
    for name, value in guide.state_dict().items():
        assert torch.equal(written.guide.state_dict()[name], value.half().double()), name
    size = sum(value.numel() for value in model.state_dict().values())
    assert (tmp_path / "stochastic.bin").stat().st_size == 2 * size


def test_half_precision_moves_no_probability_by_a_thousandth(tmp_path):
    data = pictures(14, 28)
    model = network(data, 200, 200)
    rounded = write(tmp_path, data, model).model
    model = model.double()
    h = torch.rand(50, 200).round()
    a, b = (one.layers[-1](h).sigmoid() for one in (model, rounded))
    assert (a - b).abs().max() < 1e-3


def test_the_folder_holds_the_page_and_every_file_as_a_script(tmp_path):
    data = pictures(3, 5)
    model = network(data, 4)
    beside = ExportedNetwork(network(data, 6), "deterministic", {"seed": 3})
    export_page(ExportedNetwork(model), data, tmp_path, deterministic=beside, title="A title")
    files = {path.name for path in tmp_path.iterdir() if path.is_file()}
    binaries = {"stochastic.bin", "deterministic.bin", "examples.bin"}
    assert files == {*PAGE_FILES, *binaries, "network.json"}
    for name in {*binaries, "network.json"}:
        script = (tmp_path / "disk" / f"{name}.js").read_text()
        (encoded,) = re.findall(r'"([^"]*)"\);', script)
        assert base64.b64decode(encoded) == (tmp_path / name).read_bytes()
    description = json.loads((tmp_path / "network.json").read_text())
    assert description["deterministic"]["provenance"] == {"seed": 3}
    assert description["deterministic"]["units"] == "deterministic"
    assert description["title"] == "A title"


def test_another_export_replaces_the_first(tmp_path):
    data = pictures(3, 5)
    model = network(data, 4)
    write(tmp_path, data, model, guide=start_from_prior(model))
    write(tmp_path, data, network(data, 4))
    assert not list(tmp_path.rglob("recognition*"))
    assert read(tmp_path).guide is None


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    data = pictures(3, 5)
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(ValueError, match="holds other files: give an empty or a new folder"):
        write(tmp_path, data, network(data, 4))
    with pytest.raises(ValueError, match=r"mine\.txt is a file: give a folder"):
        write(tmp_path / "mine.txt", data, network(data, 4))
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_rows_can_be_chosen(tmp_path):
    data = pictures(3, 5)
    export_page(ExportedNetwork(network(data, 4)), data, tmp_path, rows=[7, 2])
    examples = json.loads((tmp_path / "network.json").read_text())["examples"]
    assert examples["rows"] == [7, 2] and examples["count"] == 2
    with pytest.raises(ValueError, match=r"examples=\[99\]: the test data have rows 0 to 14"):
        export_page(ExportedNetwork(network(data, 4)), data, tmp_path, rows=[99])


def test_ambiguous_examples_come_first():
    data = pictures(1, 2, count=6)
    model = network(data, 4)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    test = Split(torch.zeros(6, 2).float(), torch.zeros(6, 2).float())
    test.x[4, 0] = 1
    state = model.state_dict()
    state["layers.0.weight"][:, 0] = 10
    state["layers.0.bias"][:] = -10  # h is 0 except for the row 4, where it is random
    state["layers.1.weight"][:] = 3
    assert choose_examples(model, test, 2).tolist() == [4, 0]


def data_of(likelihood, x_shape, y_shape) -> Dataset:
    split = Split(torch.zeros(3, 4).float(), torch.zeros(3, 4).float())
    return Dataset("made-up", split, split, split, likelihood, x_shape, y_shape, {})


@pytest.mark.parametrize(
    "model, data, message",
    [
        (
            HybridSFNN([4, 5, 4], stochastic=2),
            data_of("bernoulli", (2, 2), (2, 2)),
            "a HybridSFNN cannot be exported",
        ),
        (
            SFNN([4, 5, 4], "categorical"),
            data_of("categorical", (2, 2), None),
            "outputs are categorical: a class label is no picture to complete",
        ),
        (
            SFNN([4, 5, 4]),
            data_of("bernoulli", None, (2, 2)),
            r"the data set made-up has pictures of shape None and \(2, 2\)",
        ),
        (
            SFNN([4, 5, 4]),
            data_of("bernoulli", (1, 4), (2, 2)),
            "the page needs two of one width",
        ),
    ],
    ids=["hybrid", "categorical", "no picture", "widths"],
)
def test_what_the_page_cannot_show_is_refused(tmp_path, model, data, message):
    with pytest.raises(ValueError, match=message):
        export_page(ExportedNetwork(model), data, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_deterministic_network_of_another_task_is_refused(tmp_path):
    data, other = pictures(3, 5), pictures(2, 5)
    beside = ExportedNetwork(network(other, 4), "deterministic")
    with pytest.raises(ValueError, match="maps 10 inputs to 10 bernoulli outputs"):
        export_page(ExportedNetwork(network(data, 4)), data, tmp_path, deterministic=beside)


def test_a_recognition_network_with_an_encoder_is_refused(tmp_path):
    data = pictures(3, 5)
    model = network(data, 4)
    guide = RecognitionNetwork(model, width=7)
    with pytest.raises(ValueError, match="has an encoder of 7 units"):
        export_page(ExportedNetwork(model), data, tmp_path, recognition=guide)


@pytest.mark.parametrize("value", [1e5, float("nan"), float("inf")])
def test_a_diverged_network_is_refused(value):
    with pytest.raises(ValueError, match="the training diverged"):
        encode_tensors([torch.tensor([1.0, value])], "the stochastic network")
