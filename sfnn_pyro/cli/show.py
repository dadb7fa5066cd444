"""``sfnn show``."""

import shutil
import tempfile
import webbrowser
from pathlib import Path

from sfnn_pyro.cli.display import RunFolder
from sfnn_pyro.cli.export import Deterministic, RecognitionEpochs, export_with_progress


def show(
    run: RunFolder,
    deterministic: Deterministic = None,
    recognition_epochs: RecognitionEpochs = 0,
) -> None:
    """Export a run to a temporary folder and open its page in the browser."""
    folder = Path(tempfile.mkdtemp(prefix="sfnn-show-"))
    try:
        page = export_with_progress(run, folder, deterministic, recognition_epochs)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    if webbrowser.open(page.as_uri()):
        print(f"Opened {page}")
    else:
        print(f"No browser could be started: open {page} yourself")
