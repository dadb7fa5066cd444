"""What is done before the commands, and PyTorch with them, are imported."""

import os
import signal
import sys


def main() -> None:
    """Runs the command line; an error is one line on standard error and a nonzero exit code."""
    # A process that ignores SIGINT, such as one under nohup, still does.
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if usual:
        signal.signal(signal.SIGINT, _leave_at_once)
    # All other imports stand below: each takes a while in which Ctrl-C may come.
    from sfnn_pyro.system.extras import MissingExtraError, needed_for
    from sfnn_pyro.system.streams import open_closed_streams, write_any_text
    from sfnn_pyro.system.threads import wait_passively

    open_closed_streams()
    wait_passively()
    write_any_text()
    try:
        with needed_for("the command line"):
            from sfnn_pyro.cli.program import run
    except MissingExtraError as error:
        sys.exit(f"sfnn: {error}")

    if usual:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


def _leave_at_once(number: int, frame: object) -> None:
    """Ends the process while there is nothing to save: an import may not be left half way."""
    print("sfnn: interrupted", file=sys.stderr, flush=True)
    os._exit(128 + number)
