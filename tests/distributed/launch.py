"""``torchrun`` as a person starts it, and its ranks among the processes of this machine."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

PATIENCE = 300.0


def torchrun(*arguments, ranks=2, restarts=0, **options) -> subprocess.Popen:
    """Starts the command line on several ranks of one thread each."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"}
    launcher = [
        "-m",
        "torch.distributed.run",
        "--standalone",
        f"--nproc-per-node={ranks}",
        f"--max-restarts={restarts}",
        "--monitor-interval=0.1",
    ]
    return subprocess.Popen(
        [sys.executable, *launcher, "-m", "sfnn_pyro", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
        **options,
    )


def end(launcher: subprocess.Popen) -> None:
    """Kills what is left of a launch."""
    if launcher.poll() is None:
        left = [launcher.pid, *children(launcher.pid)]
        for pid in left:
            os.kill(pid, signal.SIGKILL)
    launcher.communicate()


def children(parent: int) -> list[int]:
    """Processes that a process started."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            stat = (folder / "stat").read_text()
        except OSError:
            continue
        if int(stat.rpartition(")")[2].split()[1]) == parent:
            found.append(int(folder.name))
    return found


def pid_of(rank: int, launcher: subprocess.Popen) -> int | None:
    """The process that is this rank now."""
    for pid in children(launcher.pid):
        try:
            variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:
            continue
        if f"RANK={rank}".encode() in variables:
            return pid
    return None


def wait_for(condition, process: subprocess.Popen):
    """What the condition gives once it is true; the process must not end before."""
    deadline = time.monotonic() + PATIENCE
    while not (found := condition()):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


def stamp(path: Path) -> int | None:
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return None
