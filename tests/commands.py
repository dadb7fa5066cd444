"""The command line as a person meets it: through ``main`` in this process, or as a process."""

import os
import re
import subprocess
import sys
from dataclasses import dataclass
from unittest import mock

import pytest

from sfnn_pyro import cli

TINY = (
    "--hidden=5",
    "--epochs=2",
    "--particles=2",
    "--batch-size=300",
    "--learning-rate=0.01",
)
"""A training of eight steps."""


PROGRESS = re.compile(r"^(?:train|evaluate|impute): +\d+ %.*\n", re.MULTILINE)


@dataclass(frozen=True)
class Result:
    """What a command left: standard error is split into lines of progress and the rest."""

    code: int
    out: str
    err: str
    progress: str = ""

    @staticmethod
    def of(code, out, err) -> "Result":
        return Result(code, out, PROGRESS.sub("", err), "".join(PROGRESS.findall(err)))


def sfnn(capsys, *arguments) -> Result:
    """Runs the command line in this process."""
    capsys.readouterr()
    with (
        mock.patch.object(sys, "argv", ["sfnn", *map(str, arguments)]),
        pytest.raises(SystemExit) as caught,
    ):
        cli.main()
    out, err = capsys.readouterr()
    return Result.of(caught.value.code, out, err)


def assert_refused(result: Result, *parts: str) -> None:
    """One line on standard error that contains each part, and exit code 2."""
    assert result.code == 2
    assert result.err.startswith("sfnn: ") and result.err.count("\n") == 1, result.err
    for part in parts:
        assert part in result.err, result.err


def start(*arguments, **options) -> subprocess.Popen:
    """Starts the command line as a process of its own, on one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    return subprocess.Popen(
        [sys.executable, "-m", "sfnn_pyro", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,
    )


def finish(process: subprocess.Popen, timeout: float = 120) -> Result:
    out, err = process.communicate(timeout=timeout)
    return Result.of(process.returncode, out, err)
