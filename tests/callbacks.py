"""Functions as callbacks of a trainer."""

from sfnn_pyro.training import Callback


class OnStep(Callback):
    def __init__(self, function):
        self.function = function

    def on_step(self, trainer, log_likelihood):
        self.function(log_likelihood)


class OnValidation(Callback):
    def __init__(self, function):
        self.function = function

    def on_validation(self, trainer, datapoints):
        self.function(datapoints)
