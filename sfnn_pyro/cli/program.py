"""The program ``sfnn``: its commands together, and every error as one line."""

import gc
import os
import sys
from typing import Annotated, NoReturn

import torch
import typer

from sfnn_pyro import __version__
from sfnn_pyro.cli.complete import complete
from sfnn_pyro.cli.datasets import data_app
from sfnn_pyro.cli.demo import demo
from sfnn_pyro.cli.evaluate import evaluate
from sfnn_pyro.cli.reproduce import reproduce
from sfnn_pyro.cli.train import train
from sfnn_pyro.distributed import launched
from sfnn_pyro.system.allocator import keep_pages
from sfnn_pyro.system.stop_requests import Interrupted
from sfnn_pyro.training import TrainingError

INTERRUPTED = 130
"""Exit code of a program that Ctrl-C ended, as shells have it."""

app = typer.Typer(
    help="Stochastic feedforward neural networks in Pyro.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (demo, train, evaluate, complete, reproduce):
    app.command()(command)
app.add_typer(data_app, name="data")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit."
        ),
    ] = False,
) -> None:
    """Stochastic feedforward neural networks in Pyro."""


def main() -> None:
    """Runs the command line; an error is one line on standard error and a nonzero exit code."""
    keep_pages()
    try:
        code = app(standalone_mode=False)
    except Interrupted as error:
        _fail(str(error), 128 + error.number)
    except (ValueError, TrainingError, OSError) as error:
        _fail(_one_line(error))
    except Exception as error:
        if _is_out_of_memory(error):
            _fail("out of memory: give fewer --particles, a smaller --batch-size or --hidden")
        if not hasattr(error, "format_message"):
            raise
        if message := error.format_message():
            _fail(f"{message} (see 'sfnn --help')")
        code = 2  # the help was shown instead
    if code == INTERRUPTED:
        _fail("interrupted", code)
    _leave(code or 0)


def _fail(message: str, code: int = 2) -> NoReturn:
    process = f"rank {os.environ['RANK']}: " if launched() else ""
    print(f"sfnn: {process}{message}", file=sys.stderr)
    _leave(code)


def _leave(code: int) -> NoReturn:
    gc.freeze()  # spares the interpreter a last collection, which takes over a second
    sys.exit(code)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error).partition("\n")[0] or type(error).__name__


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "allocate memory" in str(error)
    )
