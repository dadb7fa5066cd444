"""The command line in processes that start fast: forked from one that has imported it."""

import io
import multiprocessing
import sys
from contextlib import redirect_stderr, redirect_stdout
from multiprocessing.process import BaseProcess

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["sfnn_pyro.cli", "sfnn_pyro.runs"])


def child(*arguments) -> BaseProcess:
    """Starts the command line with these arguments, on one thread, in silence."""
    process = _CONTEXT.Process(target=_main, args=(["sfnn", *map(str, arguments)],))
    process.start()
    return process


def run_to_end(*arguments) -> int:
    """Runs the command line in a child; its exit code."""
    process = child(*arguments)
    process.join()
    assert process.exitcode is not None
    return process.exitcode


def _main(arguments: list[str]) -> None:
    import torch

    from sfnn_pyro import cli

    torch.set_num_threads(1)
    sys.argv = arguments
    with redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO()):
        cli.main()
