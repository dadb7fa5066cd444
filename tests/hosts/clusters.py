"""A Ray cluster: its head on host c, which computes nothing, and workers on a and b."""

import sys
import time
from pathlib import Path

from tests.hosts.network import Host

RAY = str(Path(sys.executable).parent / "ray")
VARIABLES = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Ray lets nobody in without the cluster's token, which by default lies in the head's home.
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": 64 * "1",
    # A host that vanishes says nothing: by default Ray waits for its answers for seven minutes.
    "RAY_grpc_client_keepalive_time_ms": "10000",
    "RAY_grpc_client_keepalive_timeout_ms": "10000",
}
STORE = "--object-store-memory=100000000"
_COUNT = (
    "import ray; ray.init('auto', log_to_driver=False, logging_level='error'); "
    "print(ray.cluster_resources().get('CPU', 0))"
)


def serve(host: Host, folder: Path, **variables: str) -> None:
    """Starts Ray on a host; it ends with the host."""
    where = ["--head", "--port=6379", f"--node-ip-address={host.address}", "--num-cpus=0",
             "--include-dashboard=false"]  # fmt: skip
    if host.name != "c":
        where = ["--address=c:6379", "--num-cpus=1"]
    with (folder / f"ray-{host.name}.log").open("a") as log:
        options = {"env": {**VARIABLES, **variables}, "stdout": log, "stderr": log}
        host.start(RAY, "start", *where, STORE, "--block", **options)


def wait_for_workers(head: Host, count: int, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while True:
        process = head.python("-c", _COUNT, env=VARIABLES)
        out, err = process.communicate(timeout=seconds)
        if out.strip() == f"{count}.0":
            return
        assert time.monotonic() < deadline, (out, err)
        time.sleep(0.5)


def start_sweep(head: Host, *arguments, **variables: str):
    return head.python("-m", "tests.hosts.sweeping", *arguments, env={**VARIABLES, **variables})
