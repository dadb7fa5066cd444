"""Full disks, folders that cannot be written, and two processes in one folder."""

import errno
import os
import subprocess
import time
from unittest import mock

import pytest
import torch

from sfnn_pyro.runs import RunConfig, RunError, locked, train_run
from sfnn_pyro.system.atomic_files import WriteError
from sfnn_pyro.system.sealed_files import read_sealed
from sfnn_pyro.training import Schedule
from tests.commands import TINY, assert_refused, finish, sfnn, start

SCHEDULE = Schedule(epochs=2, batch_size=300, learning_rate=0.01)
CONFIG = RunConfig(hidden=(5,), particles=2, schedule=SCHEDULE)


@pytest.fixture(autouse=True)
def float32():
    torch.set_default_dtype(torch.float32)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    train_run(CONFIG, folder)
    torch.set_default_dtype(before)
    return folder


def full_after(writes):
    """A disk with room for so many files."""
    real, left = os.fsync, [writes]

    def fsync(handle):
        left[0] -= 1
        if left[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(handle)

    return mock.patch("sfnn_pyro.system.atomic_files.os.fsync", fsync)


@pytest.mark.parametrize("writes", range(30))
def test_whichever_write_fails_nothing_saved_is_lost(tmp_path, whole, writes):
    """Thirty files: configuration, eight checkpoints with checksums, history, best and last."""
    with full_after(writes), pytest.raises(WriteError, match="No space left on device"):
        train_run(CONFIG, tmp_path, checkpoint_minutes=0)
    assert not (tmp_path / "model.safetensors").exists()
    assert not list(tmp_path.glob(".*.*.*"))
    if writes >= 3:
        read_sealed(tmp_path / "checkpoint.pt", "checkpoint")
    train_run(CONFIG, tmp_path)
    for name in ("model.safetensors", "history.csv", "best.safetensors"):
        assert (tmp_path / name).read_bytes() == (whole / name).read_bytes()


def test_the_command_line_says_in_one_line_that_the_disk_is_full(capsys, tmp_path):
    with full_after(2):
        result = sfnn(capsys, "train", "--out", tmp_path, *TINY, "--checkpoint-minutes=0")
    assert_refused(
        result, "checkpoint.pt cannot be written (No space left on device): make room", "unchanged"
    )


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "small"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    try:
        subprocess.run(command, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no right to mount a small disk here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_disk_that_is_really_full(capsys, small_disk, whole):
    filler = small_disk / "filler"
    options = ("--seed=0", *TINY, "--checkpoint-minutes=0")
    folder = small_disk / "run"

    def fill(*arguments):
        with open(filler, "wb", buffering=0) as file, pytest.raises(OSError, match="No space"):
            while True:
                file.write(bytes(512))

    with mock.patch("sfnn_pyro.runs.training_run.write_history", fill):
        result = sfnn(capsys, "train", "--out", folder, *options)
    assert_refused(result, "best.safetensors cannot be written (No space left on device)")
    read_sealed(folder / "checkpoint.pt", "checkpoint")
    assert_refused(sfnn(capsys, "train", "--resume", folder), "cannot be written (No space left")
    filler.unlink()
    assert sfnn(capsys, "train", "--resume", folder).code == 0
    assert (folder / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_the_right_to_write(capsys, tmp_path):
    tmp_path.chmod(0o500)
    result = sfnn(capsys, "train", "--out", tmp_path / "run", *TINY)
    tmp_path.chmod(0o700)
    assert_refused(result, "cannot be used (Permission denied)")


def test_a_folder_that_nobody_may_write(capsys):
    if not os.path.isdir("/proc/self"):
        pytest.skip("no /proc here")
    assert_refused(sfnn(capsys, "train", "--out", "/proc/self/run", *TINY), "cannot be used")


def test_the_second_in_a_folder_is_told_and_mixes_nothing(capsys, tmp_path):
    with locked(tmp_path):
        result = sfnn(capsys, "train", "--out", tmp_path, *TINY)
        assert os.listdir(tmp_path) == [".lock"]
    assert_refused(result, f"{tmp_path} is in use by another process: wait until it ends")
    assert sfnn(capsys, "train", "--out", tmp_path, *TINY).code == 0


@pytest.mark.slow
def test_a_process_at_work_keeps_another_out(capsys, tmp_path):
    first = start("train", "--out", tmp_path, *TINY, "--epochs=100000")
    while not (tmp_path / "history.csv").exists():
        assert first.poll() is None
        time.sleep(0.01)
    assert_refused(sfnn(capsys, "train", "--resume", tmp_path), "is in use by another process")
    first.terminate()
    assert finish(first).code == 143


def test_a_run_of_another_configuration_is_left_alone(whole):
    before = {path.name: path.read_bytes() for path in whole.iterdir()}
    with pytest.raises(RunError, match="holds a run of another configuration"):
        train_run(RunConfig(hidden=(6,), particles=2, schedule=SCHEDULE), whole)
    assert {path.name: path.read_bytes() for path in whole.iterdir()} == before
