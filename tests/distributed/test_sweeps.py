"""A sweep on either engine: the same results, whatever is killed, and no process left behind."""

import dataclasses
import importlib.util
import json
import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sfnn_pyro.experiments import on_ray
from sfnn_pyro.experiments.results import read_results
from sfnn_pyro.runs import RunError
from tests.commands import assert_refused, sfnn
from tests.distributed.launch import PATIENCE, children, wait_for
from tests.distributed.sweeping import NAMES

needs_proc = pytest.mark.skipif(sys.platform != "linux", reason="looks for workers in /proc")
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None or sys.platform != "linux",
    reason="needs Ray (the extra 'ray'), and looks for its workers in /proc",
)


def start(folder, engine):
    return subprocess.Popen(
        [sys.executable, "-m", "tests.distributed.sweeping", str(folder), engine],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    folder = tmp_path_factory.mktemp("local")
    process = start(folder, "local")
    assert process.wait(PATIENCE) == 0, process.communicate()
    process.communicate()
    return folder


def family(pid):
    """A process and all that it started, directly or not."""
    return [pid, *(other for child in children(pid) for other in family(child))]


def at_work(folder):
    """Processes that hold a run of the folder."""
    locks = {str(lock) for lock in (folder / "work").glob("*/.lock")}
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc") if locks else ()):
        try:
            folder_of_handles = f"/proc/{pid}/fd"
            handles = [
                os.readlink(f"{folder_of_handles}/{one}") for one in os.listdir(folder_of_handles)
            ]
        except OSError:  # it ended, or closed a file
            continue
        if locks & set(handles):
            found.add(int(pid))
    return found


def measured(folder):
    """The results, but for what depends on the clock and the threads."""
    results = read_results(folder)
    return {
        name: {key: value for key, value in result.items() if key not in ("seconds", "machine")}
        for name, result in results.items()
    }


def assert_none_left(pids):
    assert not [pid for pid in pids if Path(f"/proc/{pid}/exe").exists()]


@needs_ray
@pytest.mark.slow
def test_ctrl_c_and_a_killed_worker_lose_nothing_and_make_nothing_twice(local, tmp_path):
    process = start(tmp_path, "ray")
    wait_for(lambda: at_work(tmp_path), process)
    pids = family(process.pid)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode != 0 and "KeyboardInterrupt" in err
    saved = {path.parent.name for path in (tmp_path / "work").glob("*/checkpoint.pt")}
    assert saved and saved <= NAMES - set(read_results(tmp_path))
    assert_none_left(pids)

    process = start(tmp_path, "ray")  # goes on
    first, *_ = wait_for(lambda: at_work(tmp_path), process)
    os.kill(first, signal.SIGKILL)
    wait_for(lambda: at_work(tmp_path) - {first}, process)
    pids = family(process.pid)
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    assert sum(out.count(f": {name}\n") for name in NAMES) == len(NAMES)  # each was made once
    assert set(measured(tmp_path)) == NAMES
    assert measured(tmp_path) == measured(local)
    assert not list((tmp_path / "work").iterdir())
    assert_none_left(pids)


@needs_proc
@pytest.mark.slow
def test_a_killed_process_of_a_local_sweep_is_told_and_the_sweep_goes_on(local, tmp_path):
    process = start(tmp_path, "processes")
    first, *_ = wait_for(lambda: at_work(tmp_path), process)
    os.kill(first, signal.SIGKILL)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1 and "a process of the sweep was killed, perhaps for" in err
    again = start(tmp_path, "processes")
    assert again.wait(PATIENCE) == 0, again.communicate()
    again.communicate()
    assert measured(tmp_path) == measured(local)


@needs_proc
@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_sweep_that_is_told_to_stop_leaves_nobody_at_work_and_loses_nothing(
    local, tmp_path, number
):
    process = start(tmp_path, "processes")
    wait_for(lambda: len(at_work(tmp_path)) == 2, process)
    pids = family(process.pid)
    process.send_signal(number)
    _, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 1
    assert f"stopped by {number.name}: the runs under way are saved" in err
    saved = {path.parent.name for path in (tmp_path / "work").glob("*/checkpoint.pt")}
    assert len(saved) == 2 and not read_results(tmp_path)
    assert_none_left(pids)
    again = start(tmp_path, "processes")
    assert again.wait(PATIENCE) == 0, again.communicate()
    again.communicate()
    assert measured(tmp_path) == measured(local)


def test_results_come_home_from_a_machine_that_does_not_share_the_folder(local_result, tmp_path):
    run, text = local_result

    class Ray:
        class exceptions:
            WorkerCrashedError = NodeDiedError = RayTaskError = KeyError

        @staticmethod
        def get(done):
            return False, text

    assert on_ray._store_result(Ray, None, run, tmp_path) == (run, False)
    assert set(read_results(tmp_path)) == {run.name}


def test_a_machine_without_the_data_is_named(local_result, tmp_path, monkeypatch):
    monkeypatch.setenv("SFNN_DATA", str(tmp_path / "here"))
    run = dataclasses.replace(local_result[0], data="tfd")
    with pytest.raises(RunError) as caught:
        on_ray._task(run, tmp_path, "cpu", 1, str(tmp_path / "not-here"))
    message = str(caught.value)
    assert (
        f"no usable data on {platform.node()} (tfd: no file TFD_48x48.mat in {tmp_path}/here"
        in (message)
    )
    (tmp_path / "not-here").mkdir()  # the folder of the machine that gave the command
    with pytest.raises(RunError, match=f"no file TFD_48x48.mat in {tmp_path}/not-here"):
        on_ray._task(run, tmp_path, "cpu", 1, str(tmp_path / "not-here"))


def test_an_error_of_a_run_comes_home_as_it_was_said(local_result, tmp_path):
    class TaskError(Exception):
        def __init__(self, cause):
            super().__init__("ray::_task() and the way it came")
            self.cause = cause

    class Ray:
        class exceptions:
            WorkerCrashedError = NodeDiedError = KeyError
            RayTaskError = TaskError

        @staticmethod
        def get(done):
            raise TaskError(done)

    run, _ = local_result
    with pytest.raises(RunError, match="as it was"):
        on_ray._store_result(Ray, RunError("as it was"), run, tmp_path)
    with pytest.raises(TaskError, match="the way it came"):
        on_ray._store_result(Ray, KeyError("another"), run, tmp_path)


@pytest.fixture
def local_result():
    from sfnn_pyro.experiments.grid import Run

    run = Run(particles=1)
    made = {"machine": {"processor": "one"}, "seconds": 1.0, "probes": {}, "evaluations": {}}
    return run, json.dumps({"config": run.to_dict(), **made})


@pytest.mark.parametrize(
    "options, message",
    [
        (("--engine", "slurm"), "engine='slurm': choose one of local, ray"),
        (("--address", "auto"), "--address has no effect without --engine ray"),
        (("--gpus", "0.5"), "--gpus has no effect without --engine ray"),
        (("--engine", "ray", "--address", "auto", "--workers", "2"), "--workers has no effect"),
    ],
)
def test_options_that_do_nothing_are_refused(capsys, tmp_path, options, message):
    result = sfnn(capsys, "reproduce", "theorem1", "--out", tmp_path, *options)
    assert_refused(result, message)


def test_without_ray_the_way_out_is_named(capsys, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    result = sfnn(capsys, "reproduce", "theorem1", "--out", tmp_path, "--engine", "ray")
    assert_refused(result, "pip install 'sfnn_pyro[ray]'", "leave --engine out")
