"""Small networks to export, and what PyTorch and Pyro say of them for given uniform numbers."""

import json
from dataclasses import dataclass
from pathlib import Path

import torch
from pyro import poutine

from sfnn_pyro.data import Dataset, Split
from sfnn_pyro.guides import RecognitionNetwork
from sfnn_pyro.models import SFNN
from sfnn_pyro.reparam import deterministic
from sfnn_pyro.web.encoding import decode_tensors
from sfnn_pyro.web.exporter import ExportedNetwork, export_page


def pictures(rows: int, columns: int, likelihood: str = "bernoulli", count: int = 15) -> Dataset:
    """Made-up pictures, each half of the given shape."""
    values = torch.rand(count, 2, rows * columns, dtype=torch.float32)
    if likelihood == "bernoulli":
        values = values.round()
    split = Split(values[:, 0], values[:, 1])
    shape = (rows, columns)
    return Dataset("made-up", split, split, split, likelihood, shape, shape, {})


def network(data: Dataset, *hidden: int) -> SFNN:
    """A network of these hidden widths, with weights that are not all small."""
    model = SFNN([data.x_size, *hidden, data.y_size], data.likelihood).float()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=2 / parameter.shape[-1] ** 0.5)
    return model


@dataclass
class Written:
    """An export, read back: the rounded weights that the page computes with, in float64."""

    folder: Path
    model: SFNN
    units: str
    guide: RecognitionNetwork | None
    fill: float

    @property
    def url(self) -> str:
        return (self.folder / "index.html").as_uri()


def write(folder: Path, data: Dataset, model: SFNN, *, units="stochastic", guide=None) -> Written:
    export_page(ExportedNetwork(model, units), data, folder, recognition=guide)
    return read(folder)


def read(folder: Path) -> Written:
    """An export's networks as models, from its binaries alone."""
    description = json.loads((folder / "network.json").read_text())
    part = description["stochastic"]
    model = SFNN(part["sizes"], part["likelihood"]).double()
    model.load_state_dict(_tensors(folder, part))
    guide = None
    if "recognition" in description:
        guide = RecognitionNetwork(model, width=0).double()
        guide.load_state_dict(_tensors(folder, description["recognition"]))
    return Written(folder, model, part["units"], guide, description["fill"])


def _tensors(folder: Path, part: dict) -> dict[str, torch.Tensor]:
    return decode_tensors(part, (folder / part["file"]).read_bytes())


def expected(written: Written, x, y, known, uniforms, *, recognise: bool):
    """h, E(y | h) and log-weights of M particles of one datapoint: by Pyro's own log-probabilities.

    x (dx,), y (dy,), known (dy,), uniforms (M, all hidden units), float64.
    """
    model, count = written.model, len(uniforms)
    x_all, y_all = x.expand(count, -1), y.expand(count, -1)
    seen = torch.where(known, y, torch.full_like(y, written.fill)).expand(count, -1)
    widths = model.sizes[1:-1]
    pieces = uniforms.split(widths, 1)
    program = deterministic(model) if written.units == "deterministic" else model
    hidden = {}
    for number, uniform in enumerate(pieces, 1):
        name = f"h{number}"
        if written.units == "deterministic":
            break
        source, arguments = (written.guide, (x_all, seen)) if recognise else (model, (x_all,))
        trace = poutine.trace(poutine.condition(source, hidden)).get_trace(*arguments)
        hidden[name] = (uniform < trace.nodes[name]["fn"].base_dist.probs).double()
    trace = poutine.trace(poutine.condition(program, {**hidden, "y": y_all})).get_trace(x_all)
    trace.compute_log_prob()
    output = trace.nodes["y"]["fn"].base_dist
    log_weight = (output.log_prob(y_all) * known).sum(-1)
    if recognise:
        guided = poutine.trace(poutine.condition(written.guide, hidden)).get_trace(x_all, seen)
        guided.compute_log_prob()
        for name in hidden:
            log_weight = log_weight + trace.nodes[name]["log_prob"]
            log_weight = log_weight - guided.nodes[name]["log_prob"]
    return hidden, output.mean, log_weight
