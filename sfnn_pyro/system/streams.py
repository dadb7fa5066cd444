"""Standard output and standard error that take any text and any end of their reader."""

import codecs
import os
import sys
from contextlib import suppress

HANDLER = "sfnn_pyro"
PLAIN = {"±": "+-", "–": "-", "—": "-", "×": "x"}
"""What a terminal gets that does not know a character."""


def open_closed_streams() -> None:
    """Points closed standard streams to nothing.

    Otherwise the next file that is opened would take the place of one, and what is written to
    standard error would be added to it, or to standard output.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115


def write_any_text() -> None:
    """Makes characters that a terminal's encoding has not, and names of files, no error.

    Example:
        >>> write_any_text()
        >>> "2.0 ± 0.1".encode("ascii", HANDLER)
        b'2.0 +- 0.1'
    """
    codecs.register_error(HANDLER, _replace)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors=HANDLER)


def say(text: str) -> None:
    """Writes a line to standard error, if it can be written: a full disk of a log ends nothing."""
    with suppress(OSError):
        print(text, file=sys.stderr, flush=True)


def flush_output() -> None:
    """Writes what is left of standard output, while an error can still be said.

    Raises:
        OSError: it cannot be written; a reader that has left is no error.
    """
    if sys.stdout is None:
        return
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        _discard_output()
    except OSError as error:
        _discard_output()
        raise OSError(f"standard output cannot be written ({error.strerror})") from error


def _discard_output() -> None:
    """Points standard output elsewhere: Python would try once more at the end, and complain."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def _replace(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    known = "".join(PLAIN.get(one, "") or ascii(one)[1:-1] for one in text)
    return known, error.end
