"""The numbers of a training as a CSV file."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from sfnn_pyro.system.atomic_files import write_text

COLUMNS = ("step", "tag", "value")


class CSVTracker:
    r"""Writes numbers to a CSV file, one line for each, as they come: a ``Tracker``.

    A training that goes on from a checkpoint repeats the steps since; their lines are replaced.

    Arguments:
        path: the file, with the columns ``step``, ``tag`` and ``value``; its folder must exist.
        purge_step: lines of an existing file from this step on are removed; 0 begins anew.

    Raises:
        ValueError: the file exists and is none that this class wrote.
        OSError: it cannot be written.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "training.csv"
        >>> tracker = CSVTracker(path)
        >>> tracker.add_scalar("validation/log_likelihood", -12.5, 60)
        >>> path.read_text()
        'step,tag,value\n60,validation/log_likelihood,-12.5\n'
    """

    def __init__(self, path: Path | str, purge_step: int = 0) -> None:
        self.path = Path(path)
        rows = self._rows_before(purge_step) if self.path.exists() else []
        write_text(self.path, "".join(map(_line, [COLUMNS, *rows])))

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        """Records a number; see ``Tracker``."""
        with self.path.open("a", encoding="utf-8", newline="") as file:
            file.write(_line((step, tag, value)))

    def _rows_before(self, step: int) -> list[list[str]]:
        with self.path.open(encoding="utf-8", newline="") as file:
            header, *rows = list(csv.reader(file)) or [[]]
        if tuple(header) != COLUMNS:
            raise ValueError(
                f"{self.path} holds no numbers of a training, whose first line is "
                f"{','.join(COLUMNS)}: give another path"
            )
        # A process that was killed may have left half a line, which is of a step to be repeated.
        return [row for row in rows if len(row) == 3 and row[0].isdigit() and int(row[0]) < step]


def _line(row: Sequence[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(row)
    return text.getvalue()
