"""``sfnn export``."""

from pathlib import Path
from typing import Annotated

import typer

from sfnn_pyro.cli.display import (
    Json,
    MovedData,
    Quiet,
    RunFolder,
    path_option,
    print_json,
    shown_progress,
)
from sfnn_pyro.system.numbers import check_whole, shown
from sfnn_pyro.training.schedule import MAX_COUNT
from sfnn_pyro.web.run_exporter import export_run

Deterministic = Annotated[
    Path | None,
    path_option("Run of a deterministic network on the same data, whose answer is shown beside."),
]
RecognitionEpochs = Annotated[
    int,
    typer.Option(
        help="Number of epochs for which a recognition network is trained, which proposes samples "
        "that fit what was drawn. It is kept in the run folder as recognition.safetensors. 0 "
        "trains none, and shows one that is there."
    ),
]


def export(
    run: RunFolder,
    out: Annotated[
        Path,
        path_option("Folder of the page; it must be new, empty or an earlier export."),
    ],
    deterministic: Deterministic = None,
    recognition_epochs: RecognitionEpochs = 0,
    examples: Annotated[
        str,
        typer.Option(
            help="Numbers of the test pictures, from 0, that a drawing may start from, such as "
            "371,321. If not given, six ambiguous ones and six others."
        ),
    ] = "",
    moved: MovedData = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Write a page on which a person draws half a picture and the network completes it.

    The page needs no server: open its index.html by a double click, or copy the folder to any
    web server.
    """
    rows = _rows(examples)
    check_whole("recognition_epochs", recognition_epochs, 0, MAX_COUNT)
    page = export_with_progress(run, out, deterministic, recognition_epochs, rows, moved, quiet)
    size = sum(path.stat().st_size for path in page.parent.rglob("*") if path.is_file())
    if as_json:
        print_json({"page": str(page), "bytes": size})
    else:
        print(f"Wrote {page} ({size / 1e6:.1f} MB with its weights)")


def export_with_progress(
    run: Path,
    out: Path,
    deterministic: Path | None,
    epochs: int,
    rows: tuple[int, ...] = (),
    moved: Path | None = None,
    quiet: bool = False,
) -> Path:
    """Exports a run; a progress bar follows the training of a recognition network."""
    with shown_progress("recognition network", quiet=quiet or not epochs) as on_progress:
        return export_run(
            run,
            out,
            deterministic=deterministic,
            recognition_epochs=epochs,
            rows=rows,
            data=moved,
            on_step=lambda done: on_progress(done, ""),
        )


def _rows(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part)
    except ValueError:
        raise ValueError(f"examples={shown(text)}: give row numbers like 371,321") from None
