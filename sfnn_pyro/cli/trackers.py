"""What shows the numbers of a training elsewhere than in the terminal."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sfnn_pyro.training import Callback, Tracking

TRACKERS = ("none", "tensorboard")


@contextmanager
def tracked(name: str, folder: Path) -> Iterator[list[Callback]]:
    """The callbacks of a training that a tracker follows; what it holds is written at the end.

    Arguments:
        name: one of ``TRACKERS``.
        folder: of the run; TensorBoard's events are written to ``tensorboard`` in it.

    Raises:
        ValueError: there is no such tracker, or its package is not installed.
    """
    if name not in TRACKERS:
        raise ValueError(f"tracker={name!r}: choose one of {', '.join(TRACKERS)}")
    if name == "none":
        yield []
        return
    if importlib.util.find_spec("tensorboard") is None:
        raise ValueError(
            "tracker='tensorboard': the package tensorboard is not installed: pip install "
            "tensorboard"
        )
    writers: list[Any] = []

    def writer(step: int) -> Any:
        from torch.utils.tensorboard import SummaryWriter

        # What a killed process recorded after the step that is resumed is not shown.
        writers.append(SummaryWriter(str(folder / "tensorboard"), purge_step=step))
        return writers[-1]

    try:
        yield [Tracking(writer)]
    finally:
        for one in writers:
            one.close()
