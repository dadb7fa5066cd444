"""The program ``sfnn``: its commands together, and every error as one line."""

import atexit
import errno
import gc
import os
import signal
import sys
from typing import Annotated, Any, NoReturn

import torch
import typer

from sfnn_pyro import __version__
from sfnn_pyro.cli.complete import complete
from sfnn_pyro.cli.datasets import data_app
from sfnn_pyro.cli.demo import demo
from sfnn_pyro.cli.evaluate import evaluate
from sfnn_pyro.cli.export import export
from sfnn_pyro.cli.impute import impute
from sfnn_pyro.cli.reproduce import reproduce
from sfnn_pyro.cli.sample import sample
from sfnn_pyro.cli.show import show
from sfnn_pyro.cli.train import train
from sfnn_pyro.distributed import launched
from sfnn_pyro.system.allocator import keep_pages
from sfnn_pyro.system.extras import MissingExtraError
from sfnn_pyro.system.numbers import shown
from sfnn_pyro.system.stop_requests import INTERRUPTED, Interrupted
from sfnn_pyro.system.streams import flush_output, say
from sfnn_pyro.training import TrainingError

LESS_MEMORY = {
    "train": "fewer --particles, a smaller --batch-size or --hidden",
    "evaluate": "a model with smaller layers",
    "complete": "fewer --samples or --rows",
    "sample": "fewer --samples or --rows",
    "impute": "fewer --particles, --samples or --rows",
    "reproduce": "fewer --workers",
}
"""What to give a command for which the memory did not suffice."""

app = typer.Typer(
    help="Stochastic feedforward neural networks in Pyro.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (demo, train, evaluate, complete, sample, impute, export, show, reproduce):
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


def run() -> NoReturn:
    """Runs the command line and ends the process, with one line on standard error if it fails."""
    try:
        _leave(_run())
    except KeyboardInterrupt:
        _fail("interrupted", INTERRUPTED)


def _run() -> int:
    """Runs the command line; its exit code."""
    keep_pages()
    try:
        code = app(standalone_mode=False, prog_name="sfnn")
        flush_output()
    except Interrupted as error:
        _fail(str(error), 128 + error.number)
    except (ValueError, TrainingError, OSError, MissingExtraError) as error:
        _fail(_one_line(error))
    except Exception as error:
        if _is_out_of_memory(error):
            _fail(f"out of memory: give {_less_memory()}")
        if not hasattr(error, "format_message"):
            raise
        if message := _usage_message(error):
            _fail(message)
        code = 2  # the help was shown instead
    if code == INTERRUPTED:
        _fail("interrupted", code)
    return code or 0


def _fail(message: str, code: int = 2) -> NoReturn:
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process is about to end
    process = f"rank {os.environ['RANK']}: " if launched() else ""
    say(f"sfnn: {process}{_printable(message)}")
    _leave(code)


def _leave(code: int) -> NoReturn:
    # The result is there; Ctrl-C while the interpreter ends would add a traceback to it.
    atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)
    gc.freeze()  # spares the interpreter a last collection, which takes over a second
    sys.exit(code)


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EIO, errno.EBADF):
        return f"standard output cannot be written ({error.strerror})"
    return str(error) or type(error).__name__


def _usage_message(error: Any) -> str:
    """What is wrong with the words of a command; empty where its help was shown instead."""
    message = " ".join(error.format_message().split())
    found: list[Any] = getattr(error.__cause__, "errors", list)()
    if found and found[0]["type"].startswith(("int", "float")):  # pydantic's, without the value
        wanted = "a whole number" if found[0]["type"].startswith("int") else "a number"
        message = f"{error.param.opts[0]}={shown(found[0]['input'])}: give {wanted}"
    path = "sfnn" if error.ctx is None else error.ctx.command_path
    return message and f"{message} (see '{path} --help')"


def _printable(text: str) -> str:
    """A text without line ends and what else a terminal would obey, such as in names of files."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in text)


def _less_memory() -> str:
    given = next((word for word in sys.argv[1:] if word in LESS_MEMORY), "")
    return LESS_MEMORY.get(given, "this command a machine with more memory")


def _is_out_of_memory(error: Exception) -> bool:
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and "allocate memory" in str(error)
    )
