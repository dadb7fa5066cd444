"""Training by stochastic gradient descent: trainer, schedule, optimizers, callbacks."""

from sfnn_pyro.training.averaging import MovingAverage
from sfnn_pyro.training.callbacks import Callback
from sfnn_pyro.training.csv_tracker import CSVTracker
from sfnn_pyro.training.early_stopping import EarlyStopping
from sfnn_pyro.training.moments import GradientMoments
from sfnn_pyro.training.non_finite import NonFiniteError, TrainingError
from sfnn_pyro.training.optimizers import OPTIMIZERS, AdamBesideSGD, JointOptim, adam, adamw, sgd
from sfnn_pyro.training.schedule import ConstantSchedule, Schedule, minibatches, triangular
from sfnn_pyro.training.tracking import Tracker, Tracking
from sfnn_pyro.training.trainer import Epoch, Trainer

__all__ = [
    "OPTIMIZERS",
    "AdamBesideSGD",
    "CSVTracker",
    "Callback",
    "ConstantSchedule",
    "EarlyStopping",
    "Epoch",
    "GradientMoments",
    "JointOptim",
    "MovingAverage",
    "NonFiniteError",
    "Schedule",
    "Tracker",
    "Tracking",
    "Trainer",
    "TrainingError",
    "adam",
    "adamw",
    "minibatches",
    "sgd",
    "triangular",
]
