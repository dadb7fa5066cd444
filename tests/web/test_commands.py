"""``sfnn export`` and ``sfnn show``."""

import contextlib
import io
import json
import sys
from pathlib import Path
from unittest import mock
from urllib.request import url2pathname

import pytest
import torch

from sfnn_pyro import cli
from tests.commands import TINY, assert_refused, sfnn
from tests.web.networks import read


@pytest.fixture(autouse=True)
def _as_a_program():
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Short runs, made by ``sfnn train``."""
    folder = tmp_path_factory.mktemp("runs")
    for name, options in {
        "sfnn": (),
        "deterministic": ("--network=deterministic",),
        "classes": ("--data=digits-classification",),
    }.items():
        arguments = ["sfnn", "train", *TINY, *options, f"--out={folder / name}"]
        with (
            mock.patch.object(sys, "argv", arguments),
            contextlib.redirect_stdout(io.StringIO()),
            pytest.raises(SystemExit) as caught,
        ):
            cli.main()
        assert caught.value.code == 0
    return folder


def test_export(runs, capsys, tmp_path):
    out = tmp_path / "page"
    result = sfnn(capsys, "export", runs / "sfnn", "--out", out)
    assert result.code == 0 and "index.html" in result.out
    written = read(out)
    assert written.model.sizes == [32, 5, 32] and written.units == "stochastic"
    description = json.loads((out / "network.json").read_text())
    assert description["stochastic"]["provenance"]["config"]["estimator"] == "g3"
    assert "32-5-32 units, trained on digits: G3, M = 2, 2 epochs" in description["title"]


def test_export_with_a_deterministic_run_beside(runs, capsys, tmp_path):
    out = tmp_path / "page"
    options = ("--deterministic", runs / "deterministic", "--examples", "5,1")
    assert sfnn(capsys, "export", runs / "sfnn", *options, "--out", out).code == 0
    description = json.loads((out / "network.json").read_text())
    assert description["deterministic"]["units"] == "deterministic"
    assert description["examples"]["rows"] == [5, 1]


def test_export_of_a_deterministic_run(runs, capsys, tmp_path):
    out = tmp_path / "page"
    assert sfnn(capsys, "export", runs / "deterministic", "--out", out).code == 0
    assert read(out).units == "deterministic"
    options = ("--recognition-epochs", 1, "--out", tmp_path / "other")
    result = sfnn(capsys, "export", runs / "deterministic", *options)
    assert_refused(result, "has no hidden units to recognise")


def test_a_recognition_network_is_trained_once_and_kept(runs, capsys, tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    options = ("--recognition-epochs", 1, "--out", first)
    assert sfnn(capsys, "export", runs / "sfnn", *options).code == 0
    kept = runs / "sfnn" / "recognition.safetensors"
    assert kept.is_file()
    assert sfnn(capsys, "export", runs / "sfnn", "--out", second).code == 0
    name = "recognition.bin"
    assert (first / name).read_bytes() == (second / name).read_bytes()
    kept.unlink()


def test_show_opens_the_page(runs, capsys):
    with mock.patch("webbrowser.open", return_value=True) as opened:
        result = sfnn(capsys, "show", runs / "sfnn")
    (address,) = opened.call_args.args
    page = Path(url2pathname(address.removeprefix("file://")))
    assert page.name == "index.html" and page.is_file()
    assert result.code == 0 and "Opened" in result.out
    with mock.patch("webbrowser.open", return_value=False):
        result = sfnn(capsys, "show", runs / "sfnn")
    assert result.code == 0 and "No browser could be started" in result.out


def test_show_leaves_no_folder_behind_when_it_fails(runs, capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert_refused(sfnn(capsys, "show", runs / "classes"), "a class label is no picture")
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_shown_is_one_line(runs, capsys, tmp_path):
    out = ("--out", tmp_path / "page")
    result = sfnn(capsys, "export", runs / "classes", *out)
    assert_refused(result, "a class label is no picture to complete")
    assert_refused(sfnn(capsys, "export", tmp_path, *out), "holds no model.safetensors")
    result = sfnn(capsys, "export", runs / "sfnn", "--deterministic", runs / "sfnn", *out)
    assert_refused(result, "is a run of network 'sfnn'")
    result = sfnn(capsys, "export", runs / "sfnn", "--examples", "a,b", *out)
    assert_refused(result, "examples='a,b'")
    assert not (tmp_path / "page").exists()
