"""The page of a run folder: what ``sfnn export`` and ``sfnn show`` do."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from sfnn_pyro import __version__
from sfnn_pyro.data import Dataset
from sfnn_pyro.guides import RecognitionNetwork
from sfnn_pyro.models import SFNN
from sfnn_pyro.runs import RunConfig, load_model
from sfnn_pyro.web.exporter import ExportedNetwork, export_page, refuse_unfit
from sfnn_pyro.web.recognition_training import load_recognition, save_recognition, train_recognition

RECOGNITION_FILE = "recognition.safetensors"
FIRST_RECOGNITION_FILE = "recognition.pt"
"""As the first format named it."""


def export_run(
    run: Path,
    folder: Path,
    *,
    deterministic: Path | None = None,
    recognition_epochs: int = 0,
    rows: Sequence[int] = (),
    data: Path | None = None,
    on_step: Callable[[float], None] | None = None,
) -> Path:
    """Writes the page of a trained run.

    Arguments:
        run: a run folder, or a model file in one.
        folder: for the page.
        deterministic: the run of a deterministic network on the same data, to stand beside.
        recognition_epochs: if above 0, trains a recognition network for as many passes over the
            training inputs and keeps it in the run folder as ``recognition.safetensors``. With 0
            one that is there already is exported.
        rows: test data to start from; the page's own choice unless given.
        data: where the runs' own file or folder of data is now, if it was moved since.
        on_step: called during that training with the part that is done.

    Returns:
        The path of the page.

    Raises:
        RunError: a run folder holds no model.
        ValueError: the page cannot show such a network.
    """
    model, config, loaded = load_model(run, data)
    refuse_unfit(model, loaded)
    beside = None
    if deterministic is not None:
        other, other_config, other_data = load_model(deterministic, data)
        if other_config.network != "deterministic":
            raise ValueError(
                f"{deterministic} is a run of network {other_config.network!r}: give one trained "
                "with --network deterministic"
            )
        beside = ExportedNetwork(other, "deterministic", _provenance(other_config, other_data))
    units = "deterministic" if config.network == "deterministic" else "stochastic"
    return export_page(
        ExportedNetwork(model, units, _provenance(config, loaded)),
        loaded,
        folder,
        title=_title(model, config),
        deterministic=beside,
        recognition=_recognition(run, model, config, loaded, recognition_epochs, on_step),
        rows=rows,
    )


def _recognition(
    run: Path,
    model: SFNN,
    config: RunConfig,
    data: Dataset,
    epochs: int,
    on_step: Callable[[float], None] | None,
) -> RecognitionNetwork | None:
    kept = run if run.is_dir() else run.parent
    path = kept / RECOGNITION_FILE
    if epochs:
        if config.network == "deterministic":
            raise ValueError(
                f"{run} is a deterministic network: it has no hidden units to recognise; leave "
                "--recognition-epochs out"
            )
        assert data.y_shape is not None
        guide = train_recognition(model, data.train.x, data.y_shape, epochs=epochs, on_step=on_step)
        save_recognition(guide, path)
        return guide
    found = (one for one in (path, kept / FIRST_RECOGNITION_FILE) if one.is_file())
    return next((load_recognition(model, one) for one in found), None)


def _provenance(config: RunConfig, data: Dataset) -> dict[str, object]:
    return {
        "config": json.loads(config.to_json()),
        "data": dict(data.provenance),
        "sfnn_pyro": __version__,
    }


def _title(model: SFNN, config: RunConfig) -> str:
    sizes = "-".join(map(str, model.sizes))
    if config.network == "deterministic":
        how = "deterministic"
    else:
        how = f"{config.estimator.upper()}, M = {config.particles}"
    epochs = config.schedule.epochs
    return f"A network of {sizes} units, trained on {config.data}: {how}, {epochs} epochs."
