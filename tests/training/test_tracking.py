"""What follows a training: the CSV file, TensorBoard's writer, progress, the average."""

import copy
import csv

import pytest
import torch
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from sfnn_pyro.data import load_dataset
from sfnn_pyro.estimators import G3
from sfnn_pyro.guides import PriorProposal
from sfnn_pyro.models import SFNN
from sfnn_pyro.training import Callback, CSVTracker, EarlyStopping, Schedule, Tracking, Trainer


def trainer(epochs=2, **options):
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    digits, model = load_dataset("digits"), SFNN([32, 5, 32])
    schedule = Schedule(epochs=epochs, batch_size=300)
    return Trainer(
        model, PriorProposal(model), G3(2), digits.train, digits.validation, schedule, **options
    )


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_csv_file_holds_every_step_and_epoch(tmp_path):
    path = tmp_path / "training.csv"
    training = trainer()
    history = list(training.run(Tracking(path)))
    rows = rows_of(path)
    steps = [row for row in rows if row["tag"] == "step/log_likelihood"]
    assert [int(row["step"]) for row in steps] == list(range(1, training.steps + 1))
    validation = [float(row["value"]) for row in rows if row["tag"].startswith("validation")]
    assert validation == [epoch.validation_log_likelihood for epoch in history]


def test_the_file_is_the_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    list(trainer(epochs=1).run(Tracking()))
    assert rows_of(tmp_path / "training.csv")


def test_nothing_is_made_before_the_first_step(tmp_path):
    Tracking(tmp_path / "training.csv")
    assert not list(tmp_path.iterdir())


def test_a_resumed_training_leaves_the_same_file(tmp_path):
    whole, parts = tmp_path / "whole.csv", tmp_path / "parts.csv"
    list(trainer().run(Tracking(whole)))

    class Stop(Exception):
        pass

    class KilledAt(Callback):
        def on_step(self, training, log_likelihood):
            if training.steps == 3:
                self.state = copy.deepcopy(training.state_dict())
            if training.steps == 5:
                raise Stop

    killed = KilledAt()
    with pytest.raises(Stop):
        list(trainer().run(Tracking(parts), killed))
    with parts.open("a") as file:
        file.write("6,step/log_li")  # a line that was cut off
    resumed = trainer()
    resumed.load_state_dict(killed.state)
    list(resumed.run(Tracking(parts)))
    assert parts.read_text() == whole.read_text()


def test_another_file_is_refused_and_kept(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"table\.csv holds no numbers of a training"):
        CSVTracker(path)
    assert path.read_text() == "a,b\n1,2\n"


@pytest.mark.filterwarnings("ignore")  # of the libraries that TensorBoard brings
def test_a_summary_writer_is_a_tracker_as_it_is(tmp_path):
    pytest.importorskip("tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    made = []

    def make(step):
        made.append(SummaryWriter(str(tmp_path), purge_step=step))
        return made[-1]

    list(trainer(epochs=1).run(Tracking(make)))
    (writer,) = made
    writer.close()
    assert any(path.name.startswith("events.out") for path in tmp_path.iterdir())


def test_a_run_is_an_iterator_that_a_progress_bar_follows():
    progress = pytest.importorskip("rich.progress")
    training = trainer()
    epochs = list(progress.track(training.run(), total=training.schedule.epochs, disable=True))
    assert [epoch.epoch for epoch in epochs] == [1, 2]


def test_patience_and_tracking_go_together(tmp_path):
    path = tmp_path / "training.csv"
    history = list(trainer(epochs=40).run(EarlyStopping(patience=1), Tracking(path)))
    values = [epoch.validation_log_likelihood for epoch in history]
    assert len(history) == 40 or values[-1] <= max(values[:-1])
    assert len([row for row in rows_of(path) if row["tag"].startswith("validation")]) == len(values)


def test_the_average_is_that_of_pytorch():
    training = trainer(epochs=1, ema=0.5)
    rival = AveragedModel(training.model, multi_avg_fn=get_ema_multi_avg_fn(0.5))

    class Update(Callback):
        def on_step(self, trainer, log_likelihood):
            rival.update_parameters(trainer.model)

    list(training.run(Update()))
    expected = list(rival.module.parameters())
    assert training.average.count == 4
    for ours, theirs in zip(training.average.values, expected, strict=True):
        torch.testing.assert_close(ours, theirs)
