"""The process around the commands: its imports, threads, streams, and what a log gets."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import sfnn_pyro
from tests.commands import TINY, assert_refused, finish, sfnn, start

PATHS = f"import sys; sys.path[:0] = {[str(Path(sfnn_pyro.__file__).parents[1])]};"


def test_the_environment_is_prepared_before_torch_is_imported():
    code = (
        "import sys, os, sfnn_pyro.cli as cli; sys.argv = ['sfnn', '-h'];"
        "sys.modules['torch'] = None\ntry: cli.main()\nexcept ImportError: "
        "print(os.environ['OMP_WAIT_POLICY'])"
    )
    environment = {name: os.environ[name] for name in os.environ if name != "OMP_WAIT_POLICY"}
    command = [sys.executable, "-c", code]
    for given, expected in (({}, "passive"), ({"OMP_WAIT_POLICY": "active"}, "active")):
        ran = subprocess.run(command, env={**environment, **given}, capture_output=True, text=True)
        assert (ran.stdout, ran.stderr) == (f"{expected}\n", "")


def test_little_is_imported_before_ctrl_c_is_one_line():
    code = PATHS + "old = set(sys.modules); import sfnn_pyro.cli; print(*set(sys.modules) - old)"
    command = [sys.executable, "-I", "-S", "-c", code]
    ran = subprocess.run(command, capture_output=True, text=True)
    slow = {"typing", "threading", "contextlib", "pathlib", "math", "re", "torch", "typer"}
    assert "sfnn_pyro.cli.start" in ran.stdout and not slow & set(ran.stdout.split()), ran


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [0.3, 0.6, 1.0, 1.5, 2.0])
def test_ctrl_c_at_any_moment_of_the_start_is_one_line(tmp_path, seconds):
    process = start("train", "--epochs=100000", "--quiet", "--out", tmp_path / "run")
    time.sleep(seconds)
    process.send_signal(signal.SIGINT)
    result = finish(process)
    assert result.code == 130 and result.err.count("\n") == 1, result.err
    assert result.err.startswith(("sfnn: interrupted", "sfnn: stopped by SIGINT: saved"))


def test_a_log_gets_lines_and_standard_output_the_results_alone(capsys, tmp_path):
    result = sfnn(capsys, "train", "--out", tmp_path / "run", *TINY)
    assert result.out.startswith("Complete: ") and result.out.count("\n") == 1
    first, *_, last = result.progress.splitlines()
    assert re.fullmatch(r"train: +\d+ %, epoch 1 of 2, +-\d+\.\d+ nats, rate \S+", first)
    assert last.startswith("train: 100 %, epoch 2 of 2, ") and ", took " in last
    result = sfnn(capsys, "evaluate", tmp_path / "run", "--particles=2")
    assert "evaluate: 100 %" in result.progress and "%" not in result.out


def test_quiet_shows_no_progress_and_json_is_strict(capsys, tmp_path):
    def read(text):
        return json.loads(text, parse_constant=pytest.fail)

    run = tmp_path / "run"
    result = sfnn(capsys, "train", "--out", run, *TINY, "--quiet", "--json")
    assert (result.progress, result.err) == ("", "")
    assert read(result.out)["run"] == str(run) and read(result.out)["epoch"] == 2
    result = sfnn(capsys, "evaluate", run, "--particles=2", "--quiet", "--json")
    assert result.err == result.progress == ""
    assert read(result.out) == read((run / "evaluation-test-2.json").read_text())
    result = sfnn(capsys, "complete", run, "--rows=2", "--samples=2", "--json")
    assert read(result.out)["picture"] == str(run / "completions.png")
    assert read(sfnn(capsys, "data", "list", "--json").out)["digits"]["train"] == 1197


def test_a_terminal_of_ascii_gets_the_result(tmp_path):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "OMP_NUM_THREADS": "1"}
    code = "from sfnn_pyro.system.streams import write_any_text as w; w(); print('1 ± 2 ü \\udcff')"
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True)
    assert (ran.stdout, ran.stderr) == (b"1 +- 2 \\xfc \\udcff\n", b"")


@pytest.mark.parametrize("name", ["[red]x[/red]", "[/x]", "my run", "it's"])
def test_brackets_and_blanks_in_paths(capsys, tmp_path, monkeypatch, name):
    monkeypatch.setenv("SFNN_DATA", str(tmp_path / name))
    assert name in sfnn(capsys, "data", "list").out
    result = sfnn(capsys, "train", "--out", tmp_path / name, *TINY)
    printed = result.out.partition("Next: ")[2].partition(";")[0]
    told = subprocess.run(["sh", "-c", f"printf %s {printed[14:]}"], capture_output=True, text=True)
    assert told.stdout == str(tmp_path / name)


def test_what_cannot_be_written_is_printed_first(capsys, tmp_path):
    run = tmp_path / "run"
    assert sfnn(capsys, "train", "--out", run, *TINY).code == 0
    (run / "evaluation-test-2.json").mkdir()  # in the place of a file system of no writing
    result = sfnn(capsys, "evaluate", run, "--particles=2")
    assert result.code == 0 and result.out.startswith("negative log-likelihood, test, M = 2: ")
    assert result.err.startswith("sfnn: not kept: ") and "or give --out" in result.err
    elsewhere = tmp_path / "value.json"
    result = sfnn(capsys, "evaluate", run, "--particles=2", "--out", elsewhere)
    assert result.out.endswith(f"Wrote {elsewhere}\n") and elsewhere.is_file()


def test_a_false_start_leaves_nothing(capsys, tmp_path):
    folder = tmp_path / "a" / "b"
    result = sfnn(capsys, "train", "--estimator=vimco", "--particles=1", "--out", folder)
    assert_refused(result, "needs at least 2")
    assert not (tmp_path / "a").exists()
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "checkpoint.pt").write_text("something")
    assert_refused(sfnn(capsys, "train", "--out", tmp_path / "a", *TINY), "no config.json")
    assert os.listdir(tmp_path / "a") == ["checkpoint.pt"]


def test_a_diverged_training_is_not_called_complete(capsys, tmp_path):
    result = sfnn(capsys, "train", "--out", tmp_path / "run", *TINY, "--learning-rate=1e6")
    assert result.code == 2 and "Complete" not in result.out
    assert "diverged" in result.err or "smaller learning rate" in result.err


@pytest.mark.parametrize("proposal", ["recognition", "mixture"])
def test_a_learned_proposal_is_trained_and_resumed(capsys, tmp_path, proposal):
    options = (
        "--estimator=rws",
        *TINY,
        *(() if proposal == "recognition" else ("--proposal=mixture",)),
    )
    for name in "ab":
        assert sfnn(capsys, "train", "--out", tmp_path / name, *options).code == 0
    assert (tmp_path / "a/model.safetensors").read_bytes() == (
        tmp_path / "b/model.safetensors"
    ).read_bytes()
    assert json.loads((tmp_path / "a/config.json").read_text())["proposal"] == proposal


@pytest.mark.slow
def test_a_killed_sweep_leaves_no_worker(tmp_path):
    process = start(
        "reproduce", "theorem1", "--workers=2", "--out", tmp_path, start_new_session=True
    )
    end = time.monotonic() + 120
    while not list(tmp_path.glob("work/*/.lock")):
        assert time.monotonic() < end and process.poll() is None
        time.sleep(0.1)
    process.kill()
    process.communicate()

    def left():
        table = subprocess.run(["ps", "-eo", "sid=,args="], capture_output=True, text=True).stdout
        return [row for row in table.splitlines() if row.split()[0] == str(process.pid)]

    end = time.monotonic() + 30
    while left():
        assert time.monotonic() < end, left()
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("redirection", "code", "out"),
    [
        ("2>&-", 0, "negative log-likelihood"),
        ("2>/dev/full", 0, "negative log-likelihood"),
        (">&- 2>&- <&-", 0, ""),
        (">/dev/full", 2, ""),
    ],
)
def test_streams_that_are_closed_or_full(capsys, tmp_path, redirection, code, out):
    assert sfnn(capsys, "train", "--out", tmp_path / "run", *TINY).code == 0
    line = f'"$0" -m sfnn_pyro evaluate "$1" --particles 2 {redirection}'
    words = ["sh", "-c", line, sys.executable, tmp_path / "run"]
    ran = subprocess.run(words, capture_output=True, text=True)
    assert ran.returncode == code and ran.stdout.startswith(out) and "%" not in ran.stdout, ran
    if code:
        assert "sfnn: standard output cannot be written (No space" in ran.stderr
    else:
        assert (tmp_path / "run" / "evaluation-test-2.json").read_text().startswith("{")


@pytest.mark.slow
def test_an_error_is_no_part_of_standard_output(tmp_path):
    line = '"$0" -m sfnn_pyro evaluate "$1" 2>&-'
    words = ["sh", "-c", line, sys.executable, tmp_path]
    ran = subprocess.run(words, capture_output=True, text=True)
    assert (ran.returncode, ran.stdout) == (2, "")
