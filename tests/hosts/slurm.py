"""A Slurm of its own: ``slurmctld`` on host c, a ``slurmd`` on each of the hosts a and b."""

import os
import re
import shutil
import sys
import time
from pathlib import Path

from tests.hosts.network import OWN_DISK, ROOT, Network

DAEMONS = ("munged", "slurmctld", "slurmd")
PAGE = (ROOT / "docs/distributed.md").read_text()

_CONFIGURATION = f"""
ClusterName=test
SlurmctldHost=c
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
# A job that lost its host may begin again once its credentials have expired.
AuthInfo=socket={OWN_DISK}/munge.socket,cred_expire=5
StateSaveLocation={OWN_DISK}/state
SlurmdSpoolDir={OWN_DISK}/spool
SlurmctldPidFile={OWN_DISK}/slurmctld.pid
SlurmdPidFile={OWN_DISK}/slurmd.pid
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
MpiDefault=none
ReturnToService=2
SlurmdTimeout=10
KillWait=30
NodeName=a,b CPUs=1 State=UNKNOWN
PartitionName=all Nodes=a,b Default=YES State=UP
"""


def why_not() -> str:
    """Why Slurm cannot be started here; empty where it can."""
    path = f"{os.environ['PATH']}:/usr/sbin"
    if missing := [name for name in DAEMONS if shutil.which(name, path=path) is None]:
        return f"needs {', '.join(missing)} (Debian's slurm-wlm and munge)"
    return ""


def script(beginning: str) -> str:
    """The page's script whose third line begins so."""
    for text in re.findall(r"```sh\n(#!/bin/bash\n.*?)```", PAGE, re.DOTALL):
        if beginning in text:
            return text
    raise AssertionError(f"{beginning} is in no script of the page")


class Slurm:
    """Daemons on hosts that are there already; they end with their hosts."""

    def __init__(self, network: Network, folder: Path) -> None:
        self.network, self.folder = network, folder
        self.key, self.configuration = folder / "munge.key", folder / "slurm.conf"
        self.key.write_bytes(os.urandom(128))
        self.key.chmod(0o400)
        self.configuration.write_text(_CONFIGURATION)
        for name in ("c", "a", "b"):
            self.serve(name)

    @property
    def variables(self) -> dict[str, str]:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}:/usr/sbin"
        return {"SLURM_CONF": str(self.configuration), "PATH": path}

    def serve(self, name: str) -> None:
        """Starts the daemons of a host, after it was brought back too."""
        host = self.network.hosts[name]
        files = {kind: f"{OWN_DISK}/munge.{kind}" for kind in ("socket", "pid", "log", "seed")}
        host.run("mkdir", "-p", f"{OWN_DISK}/state", f"{OWN_DISK}/spool")
        host.run(
            "munged", "--force", f"--key-file={self.key}", f"--socket={files['socket']}",
            f"--pid-file={files['pid']}", f"--log-file={files['log']}",
            f"--seed-file={files['seed']}", env=self.variables,
        )  # fmt: skip
        daemon = ("slurmctld",) if name == "c" else ("slurmd", "-N", name)
        log = (self.folder / f"{name}-{daemon[0]}.log").open("a")
        with log:
            host.start(*daemon, "-D", env=self.variables, stdout=log, stderr=log)

    def submit(self, text: str, name: str, *options: str) -> str:
        """The number of a new job; what it says is in ``NAME.out`` and ``.err``."""
        path = self.folder / f"{name}.sh"
        path.write_text(text)
        # Slurm runs a copy of the script, in the folder where sbatch was called.
        files = [f"--output={self.folder}/{name}.out", "--open-mode=append"]
        out = self.call("sbatch", "--parsable", *files, *options, str(path))
        return out.strip()

    def call(self, *command: str) -> str:
        return self.network.hosts["c"].run(*command, env=self.variables)

    def state(self, job: str) -> str:
        """PENDING, RUNNING, COMPLETED, TIMEOUT and so on."""
        found = re.search(r"JobState=(\S+)", self.call("scontrol", "show", "job", job))
        assert found is not None
        return found[1]

    def wait_for(self, job: str, *states: str, seconds: float = 240) -> str:
        deadline = time.monotonic() + seconds
        while (state := self.state(job)) not in states:
            assert time.monotonic() < deadline, (state, self.said())
            time.sleep(0.2)
        return state

    def wait_for_nodes(self, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while self.call("sinfo", "--noheader", "--format=%T %D").split() != ["idle", "2"]:
            assert time.monotonic() < deadline, self.said()
            time.sleep(0.5)

    def finished(self, job: str) -> bool:
        """Whether no task of the job waits or runs."""
        return not self.call("squeue", "--noheader", f"--jobs={job}").strip()

    def output(self, name: str) -> str:
        path = self.folder / f"{name}.out"
        return path.read_text() if path.exists() else ""

    def said(self) -> dict[str, str]:
        logs = [*self.folder.glob("*.out"), *self.folder.glob("*.log")]
        return {path.name: path.read_text()[-3000:] for path in logs}
