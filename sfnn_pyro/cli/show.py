"""``sfnn show``."""

import shutil
import tempfile
import webbrowser
from pathlib import Path

from sfnn_pyro.cli.display import Json, MovedData, Quiet, RunFolder, print_json
from sfnn_pyro.cli.export import Deterministic, RecognitionEpochs, export_with_progress


def show(
    run: RunFolder,
    deterministic: Deterministic = None,
    recognition_epochs: RecognitionEpochs = 0,
    moved: MovedData = None,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Export a run to a temporary folder and open its page in the browser."""
    folder = Path(tempfile.mkdtemp(prefix="sfnn-show-"))
    try:
        page = export_with_progress(
            run, folder, deterministic, recognition_epochs, moved=moved, quiet=quiet
        )
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    opened = webbrowser.open(page.as_uri())
    if as_json:
        print_json({"page": str(page), "opened": opened})
    elif opened:
        print(f"Opened {page}")
    else:
        print(f"No browser could be started: open {page} yourself")
