"""``torchrun`` on several hosts as a person starts it: the same command on each."""

import time
from pathlib import Path

from tests.hosts.network import Host

SPOKEN = 300.0
"""Seconds that a test waits for anything."""


class Launch:
    """``torchrun`` on one host, with what it said in files that stay when the host is killed.

    Arguments:
        host: where.
        folder: of the files.
        command: what every rank runs, after ``python -m``.
        hosts: how many give this command.
        restarts: of ``--max-restarts``.
        join_seconds: that this host waits for the others.
        shared_store: whether to leave out the setting that restarts need.
    """

    def __init__(
        self,
        host: Host,
        folder: Path,
        *command,
        hosts: int = 2,
        restarts: int = 0,
        join_seconds: int = 60,
        shared_store: bool = False,
    ) -> None:
        self.host = host
        stem = f"{host.name}-{len(list(folder.glob('*.err')))}"
        self.out, self.err = folder / f"{stem}.out", folder / f"{stem}.err"
        options = [
            "-m", "torch.distributed.run",
            f"--nnodes={hosts}", "--nproc-per-node=1", f"--max-restarts={restarts}",
            "--rdzv-backend=c10d", "--rdzv-endpoint=a:29500", "--rdzv-id=test",
            f"--rdzv-conf=join_timeout={join_seconds},last_call_timeout=1",
            "--monitor-interval=0.1",
        ]  # fmt: skip
        stores = {} if shared_store else {"TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"}
        with self.out.open("w") as out, self.err.open("w") as err:
            self.process = host.python(*options, "-m", *command, env=stores, stdout=out, stderr=err)

    def wait(self, seconds: float = SPOKEN) -> int:
        """The exit code."""
        return self.process.wait(seconds)

    @property
    def said(self) -> str:
        return self.out.read_text() + self.err.read_text()


def wait_for(condition, *launches: Launch, seconds: float = SPOKEN):
    """What the condition gives once it is true; no launch may end before."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        for launch in launches:
            assert launch.process.poll() is None, launch.said
        assert time.monotonic() < deadline, [launch.said for launch in launches]
        time.sleep(0.02)
    return found
