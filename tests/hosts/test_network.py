"""The hosts themselves: apart, joined by cables that can be pulled, and gone at the end."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.hosts.network import OWN_DISK, ROOT, inside, why_not

MEGABYTES = 8
RECEIVE = """
import socket, time
server = socket.create_server(("", 7000))
connection, _ = server.accept()
start, count = time.perf_counter(), 0
while part := connection.recv(2**20):
    count += len(part)
print(8 * count / (time.perf_counter() - start))
"""
SEND = f"""
import socket, time
for _ in range(100):
    try:
        connection = socket.create_connection(("b", 7000))
        break
    except ConnectionRefusedError:
        time.sleep(0.1)
connection.sendall(bytes({MEGABYTES} * 2**20))
"""


def test_hosts_have_names_addresses_processes_and_disks_of_their_own(network):
    for host in network.switch_on("a", "b"):
        assert host.run("hostname").strip() == host.name
        assert host.address in host.run("ip", "-brief", "address")
        assert len(host.run("sh", "-c", "ls -d /proc/[0-9]*").split()) < 6
        assert host.run("ls", OWN_DISK) == "tmp\n"
        host.run("touch", OWN_DISK / "mine")
    assert not (OWN_DISK / "mine").exists()


def test_no_packet_leaves(network):
    (host,) = network.switch_on("a")
    assert host.run("ip", "route").split()[:3] == ["10.77.0.0/24", "dev", "eth0"]
    assert len(host.run("ip", "route").splitlines()) == 1


@pytest.mark.parametrize("rate, bits", [("20mbit", 20e6), ("200mbit", 200e6)])
def test_a_cable_has_its_bandwidth(network, rate, bits):
    a, b = network.switch_on("a", "b")
    network.set_rate(rate)
    receiver, sender = b.python("-c", RECEIVE), a.python("-c", SEND)
    out, err = receiver.communicate(timeout=60)
    sender.communicate(timeout=60)
    assert 0.8 * bits < float(out) < 1.05 * bits, err


def test_a_cable_can_be_pulled_and_a_host_killed_and_brought_back(network):
    a, b = network.switch_on("a", "b")
    reach = (sys.executable, "-c", "import socket; socket.create_connection(('b', 7001), 2)")
    serve = (sys.executable, "-m", "http.server", "7001")
    b.start(*serve)
    _wait_until(lambda: _code(a, reach) == 0)
    network.pull("b")
    assert _code(a, reach) != 0
    network.plug("b")
    assert _code(a, reach) == 0
    network.kill("b")
    assert _code(a, reach) != 0
    (b,) = network.switch_on("b")
    b.start(*serve)
    _wait_until(lambda: _code(a, reach) == 0)


def test_nothing_is_left_when_the_tests_are_killed(permission, tmp_path):
    """By SIGKILL, so that nobody tidies up."""
    program = (
        "import pathlib, sys, time; from tests.hosts.network import Network\n"
        f"network = Network(pathlib.Path({str(tmp_path)!r}))\n"
        "a, b = network.switch_on('a', 'b')\n"
        "process = a.start('sleep', '3600')\n"
        "print(*network.namespaces, flush=True); time.sleep(3600)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    made = set(process.stdout.readline().split())
    assert len(made) == 3
    assert len(inside(made)) > 3
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    _wait_until(lambda: not inside(made))
    assert {path.name for path in tmp_path.iterdir()} == {"names", "lookup"}


def test_without_permission_the_reason_is_said(monkeypatch):
    monkeypatch.setattr("tests.hosts.network.TOOLS", ("no-such-tool",))
    assert why_not() == "needs no-such-tool (Debian's iproute2 and util-linux)"


def _code(host, command):
    process = host.start(*command)
    process.communicate(timeout=60)
    return process.returncode


def _wait_until(condition, seconds=20):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)
