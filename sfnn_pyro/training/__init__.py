"""Training by stochastic gradient descent: trainer, schedule, optimizers, callbacks."""

from sfnn_pyro.training.callbacks import Callback
from sfnn_pyro.training.moments import GradientMoments
from sfnn_pyro.training.non_finite import NonFiniteError, TrainingError
from sfnn_pyro.training.optimizers import AdamBesideSGD, JointOptim, sgd
from sfnn_pyro.training.schedule import ConstantSchedule, Schedule, minibatches, triangular
from sfnn_pyro.training.trainer import Epoch, Trainer

__all__ = [
    "AdamBesideSGD",
    "Callback",
    "ConstantSchedule",
    "Epoch",
    "GradientMoments",
    "JointOptim",
    "NonFiniteError",
    "Schedule",
    "Trainer",
    "TrainingError",
    "minibatches",
    "sgd",
    "triangular",
]
