"""What a rank writes and leaves to others, seen in one process that plays a rank of two."""

import json
from typing import Any

import pytest
import torch
import torch.distributed as dist

from sfnn_pyro.distributed.process_group import ProcessGroup
from sfnn_pyro.runs import RunConfig, train_run
from sfnn_pyro.system.stop_requests import Interrupted
from sfnn_pyro.training import NonFiniteError, Schedule

CONFIG = RunConfig(hidden=(3,), particles=2, schedule=Schedule(epochs=2, batch_size=300))


class Playing(ProcessGroup):
    """A rank of two whose other has always the same to say."""

    def sum(self, values: Any) -> Any:
        return values

    def max(self, values: Any) -> Any:
        return values

    def broadcast(self, value: Any) -> Any:
        return value

    def gather_objects(self, value: Any) -> Any:
        return [value, value]


@pytest.fixture(autouse=True)
def group(tmp_path):
    torch.set_default_dtype(torch.float32)
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def test_the_first_rank_writes_and_records_every_start(tmp_path):
    folder = tmp_path / "run"

    def leave(trainer, mean):
        if trainer.steps == 3:
            raise Interrupted(15)

    with pytest.raises(Interrupted):
        train_run(CONFIG, folder, group=Playing(0, 2), on_step=leave)
    train_run(CONFIG, folder, group=Playing(0, 2))
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "model.safetensors",
        "best.safetensors",
        "history.csv",
        "config.json",
        "ranks.json",
    }
    starts = json.loads((folder / "ranks.json").read_text())
    assert [start["from_step"] for start in starts] == [0, 3]
    assert all(start["ranks"] == 2 and len(start["seeds"]) == 2 for start in starts)


def test_the_other_rank_writes_nothing(tmp_path):
    folder = tmp_path / "run"
    train_run(CONFIG, folder, group=Playing(1, 2), checkpoint_minutes=0)
    assert not folder.exists() or not list(folder.iterdir())


@pytest.mark.parametrize("rank", [0, 1])
def test_a_failure_is_reported_by_the_first_rank_alone(tmp_path, monkeypatch, rank):
    make = RunConfig.make_model

    def broken(self, data):
        model = make(self, data)
        torch.nn.init.constant_(model.layers[-1].bias, torch.nan)
        return model

    monkeypatch.setattr(RunConfig, "make_model", broken)
    folder = tmp_path / "run"
    with pytest.raises(NonFiniteError, match="step 1"):
        train_run(CONFIG, folder, group=Playing(rank, 2))
    assert (folder / "failure.json").exists() is (rank == 0)
