"""A trained network as a folder that any browser opens: the page, its weights, their description.

``network.json`` describes ``stochastic.bin``, ``examples.bin`` and, where there are such,
``deterministic.bin`` and ``recognition.bin``: half-precision numbers, tensor after tensor. The
folder ``disk`` holds the same files as scripts, as a page opened from the disk may read no others.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any

import torch

from sfnn_pyro.data import Dataset
from sfnn_pyro.guides import RecognitionNetwork
from sfnn_pyro.models import SFNN
from sfnn_pyro.system.atomic_files import replacing, write_text
from sfnn_pyro.web.encoding import describe_file, encode_tensors
from sfnn_pyro.web.examples import choose_examples
from sfnn_pyro.web.recognition_training import FILL

FORMAT = "sfnn_pyro page 1"
PAGE_FILES = (
    "index.html",
    "style.css",
    "network.js",
    "files.js",
    "pictures.js",
    "pad.js",
    "page.js",
)
EXAMPLES = 12


@dataclass(frozen=True)
class ExportedNetwork:
    """A network to export, and where it comes from.

    Arguments:
        model: the network.
        units: ``"stochastic"``, or ``"deterministic"`` where every unit is at its mean.
        provenance: how and on what it was trained; fit for JSON.
    """

    model: SFNN
    units: str = "stochastic"
    provenance: Mapping[str, Any] = field(default_factory=dict)


def export_page(
    network: ExportedNetwork,
    data: Dataset,
    folder: Path,
    *,
    title: str = "",
    deterministic: ExportedNetwork | None = None,
    recognition: RecognitionNetwork | None = None,
    rows: Sequence[int] = (),
) -> Path:
    """Writes the page on which a person draws x and the network completes it.

    Arguments:
        network: the network that completes.
        data: what it was trained on, for the shapes of pictures and some to start from.
        folder: made if needed; an earlier export in it is replaced.
        title: a line at the foot of the page.
        deterministic: another network whose one answer stands beside; without it the page shows
            the network's own with every unit at its mean.
        recognition: a proposal without an encoder that saw ``FILL`` for what is unknown.
        rows: test data to start from; chosen by ``choose_examples`` unless given.

    Returns:
        The path of the page, ``index.html``.

    Raises:
        ValueError: the page cannot draw such a network; or the folder holds something else.
        WriteError: the folder cannot be written.

    Example:
        >>> import tempfile
        >>> from sfnn_pyro.data import load_dataset
        >>> digits = load_dataset("digits")
        >>> network = ExportedNetwork(SFNN([32, 8, 32]))
        >>> path = export_page(network, digits, Path(tempfile.mkdtemp()))
        >>> sorted(file.name for file in path.parent.glob("*.bin"))
        ['examples.bin', 'stochastic.bin']
    """
    refuse_unfit(network.model, data)
    if deterministic is not None:
        _refuse_other_task(network.model, deterministic.model)
    _refuse_occupied(folder)
    payloads: dict[str, bytes] = {}
    assert data.x_shape is not None and data.y_shape is not None
    description: dict[str, Any] = {
        "format": FORMAT,
        "title": title,
        "image": {
            "x_shape": list(data.x_shape),
            "y_shape": list(data.y_shape),
            "halves": data.x_shape[0] + data.y_shape[0] == data.x_shape[1],
        },
        "fill": FILL,
        "stochastic": _network_part("stochastic", network, payloads),
    }
    if deterministic is not None:
        description["deterministic"] = _network_part("deterministic", deterministic, payloads)
    if recognition is not None:
        description["recognition"] = _recognition_part(network.model, recognition, payloads)
    description["examples"] = _examples_part(network.model, data, rows, payloads)
    text = json.dumps(description, indent=1) + "\n"
    _remove_earlier(folder)
    for name in PAGE_FILES:
        write_text(folder / name, page_file(name))
    for name, payload in {**payloads, "network.json": text.encode()}.items():
        with replacing(folder / name) as file:
            file.write(payload)
        script = f'Files.provide("{name}", "{base64.b64encode(payload).decode()}");\n'
        write_text(folder / "disk" / f"{name}.js", script)
    return folder / "index.html"


def page_file(name: str) -> str:
    """The text of one of the page's own files."""
    return (files("sfnn_pyro.web") / "page" / name).read_text(encoding="utf-8")


def refuse_unfit(model: Any, data: Dataset) -> None:
    """Refuses what the page cannot draw or compute.

    Raises:
        ValueError: the model is another than an ``SFNN``, or its data are not two pictures of
            one width.
    """
    if type(model) is not SFNN:
        raise ValueError(
            f"a {type(model).__name__} cannot be exported: the page computes an SFNN, whose hidden "
            "units are all stochastic or all deterministic"
        )
    if model.likelihood not in ("bernoulli", "gaussian"):
        raise ValueError(
            f"the network's outputs are {model.likelihood}: a class label is no picture to "
            "complete; export a network trained on digits, mnist, olivetti or tfd"
        )
    if data.x_shape is None or data.y_shape is None or data.x_shape[1] != data.y_shape[1]:
        raise ValueError(
            f"the data set {data.name} has pictures of shape {data.x_shape} and {data.y_shape}: "
            "the page needs two of one width, to draw one above the other"
        )


def _refuse_other_task(model: SFNN, other: SFNN) -> None:
    ends = [(one.sizes[0], one.sizes[-1], one.likelihood) for one in (model, other)]
    if type(other) is not SFNN or ends[0] != ends[1]:
        raise ValueError(
            f"the deterministic network maps {ends[1][0]} inputs to {ends[1][1]} {ends[1][2]} "
            f"outputs, the stochastic one {ends[0][0]} to {ends[0][1]} {ends[0][2]}: give one "
            "trained on the same data"
        )


def _refuse_occupied(folder: Path) -> None:
    """Refuses a folder with anything in it that is no earlier export."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise ValueError(f"{folder} is a file: give a folder")
    described = folder / "network.json"
    if described.is_file() and f'"{FORMAT}"' in described.read_text(errors="replace"):
        return
    if any(folder.iterdir()):
        raise ValueError(f"{folder} holds other files: give an empty or a new folder")


def _remove_earlier(folder: Path) -> None:
    """Removes files of an earlier export that this one may not replace."""
    for pattern in ("*.bin", "disk/*.bin.js"):
        for path in folder.glob(pattern):
            path.unlink()


def _network_part(
    role: str, network: ExportedNetwork, payloads: dict[str, bytes]
) -> dict[str, Any]:
    model = network.model
    return {
        "sizes": model.sizes,
        "likelihood": model.likelihood,
        "units": network.units,
        **_weights_part(role, model.state_dict(), payloads),
        "provenance": dict(network.provenance),
    }


def _recognition_part(
    model: SFNN, guide: RecognitionNetwork, payloads: dict[str, bytes]
) -> dict[str, Any]:
    if guide.encoder is not None:
        raise ValueError(
            f"the recognition network has an encoder of {guide.encoder.out_features} units: "
            "the page computes those of width=0"
        )
    return {"sizes": model.sizes, **_weights_part("recognition", guide.state_dict(), payloads)}


def _weights_part(
    role: str, state: Mapping[str, torch.Tensor], payloads: dict[str, bytes]
) -> dict[str, Any]:
    name = f"{role}.bin"
    payloads[name] = encode_tensors(state.values(), f"the {role} network")
    shapes = [[key, list(value.shape)] for key, value in state.items()]
    return {**describe_file(name, payloads[name]), "tensors": shapes}


def _examples_part(
    model: SFNN, data: Dataset, rows: Sequence[int], payloads: dict[str, bytes]
) -> dict[str, Any]:
    count = len(data.test)
    if rows and not 0 <= min(rows) <= max(rows) < count:
        raise ValueError(f"examples={list(rows)}: the test data have rows 0 to {count - 1}")
    chosen = list(rows) or choose_examples(model, data.test, min(EXAMPLES, count)).tolist()
    both = torch.cat([data.test.x[chosen], data.test.y[chosen]], 1)  # (N, dx + dy)
    payloads["examples.bin"] = encode_tensors([both], f"the data set {data.name}")
    return {
        "count": len(chosen),
        "rows": chosen,
        **describe_file("examples.bin", payloads["examples.bin"]),
    }
