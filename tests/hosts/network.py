"""Hosts on one machine: Linux namespaces with names and addresses of their own, and cables.

Every host is a process that waits, in namespaces of its own (network, name, processes, mounts).
None of them has a name in the file system, and all die with the process that made them, even by
SIGKILL: nothing has to be tidied up. A switch, in another network namespace, joins their cables.
No packet leaves.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.distributed.launch import children

ROOT = Path(__file__).parents[2]
TOOLS = ("ip", "tc", "unshare", "nsenter", "setpriv")
OWN_DISK = Path("/mnt")
"""On every host a file system that no other sees; all else is shared, as by NFS."""

SEGMENT = 16384  # bytes of the largest unit that a cable lets through at once
BURST = 250e-6  # seconds between two looks of the kernel at a cable
GOODBYE = 0.2  # seconds in which the others hear of the end of their connections
QUEUE = 2**20  # bytes that wait before a cable drops some

_INIT = """
hostname {name}
mount -t tmpfs tmpfs {disk} && mkdir {disk}/tmp
mount -t tmpfs tmpfs /dev/shm
mount --bind {folder}/names /etc/hosts
mount --bind {folder}/lookup /etc/nsswitch.conf
ip link set lo up
echo ready
while :; do sleep 3600 & wait; done
"""


def why_not() -> str:
    """Why no hosts can be made here; empty where they can."""
    if sys.platform != "linux":
        return "needs Linux's namespaces"
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"needs {', '.join(missing)} (Debian's iproute2 and util-linux)"
    tried = subprocess.run(
        ["unshare", "--net", "--mount", "--pid", "--fork", "sh", "-c",
         "ip link add va type veth peer name vb && tc qdisc add dev va root tbf rate 1mbit "
         "burst 16kb latency 1ms && ip link add switch type bridge"],
        capture_output=True, text=True,
    )  # fmt: skip
    if tried.returncode:
        return f"may not make network namespaces ({tried.stderr.strip()}): needs root"
    return ""


@dataclass
class Host:
    """A host that is switched on until ``kill``; its processes start by ``start``."""

    name: str
    address: str
    holder: subprocess.Popen
    pid: int
    started: list[subprocess.Popen] = field(default_factory=list)

    def start(self, *command, env=None, **options) -> subprocess.Popen:
        """A process of this host, in the folder of this repository, on one thread."""
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, **options}
        process = subprocess.Popen(
            [*self._enter(), *map(str, command)], env={**environment(), **(env or {})}, **options
        )
        self.started.append(process)
        return process

    def run(self, *command, timeout=120, **options) -> str:
        """What a command of this host says; it must succeed."""
        process = self.start(*command, **options)
        try:
            out, err = process.communicate(timeout=timeout)
        finally:
            self.signal(process, signal.SIGKILL)
        assert process.returncode == 0, f"{self.name}: {command}: {out}{err}"
        return out

    def python(self, *arguments, **options) -> subprocess.Popen:
        return self.start(sys.executable, *arguments, **options)

    def signal(self, process: subprocess.Popen, number: int) -> None:
        """Sends a signal to what ``start`` started: nsenter passes none on."""
        for pid in children(process.pid):
            os.kill(pid, number)

    def kill(self) -> None:
        """All processes at once and the network card with them: the power is off."""
        _end(self.holder, self.pid)
        for process in self.started:
            _end(process)

    def _enter(self) -> list[str]:
        kinds = ("--net", "--uts", "--ipc", "--pid", "--mount")
        return ["nsenter", f"--target={self.pid}", *kinds, f"--wd={ROOT}"]


def environment() -> dict[str, str]:
    """Of a process on a host: one thread, and temporary files on the host's own disk."""
    return {
        **os.environ,
        "OMP_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(OWN_DISK / "tmp"),
    }


@dataclass
class Network:
    """Hosts by name, each with a cable to one switch.

    Arguments:
        folder: for the files by which the hosts find each other's names.
        rate: of every cable in each direction, in ``mbit`` or ``gbit``; a delay cannot be set where
            the kernel has no netem.
    """

    folder: Path
    rate: str = "1gbit"
    hosts: dict[str, Host] = field(default_factory=dict)
    namespaces: set[str] = field(default_factory=set)
    """Identities of those that are there; the kernel gives one that is free to another."""
    left: list[str] = field(default_factory=list)
    """Processes that outlived their host."""

    NAMES = ("a", "b", "c")

    def __post_init__(self) -> None:
        lines = [f"{way}{_address(name)} {name}" for way in ("", "::ffff:") for name in self.NAMES]
        names = "\n".join(["127.0.0.1 localhost", *lines])
        (self.folder / "names").write_text(names + "\n")
        # No name server answers here, and asking one takes ten seconds.
        kinds = ("hosts", "passwd", "group")
        (self.folder / "lookup").write_text("".join(f"{kind}: files\n" for kind in kinds))
        self.switch, self._switch_pid = self._hold(
            ["--net", "--pid"],
            "ip link add switch type bridge; ip link set switch up; echo ready; sleep infinity",
        )

    def __enter__(self) -> "Network":
        return self

    def __exit__(self, *error) -> None:
        for name in list(self.hosts):
            self.kill(name)
        self._empty(_namespace(self._switch_pid), lambda: _end(self.switch, self._switch_pid))

    def switch_on(self, *names: str) -> list[Host]:
        """Makes hosts, or brings killed ones back with an empty disk of their own."""
        for name in names:
            script = _INIT.format(name=name, disk=OWN_DISK, folder=self.folder)
            kinds = ["--net", "--uts", "--ipc", "--pid", "--mount", "--mount-proc"]
            holder, pid = self._hold(kinds, script)
            self.hosts[name] = Host(name, _address(name), holder, pid)
            self._connect(self.hosts[name])
        return [self.hosts[name] for name in names]

    def set_rate(self, rate: str) -> None:
        """Sets the bandwidth of all cables, in both directions."""
        self.rate = rate
        for host in self.hosts.values():
            for pid, card in ((host.pid, "eth0"), (self._switch_pid, host.name)):
                self._limit(pid, card)

    def pull(self, name: str) -> None:
        """Pulls the cable: neither end is told more than that its card is down."""
        self._ip(self._switch_pid, "link", "set", "dev", name, "down")

    def plug(self, name: str) -> None:
        self._ip(self._switch_pid, "link", "set", "dev", name, "up")

    def kill(self, name: str, *, silently: bool = False) -> None:
        """Ends a host.

        Arguments:
            silently: as when the power fails, so that no other host hears of its connections'
                end; else the kernel still closes them, as when its processes are killed.
        """
        # Connections that are closed on one side alone would keep the host's network for minutes:
        # the cable goes, before or after the others have heard.
        if silently:
            self._ip(self._switch_pid, "link", "delete", "dev", name)
        host = self.hosts.pop(name)
        self._empty(_namespace(host.pid), host.kill)
        if not silently:
            time.sleep(GOODBYE)
            self._ip(self._switch_pid, "link", "delete", "dev", name, may=True)

    def _empty(self, namespace: str, kill: Callable[[], None]) -> None:
        """Ends what keeps a namespace, and notes who is in it all the same."""
        kill()
        self.left += inside({namespace})
        self.namespaces.discard(namespace)

    def _hold(self, kinds: list[str], script: str) -> tuple[subprocess.Popen, int]:
        """A process that keeps namespaces alive, and the one in them that waits."""
        holder = subprocess.Popen(
            ["setpriv", "--pdeathsig=KILL", "unshare", *kinds, "--fork", "--kill-child",
             "sh", "-e", "-c", script],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert holder.stdout is not None
        if holder.stdout.readline() != "ready\n":
            holder.kill()
            raise AssertionError(holder.communicate())
        (pid,) = children(holder.pid)
        self.namespaces.add(_namespace(pid))
        return holder, pid

    def _connect(self, host: Host) -> None:
        # The same hardware address as before, or the others would look for the host in vain.
        hardware = f"02:00:00:00:00:0{host.address[-1]}"
        peer = ("peer", "name", "eth0", "address", hardware, "netns", str(host.pid))
        deadline = time.monotonic() + 5
        # The card of a host that was killed goes when the kernel comes to it.
        add = ("link", "add", "name", host.name, "type", "veth", *peer)
        while self._ip(self._switch_pid, *add, may=True):
            assert time.monotonic() < deadline, f"the card of {host.name} does not go"
            time.sleep(0.05)
        self._ip(self._switch_pid, "link", "set", "dev", host.name, "master", "switch", "up")
        self._ip(host.pid, "address", "add", f"{host.address}/24", "dev", "eth0")
        self._ip(host.pid, "link", "set", "dev", "eth0", "up")
        for pid, card in ((host.pid, "eth0"), (self._switch_pid, host.name)):
            self._ip(pid, "link", "set", "dev", card, "gso_max_size", str(SEGMENT))
            self._limit(pid, card)

    def _limit(self, pid: int, card: str) -> None:
        burst = max(2 * SEGMENT, int(BURST * _bytes_per_second(self.rate)))
        shape = ["tbf", "rate", self.rate, "burst", str(burst), "limit", str(QUEUE + burst)]
        _inside(pid, ["tc", "qdisc", "replace", "dev", card, "root", *shape])

    def _ip(self, pid: int, *arguments: str, may: bool = False) -> int:
        return _inside(pid, ["ip", *arguments], may=may)


def _end(process: subprocess.Popen, waiting: int | None = None) -> None:
    """Ends a process; of a holder what waits in its namespaces, and with it all others there."""
    if process.poll() is None:
        os.kill(waiting or process.pid, signal.SIGKILL)
    process.wait()
    for pipe in (process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()


def _inside(pid: int, command: list[str], *, may: bool = False) -> int:
    """Runs a command in a network namespace; one that may fail returns its exit code."""
    done = subprocess.run(
        ["nsenter", f"--target={pid}", "--net", *command], capture_output=True, text=True
    )
    assert may or done.returncode == 0, f"{command}: {done.stderr}"
    return done.returncode


def _bytes_per_second(rate: str) -> float:
    number = rate.removesuffix("gbit").removesuffix("mbit")
    return float(number) * (1e9 if rate.endswith("gbit") else 1e6) / 8


def _address(name: str) -> str:
    return f"10.77.0.{1 + Network.NAMES.index(name)}"


def inside(namespaces: set[str]) -> list[str]:
    """Processes of this machine that are in one of some network namespaces."""
    pids = filter(str.isdigit, os.listdir("/proc"))
    return [pid for pid in pids if _namespace(pid) in namespaces]


def _namespace(pid) -> str:
    try:
        return os.readlink(f"/proc/{pid}/ns/net")
    except OSError:  # it ended
        return ""
