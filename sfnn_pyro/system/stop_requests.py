"""Requests to stop, by a signal, that a long computation obeys where it is safe."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

INTERRUPTED = 128 + signal.SIGINT
"""Exit code of a program that Ctrl-C ended, as shells have it."""


class Interrupted(Exception):
    """A computation that was asked to stop, by a signal."""

    def __init__(self, number: int, message: str = "") -> None:
        super().__init__(message or f"stopped by {signal.Signals(number).name}")
        self.number = number


class StopRequest:
    """Whether a signal asked to stop; ``check`` it where stopping is safe."""

    number: int | None = None

    def check(self) -> None:
        """Raises ``Interrupted`` if a signal came."""
        if self.number is not None:
            raise Interrupted(self.number)


def stop_signals() -> list[signal.Signals]:
    """SIGINT (Ctrl-C), SIGTERM and, unless it is ignored as under nohup, SIGHUP.

    The last one comes when a terminal is closed or a connection to the machine ends.

    Example:
        >>> signal.SIGTERM in stop_signals()
        True
    """
    found = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        found.append(hangup)
    return found


@contextmanager
def interruptible() -> Iterator[StopRequest]:
    """Turns the first of ``stop_signals`` into a request to stop; the second stops at once.

    Under ``torchrun`` a second one changes nothing: a terminal or Slurm signals all processes, and
    then ``torchrun`` passes its own signal on. It kills what has not ended half a minute later.
    In any thread but the main one, where Python allows no signal handler, nothing changes.

    Example:
        >>> import os
        >>> with interruptible() as request:
        ...     os.kill(os.getpid(), signal.SIGTERM)
        ...     request.number == signal.SIGTERM
        True
    """
    request = StopRequest()

    def handler(number: int, frame: Any) -> None:
        if request.number is None:
            request.number = number
        elif "TORCHELASTIC_RUN_ID" not in os.environ:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    previous = {n: signal.signal(n, handler) for n in stop_signals()}
    try:
        yield request
    finally:
        for number, old in previous.items():
            signal.signal(number, old)
