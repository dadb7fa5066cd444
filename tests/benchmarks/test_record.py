"""The record's arithmetic, and the table of records on its page."""

import json
from dataclasses import asdict

import pytest
import torch

from benchmarks import record
from sfnn_pyro.runs import RunConfig
from sfnn_pyro.runs.presets import preset
from sfnn_pyro.training import Schedule

FRONTIER = json.loads((record.ROOT / "benchmarks/results/record-frontier.json").read_text())
PAGE = (record.ROOT / "docs/speed.md").read_text()


def made_up(seconds, test, precision="bfloat16", others=0.01):
    return [
        {"precision": precision, "seed": seed, "seconds": second, "test": nats, "others": others}
        for seed, (second, nats) in enumerate(zip(seconds, test, strict=True))
    ]


@pytest.mark.parametrize(
    "seconds, test, within",
    [
        ([50.0, 60.0, 55.0], [53.7, 53.8, 53.75], True),
        ([50.0, 60.1, 55.0], [53.7, 53.8, 53.75], False),
        ([50.0, 60.0, 55.0], [53.7, 53.81, 53.75], False),
        ([50.0, 55.0], [53.7, 53.8], False),
    ],
)
def test_every_seed_must_reach_the_number_in_time(seconds, test, within):
    runs = made_up(seconds, test) + made_up([1.0], [99.0], "float32")
    found = record.summary(runs, "bfloat16")
    assert found == {
        "seeds": len(test),
        "seconds": max(seconds),
        "test": max(test),
        "within": within,
    }


def test_a_busy_machine_makes_no_record():
    runs = made_up([50.0] * 3, [53.7] * 3, others=0.2)
    assert record.summary(runs, "bfloat16")["within"] is False


def test_a_stored_run_is_known_by_its_configuration():
    config = preset("fast", seed=1)
    stored = json.loads(json.dumps({"configuration": asdict(config)}))
    assert record.same(stored, config)
    assert not record.same(stored, preset("fast", seed=2))
    assert not record.same(stored, RunConfig())


def test_a_run_is_trained_and_evaluated(monkeypatch):
    monkeypatch.setattr(record, "PARTICLES", 3)
    torch.set_default_dtype(torch.float32)
    schedule = Schedule(epochs=1, batch_size=300, learning_rate=0.01)
    config = RunConfig(hidden=(5,), particles=2, schedule=schedule)
    found = record.run(config, config.load_data(), threads=1)
    assert 0 < found["first_epoch_seconds"] <= found["seconds"]
    assert 0 < found["validation"] < 100 and 0 < found["test"] < 100
    assert record.same(json.loads(json.dumps(found)), config)


def test_the_frontier_on_the_page_is_that_of_the_result():
    for one in FRONTIER["runs"]:
        options = one["configuration"]
        schedule = options["schedule"]
        row = [
            f"{schedule['epochs']}",
            f"{schedule['batch_size']}",
            f"{options['kept']}",
            f"{schedule['learning_rate']:g}",
            f"{schedule['weight_decay']:g}",
            f"{options['noise']:g}",
            f"{one['seconds']:.0f}",
            f"{one['validation']:.2f}",
            f"{one['test']:.2f}",
        ]
        assert f"| {' | '.join(row)} |" in PAGE, row


def test_the_page_has_the_records_of_the_file():
    runs = json.loads((record.ROOT / "benchmarks/results/record.json").read_text())["runs"]
    for precision in ("bfloat16", "float32"):
        own = sorted(
            (one for one in runs if one["precision"] == precision), key=lambda one: one["seed"]
        )
        assert record.summary(own, precision)["within"]
        seconds = ", ".join(f"{one['seconds']:.1f}" for one in own)
        nats = ", ".join(f"{one['test']:.2f}" for one in own)
        assert f"| {precision} | {seconds} | {nats} | {own[0]['commit'][:7]} |" in PAGE
