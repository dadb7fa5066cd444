"""Interleaved timing, peak memory, a description of the machine, results on disk."""

from __future__ import annotations

import gc
import importlib.metadata
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import NamedTuple

Call = Callable[[], object]
PACKAGES = ("torch", "pyro-ppl", "jax", "jaxlib", "numpyro", "numpy")
INSTRUCTION_SETS = ("avx2", "avx512f", "avx512_bf16", "amx_bf16")


class Timing(NamedTuple):
    """Seconds per call of every round kept, by name, and the share others had of each round."""

    seconds: dict[str, list[float]]
    others: list[float]


def interleave(
    calls: Mapping[str, Call],
    *,
    rounds: int = 25,
    per_round: int = 4,
    warm_up: int = 5,
    settle: float = 0.01,
    quiet: float = 0.05,
    patience: float = 120.0,
    around: Mapping[str, Callable[[], AbstractContextManager]] | None = None,
) -> Timing:
    """Time ``calls`` in turn, so that changes of the machine's speed affect all of them alike.

    Each turn sleeps ``settle`` seconds (another library's threads stop spinning), makes one
    untimed call (its data return to the caches), then times ``per_round`` calls.

    Arguments:
        calls: names and what to call; a call returns when its work is done.
        rounds: turns of every call that are kept.
        quiet: a round is undisturbed when other processes took less than this share of
            the machine; only such a round counts, and none starts before.
        patience: seconds to spend, over all rounds, on waiting and on disturbed rounds;
            after that any round is kept, and ``Timing.others`` has its share of other processes.
        around: a context to enter around the turns of some of the calls.
    """
    around = around or {}
    for name, call in calls.items():
        with around.get(name, nullcontext)():
            for _ in range(warm_up):
                call()
    done: list[tuple[float, dict[str, float]]] = []
    gc.collect()
    gc.disable()
    try:
        while len(done) < rounds or (
            patience > 0 and sum(others < quiet for others, _ in done) < rounds
        ):
            patience -= _wait(quiet, patience)
            start, before = time.perf_counter(), processor_seconds()
            turn = {}
            for name, call in calls.items():
                with around.get(name, nullcontext)():
                    time.sleep(settle)
                    turn[name] = _mean_seconds(call, per_round)
            done.append((others_share(before, processor_seconds()), turn))
            if done[-1][0] >= quiet:
                patience -= time.perf_counter() - start
            gc.collect()
    finally:
        gc.enable()
    kept = sorted(done, key=lambda entry: entry[0])[:rounds]
    return Timing(
        {name: [turn[name] for _, turn in kept] for name in calls}, [others for others, _ in kept]
    )


def _mean_seconds(call: Call, calls: int) -> float:
    call()
    start = time.perf_counter()
    for _ in range(calls):
        call()
    return (time.perf_counter() - start) / calls


def _wait(quiet: float, patience: float, interval: float = 0.2) -> float:
    """Sleep until other processes are idle; returns the seconds that it took."""
    start = time.perf_counter()
    while time.perf_counter() - start < patience:
        before = processor_seconds()
        time.sleep(interval)
        if others_share(before, processor_seconds()) < quiet:
            break
    return time.perf_counter() - start


def processor_seconds() -> tuple[float, float, float]:
    """Processor time since boot: of the whole machine, of that busy, of this process."""
    try:
        ticks = list(map(int, Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]))
    except OSError:
        return 0.0, 0.0, 0.0
    tick = os.sysconf("SC_CLK_TCK")
    idle = ticks[3] + ticks[4]
    return sum(ticks) / tick, (sum(ticks) - idle) / tick, time.process_time()


def others_share(before: tuple[float, ...], after: tuple[float, ...]) -> float:
    """The share of the machine that other processes, and the host, took in between."""
    total, busy, own = (b - a for a, b in zip(before, after, strict=True))
    return max(0.0, busy - own) / total if total else 0.0


def summary(times: Mapping[str, list[float]]) -> dict[str, dict[str, float]]:
    """Median, quartiles and minimum of every list of times, in milliseconds."""
    rows = {}
    for name, seconds in times.items():
        low, middle, high = statistics.quantiles(seconds, n=4, method="inclusive")
        values = {"median": middle, "low": low, "high": high, "min": min(seconds)}
        rows[name] = {key: 1e3 * value for key, value in values.items()}
    return rows


def ratio(times: Mapping[str, list[float]], name: str, to: str) -> float:
    """Median over rounds of ``name``'s time over that of ``to`` in the same round."""
    return statistics.median(a / b for a, b in zip(times[name], times[to], strict=True))


def machine(threads: int | None = None) -> dict[str, object]:
    """What the numbers were measured on; nothing that names the host or its user."""
    versions = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            versions[package] = None
    model, flags = _cpu()
    return {
        "cpu": model,
        "instruction_sets": [
            f for f in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f in flags
        ],
        "cores": len(os.sched_getaffinity(0))
        if hasattr(os, "sched_getaffinity")
        else os.cpu_count(),
        "threads": threads,
        "system": f"{platform.system()} {platform.machine()}",
        "versions": versions,
    }


def _cores() -> int | None:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count()


def _cpu() -> tuple[str, set[str]]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown", set()
    fields = dict(map(str.strip, line.split(":", 1)) for line in lines if ":" in line)
    return fields.get("model name", "unknown"), set(fields.get("flags", "").split())


def peak_bytes() -> int:
    """The largest resident size this process has had.

    Linux lets ``ru_maxrss`` start from the parent's size; ``VmHWM`` starts from zero at exec.
    """
    try:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return 1024 * int(line.split()[1])
    except OSError:
        pass
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else 1024 * peak


def peak_memory(module: str, factory: str, *args, repeat: int = 3, **kwargs) -> dict[str, int]:
    """Peak memory of ``module.factory(*args, **kwargs)()`` in a fresh process.

    Arguments are passed as JSON. Returns bytes: ``imports`` after the imports,
    ``peak`` after building and calling ``repeat`` times.
    """
    child = (
        "import importlib, json, sys\n"
        "from benchmarks.timing import peak_bytes\n"
        "module, factory, args, kwargs, repeat = json.loads(sys.argv[1])\n"
        "make = getattr(importlib.import_module(module), factory)\n"
        "imports = peak_bytes()\n"
        "call = make(*args, **kwargs)\n"
        "for _ in range(repeat): call()\n"
        "print(json.dumps({'imports': imports, 'peak': peak_bytes()}))\n"
    )
    job = json.dumps([module, factory, args, kwargs, repeat])
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run(
        [sys.executable, "-c", child, job], cwd=root, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{module}.{factory} failed in its own process:\n{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def write_json(path: str | Path, results: object) -> None:
    """Write all of ``results`` or leave the file as it was."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, suffix=".tmp")
    try:
        with os.fdopen(handle, "w") as file:
            json.dump(results, file, indent=2)
            file.write("\n")
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
