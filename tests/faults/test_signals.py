"""SIGTERM and Ctrl-C: saved, one clear line, gone within two seconds, nothing lost."""

import os
import signal
import time

import pytest
import torch

from sfnn_pyro import runs
from sfnn_pyro.runs import RunConfig
from sfnn_pyro.system.stop_requests import Interrupted, interruptible
from sfnn_pyro.training import Schedule
from tests.commands import TINY, finish, sfnn, start
from tests.faults.children import run_to_end

SCHEDULE = Schedule(epochs=2, batch_size=300, learning_rate=0.01)
CONFIG = RunConfig(hidden=(5,), particles=2, schedule=SCHEDULE)


@pytest.fixture(autouse=True)
def float32():
    torch.set_default_dtype(torch.float32)


def crowding():
    """How many processes share a core of this machine just now, at least one."""
    return max(1.0, os.getloadavg()[0] / os.cpu_count())


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_process_saves_and_leaves_within_two_seconds(tmp_path, number):
    options = ("--hidden=20", "--particles=5", "--epochs=40", "--seed=1")
    folder, undisturbed = tmp_path / "run", tmp_path / "undisturbed"
    process = start("train", "--out", folder, *options)
    end = time.monotonic() + 60
    while not (folder / "history.csv").exists():
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.01)
    sent = time.monotonic()
    process.send_signal(number)
    result = finish(process)
    assert time.monotonic() - sent < 2 * crowding()
    assert result.code == 128 + number
    assert result.err.startswith(f"sfnn: stopped by {number.name}: saved at step ")
    assert result.err.endswith(f"; resume it with 'sfnn train --resume {folder}'\n")
    assert result.err.count("\n") == 1
    assert (folder / "checkpoint.pt").exists() and not (folder / "model.safetensors").exists()
    assert run_to_end("train", "--resume", folder) == 0
    assert run_to_end("train", "--out", undisturbed, *options) == 0
    for name in ("model.safetensors", "history.csv"):
        assert (folder / name).read_bytes() == (undisturbed / name).read_bytes()


def interrupted_at(folder, step, number=signal.SIGTERM):
    def on_step(trainer, mean):
        if trainer.steps == step:
            os.kill(os.getpid(), number)

    with pytest.raises(Interrupted) as caught:
        runs.train_run(CONFIG, folder, on_step=on_step)
    return caught.value


@pytest.mark.parametrize("step", [1, 4, 7, 8])
def test_wherever_it_comes_the_rest_gives_the_same_bits(tmp_path, step):
    error = interrupted_at(tmp_path / "run", step)
    assert (error.number, f"saved at step {step};" in str(error)) == (signal.SIGTERM, True)
    for name in ("run", "whole"):
        runs.train_run(CONFIG, tmp_path / name)
    for name in ("model.safetensors", "history.csv", "best.safetensors"):
        contents = (tmp_path / "run" / name).read_bytes()
        assert contents == (tmp_path / "whole" / name).read_bytes()


def test_a_closed_terminal_saves_unless_it_is_ignored(tmp_path, monkeypatch):
    error = interrupted_at(tmp_path / "run", 2, signal.SIGHUP)
    assert (error.number, "saved at step 2;" in str(error)) == (signal.SIGHUP, True)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with interruptible() as request:
            os.kill(os.getpid(), signal.SIGHUP)
            assert request.number is None
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_validation_is_left_too(tmp_path, monkeypatch):
    monkeypatch.setattr("sfnn_pyro.training.trainer.log_likelihood", _signalled)
    with pytest.raises(Interrupted, match="saved at step 4;"):
        runs.train_run(CONFIG, tmp_path / "run")
    monkeypatch.undo()
    for name in ("run", "whole"):
        runs.train_run(CONFIG, tmp_path / name)
    contents = [(tmp_path / name / "history.csv").read_bytes() for name in ("run", "whole")]
    assert contents[0] == contents[1]


def _signalled(*args, on_batch, **kwargs):
    os.kill(os.getpid(), signal.SIGTERM)
    on_batch(100)
    pytest.fail("validation went on")


def test_the_command_line_says_so_in_one_line(capsys, tmp_path, monkeypatch):
    monkeypatch.setattr("sfnn_pyro.training.trainer.log_likelihood", _signalled)
    result = sfnn(capsys, "train", "--out", tmp_path, *TINY)
    assert result.code == 143
    assert result.err == (
        "sfnn: stopped by SIGTERM: saved at step 4; "
        f"resume it with 'sfnn train --resume {tmp_path}'\n"
    )


def test_the_second_signal_leaves_at_once_and_keeps_what_was_saved(tmp_path):
    interrupted_at(tmp_path, 3)
    before = (tmp_path / "checkpoint.pt").read_bytes()

    def on_step(trainer, mean):
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        runs.train_run(CONFIG, tmp_path, on_step=on_step)
    assert (tmp_path / "checkpoint.pt").read_bytes() == before


def test_handlers_are_put_back():
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyError), interruptible():
        raise KeyError
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_in_another_thread_training_works_without_handlers(tmp_path):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        pool.submit(runs.train_run, CONFIG, tmp_path).result()
    assert (tmp_path / "model.safetensors").exists()


def test_ctrl_c_elsewhere_is_one_line(capsys, monkeypatch):
    def stop(name):
        raise KeyboardInterrupt

    monkeypatch.setattr("sfnn_pyro.cli.datasets.download", stop)
    result = sfnn(capsys, "data", "download", "mnist")
    assert (result.code, result.err.strip()) == (130, "sfnn: interrupted")


def test_under_torchrun_a_second_signal_changes_nothing(monkeypatch):
    """Slurm signals all processes of a step, then torchrun passes its own on."""
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a")
    with interruptible() as request:
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGINT)
        with pytest.raises(Interrupted, match="stopped by SIGTERM"):
            request.check()
