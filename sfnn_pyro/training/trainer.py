"""The training loop: epochs, minibatches, steps, validation, and the state between steps."""

import copy
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import astuple, dataclass, field, fields
from typing import Any, Protocol, runtime_checkable

import pyro
import torch
from pyro import poutine
from pyro.infer import ELBO
from torch import Tensor

from sfnn_pyro.data import Split
from sfnn_pyro.evaluation import log_likelihood
from sfnn_pyro.particles.programs import BadValue
from sfnn_pyro.system.arguments import check_object, described
from sfnn_pyro.training.averaging import MovingAverage
from sfnn_pyro.training.callbacks import Callback
from sfnn_pyro.training.non_finite import (
    NonFiniteError,
    NonFiniteStep,
    check_step,
    non_finite_error,
    sites_at_fault,
)
from sfnn_pyro.training.optimizers import JointOptim, sgd
from sfnn_pyro.training.schedule import Schedule, minibatches
from sfnn_pyro.training.stored_state import (
    StateError,
    checked_tree,
    stored_number,
    stored_optimizer,
    stored_random_state,
    stored_tensor,
)

LARGEST = sys.float_info.max


@contextmanager
def _quiet_about_nan() -> Iterator[None]:
    """Suppresses a warning of Pyro's, because the error that follows says more."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Encountered NaN")
        yield


@runtime_checkable
class SeesRows(Protocol):
    """An estimator that may remember something of every datapoint."""

    def see_rows(self, rows: Tensor) -> None:
        """Says which rows of the training data the next step holds."""


@dataclass(frozen=True)
class Epoch:
    """One line of a training's history; log-likelihoods in nats per datapoint."""

    epoch: int
    learning_rate: float
    train_log_likelihood: float
    validation_log_likelihood: float


@dataclass
class Trainer:
    """Trains a model with a proposal and an estimator on one data set.

    The objective is the mean over the minibatch, by a ``poutine.scale`` of 1/B around the step:
    learning rates mean what they mean in the paper. The order of the data and the random numbers
    of the particles depend on the seed alone.

    Between steps ``state_dict`` holds everything that the rest of the training depends on: a
    trainer that loads it ends with the same bits as one that was never interrupted.

    A subclass overrides public methods alone: ``minibatches``, ``compute_gradients``,
    ``validate``, ``diagnose``, ``find_sites_at_fault``, ``use_estimator``, ``seed_random_state``.

    Arguments:
        model: a Pyro module with the signature ``model(x, y)``.
        guide: its proposal.
        estimator: any Pyro ELBO, or a function from an epoch (from 0) to that epoch's ELBO. One
            that follows another of its type takes over its state.
        train_data: training data, or a function from an epoch (from 0) to that epoch's data, which
            are equally many in all epochs.
        validation_data: evaluated after every epoch; may be empty.
        schedule: how long and how fast.
        parameters: what to train; those of model and guide unless given.
        validation_particles: M of the validation's estimate.
        make_optimizer: makes a PyTorch optimizer from the parameters and the schedule. The
            learning rate of each of its parameter groups is the highest of that group.
        ema: decay of a moving average of the parameters, which is what is validated; 0 for none.

    Raises:
        NonFiniteError: on a step whose objective or gradient is not finite.

    Example:
        >>> from sfnn_pyro.data import load_dataset
        >>> from sfnn_pyro.estimators import G3
        >>> from sfnn_pyro.guides import PriorProposal
        >>> from sfnn_pyro.models import SFNN
        >>> digits = load_dataset("digits")
        >>> model = SFNN([digits.x_size, 20, digits.y_size])
        >>> trainer = Trainer(model, PriorProposal(model), G3(5), digits.train,
        ...                   digits.validation, Schedule(epochs=2))
        >>> [epoch.epoch for epoch in trainer.run()]
        [1, 2]
    """

    model: Any
    guide: Any
    estimator: ELBO | Callable[[int], ELBO]
    train_data: Split | Callable[[int], Split]
    validation_data: Split
    schedule: Schedule
    parameters: list[Tensor] | None = None
    validation_particles: int = 20
    make_optimizer: Callable[[list[Tensor], Schedule], torch.optim.Optimizer] = sgd
    ema: float = 0.0
    history: list[Epoch] = field(default_factory=list, init=False)
    epoch_data: Split = field(init=False, repr=False)
    epoch_estimator: ELBO = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._check()
        if self.parameters is None:
            self.parameters = [p for part in (self.model, self.guide) for p in _parameters(part)]
        self.trained = list(dict.fromkeys(self.parameters))
        self.optimizer = self.make_optimizer(self.trained, self.schedule)
        self._optim = JointOptim(self.optimizer)
        self.average = MovingAverage(self.trained, self.ema) if self.ema else None
        self._highest_rates = [group["lr"] for group in self.optimizer.param_groups]
        # A store of its own, so that no other model of this process shares a parameter's name.
        self._store: Any = {"params": {}, "constraints": {}}
        self._given: ELBO | None = None
        self._seeded = False
        self._steps, self._total = 0, 0.0  # of the epoch that is under way
        self._enter_epoch()

    def _check(self) -> None:
        """Refuses arguments of a wrong type, such as a class in the place of an object."""
        check_object("schedule", self.schedule, Schedule, "give Schedule(...)")
        for name in ("train_data", "validation_data"):
            given = getattr(self, name)
            if name == "validation_data" or isinstance(given, type) or not callable(given):
                check_object(name, given, Split, "give Split(x, y), such as dataset.train")
        for name, example in (("model", "SFNN([4, 3, 2])"), ("estimator", "G3(20)")):
            given = getattr(self, name)
            if isinstance(given, type) or not callable(given):
                raise ValueError(f"{name} is {described(given)}: give an object, such as {example}")
        made = self.make_optimizer
        if not callable(made) or (
            isinstance(made, type) and issubclass(made, torch.optim.Optimizer)
        ):
            raise ValueError(
                f"make_optimizer is {described(made)}: give a function of the parameters and the "
                "schedule that returns an optimizer"
            )

    @property
    def steps_per_epoch(self) -> int:
        """Number of minibatches in a pass over the training data."""
        return math.ceil(len(self.epoch_data) / self.schedule.batch_size)

    @property
    def learning_rate(self) -> float:
        """Learning rate of the last step."""
        return self.optimizer.param_groups[0]["lr"]

    @property
    def steps(self) -> int:
        """Number of steps since the training began."""
        return len(self.history) * self.steps_per_epoch + self._steps

    @property
    def progress(self) -> float:
        """The part of all steps that is done, 0 to 1."""
        return self.steps / (self.schedule.epochs * self.steps_per_epoch)

    def run(self, *callbacks: Callback) -> Iterator[Epoch]:
        """Trains from the present state to the end of the schedule; yields after every epoch.

        Arguments:
            callbacks: called in their order after every step, validation batch and epoch; one of
                them may end the training before an epoch.
        """
        if not self._seeded:
            self.seed_random_state()
            self._seeded = True

        def on_batch(datapoints: int) -> None:
            for callback in callbacks:
                callback.on_validation(self, datapoints)

        while len(self.history) < self.schedule.epochs:
            if any(callback.should_stop(self) for callback in callbacks):
                return
            for rows in self.minibatches(len(self.history))[self._steps :]:
                mean = self.step(rows)
                for callback in callbacks:
                    callback.on_step(self, mean)
            mean = self._total / len(self.epoch_data)
            with self.averaged():
                validation = self.validate(on_batch)
            self.history.append(Epoch(len(self.history) + 1, self.learning_rate, mean, validation))
            self._steps, self._total = 0, 0.0
            self._enter_epoch()
            for callback in callbacks:
                callback.on_epoch(self, self.history[-1])
            yield self.history[-1]

    @_quiet_about_nan()
    def step(self, rows: Tensor) -> float:
        """Takes one step of the optimizer, with the learning rate of the schedule.

        Arguments:
            rows: the minibatch, as rows of the epoch's data.

        Returns:
            The mean over the minibatch of its log-likelihood estimates, in nats.

        Raises:
            NonFiniteError: the objective or the gradient is not finite; nothing has changed.
        """
        factor = self.schedule.factor(self.steps, self.steps_per_epoch)
        for group, rate in zip(self.optimizer.param_groups, self._highest_rates, strict=True):
            group["lr"] = rate * factor
        before = self.random_state()
        try:
            self.show_rows(rows)
            with pyro.get_param_store().scope(self._store):
                mean = self.compute_gradients(rows)
            check_step(-mean, self.trained)
        except (NonFiniteStep, BadValue) as error:
            self.optimizer.zero_grad()
            self.set_random_state(before)
            drawn = isinstance(error, BadValue)
            what = "the law of a draw is not finite" if drawn else str(error)
            diagnosis = self.diagnose(what, rows)
            self.set_random_state(before)
            raise diagnosis from None
        self._optim(self.trained)
        if self.average is not None:
            self.average.update(self.trained)
        self._steps += 1
        self._total += mean * len(rows)
        return mean

    def show_rows(self, rows: Tensor) -> None:
        """Says to an estimator that remembers datapoints which the next step holds."""
        if isinstance(self.epoch_estimator, SeesRows):
            self.epoch_estimator.see_rows(rows)

    def averaged(self) -> AbstractContextManager[None]:
        """While a block runs, the parameters are their moving average, if there is one."""
        return nullcontext() if self.average is None else self.average.in_place_of(self.trained)

    def minibatches(self, epoch: int) -> Sequence[Tensor]:
        """Rows of every minibatch of an epoch, from 0."""
        return minibatches(len(self.epoch_data), self.schedule, epoch)

    def compute_gradients(self, rows: Tensor) -> float:
        """Leaves the gradient of the mean loss in the parameters.

        Arguments:
            rows: the minibatch, as rows of the epoch's data.

        Returns:
            The mean over the minibatch of its log-likelihood estimates, in nats.
        """
        return -self.loss_and_grads(self.epoch_data.x[rows], self.epoch_data.y[rows], len(rows))

    def loss_and_grads(self, x: Tensor, y: Tensor, datapoints: int) -> float:
        """The estimator's loss and gradients, divided by a number of datapoints."""
        with poutine.trace(param_only=True) as tracer, poutine.scale(scale=1 / datapoints):
            loss = float(self.epoch_estimator.loss_and_grads(self.model, self.guide, x, y))
        sites = tracer.trace.nodes.values()
        self._optim.check_held(site["value"].unconstrained() for site in sites)
        return loss

    def diagnose(self, what: str, rows: Tensor) -> NonFiniteError:
        """The error of a step that is not finite; the random state is the one before the step."""
        sites = self.find_sites_at_fault(rows)
        return non_finite_error(what, self.steps + 1, len(self.history) + 1, rows.tolist(), sites)

    def find_sites_at_fault(self, rows: Tensor) -> dict[str, list[int]]:
        """Rows of a minibatch that are not finite, by the name of the site."""
        x, y = self.epoch_data.x[rows], self.epoch_data.y[rows]
        with pyro.get_param_store().scope(self._store):
            found = sites_at_fault(self.epoch_estimator, self.model, self.guide, x, y)
        return {name: rows[bad].tolist() for name, bad in found.items()}

    def validate(self, on_batch: Callable[[int], None]) -> float:
        """Mean log-likelihood of the validation data in nats, NaN if there are none."""
        if not len(self.validation_data):
            return math.nan
        return self.log_likelihood_of(self.model, self.validation_data, on_batch).mean().item()

    def log_likelihood_of(
        self, model: Any, data: Split, on_batch: Callable[[int], None], seed: int | None = None
    ) -> Tensor:
        """Log-likelihood of each datapoint in nats, by a seed and without a trace in the state."""
        with torch.random.fork_rng():
            torch.manual_seed(self.schedule.seed if seed is None else seed)
            return log_likelihood(
                model,
                data.x,
                data.y,
                num_particles=self.validation_particles,
                on_batch=on_batch,
            )

    def use_estimator(self, estimator: ELBO) -> None:
        """Makes an estimator that of the epoch, with the state of one of its type before it."""
        before: Any = getattr(self, "epoch_estimator", None)
        if type(before) is type(estimator) and (state := _state_of(before)):
            estimator.load_state_dict(state)
        self.epoch_estimator = estimator

    def seed_random_state(self) -> None:
        """Begins the random numbers of the particles, before the first step."""
        torch.manual_seed(self.schedule.seed)

    def random_state(self) -> dict[str, Any]:
        """What a step changes beside parameters and optimizer: random state and estimator."""
        state = {"random": torch.get_rng_state(), "estimator": _state_of(self.epoch_estimator)}
        if torch.cuda.is_initialized():
            state["random_cuda"] = torch.cuda.get_rng_state_all()
        return state

    def set_random_state(self, state: dict[str, Any]) -> None:
        """Restores what ``random_state`` returned."""
        torch.set_rng_state(state["random"])
        if "random_cuda" in state:
            torch.cuda.set_rng_state_all(state["random_cuda"])
        if hasattr(self.epoch_estimator, "load_state_dict"):
            self.epoch_estimator.load_state_dict(copy.deepcopy(state["estimator"]))

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the training depends on, except for its arguments."""
        average = {} if self.average is None else {"average": self.average.state_dict()}
        return {
            **average,
            "parameters": [p.detach() for p in self.trained],
            "optimizer": self.optimizer.state_dict(),
            "moment": self.random_state(),
            "seeded": self._seeded,
            "steps": self._steps,
            "total": self._total,
            "all_steps": self.steps,
            "history": [astuple(epoch) for epoch in self.history],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restores the state of another trainer with the same arguments.

        Raises:
            StateError: a field is not that of such a trainer; nothing has been loaded then.
        """
        loaded = self.checked_state(state)
        with torch.no_grad():
            for parameter, value in zip(self.trained, loaded["parameters"], strict=True):
                parameter.copy_(value)
        self.optimizer.load_state_dict(loaded["optimizer"])
        self._seeded = loaded["seeded"]
        self._steps, self._total = loaded["steps"], loaded["total"]
        self.history[:] = loaded["history"]
        if self.average is not None:
            self.average.load_state_dict(loaded["average"])
        self._enter_epoch()
        self.set_random_state(loaded["moment"])

    def checked_state(self, state: dict[str, Any]) -> dict[str, Any]:
        """A copy of a stored state, of which every field is one of this training.

        Raises:
            StateError: it is not; the message names the field.
        """
        if not isinstance(state, dict):
            raise StateError(f"the state is a {type(state).__name__}, no table")
        parameters = state["parameters"]
        shapes = [tuple(p.shape) for p in self.trained]
        if not isinstance(parameters, list) or len(parameters) != len(shapes):
            stored = [tuple(getattr(p, "shape", ())) for p in _as_list(parameters)]
            raise StateError(f"the state has parameters of shapes {stored}, not {shapes}")
        moment = state["moment"]
        if not isinstance(moment, dict) or not isinstance(moment["estimator"], dict):
            raise StateError("moment is no table with the table of the estimator")
        random = stored_random_state("moment['random']", moment["random"], torch.get_rng_state())
        loaded = {
            "parameters": [
                stored_tensor(f"parameters[{number}]", value, like)
                for number, (value, like) in enumerate(zip(parameters, self.trained, strict=True))
            ],
            "optimizer": stored_optimizer(state["optimizer"], self.optimizer),
            "moment": {
                **moment,
                "random": random,
                "estimator": checked_tree("moment['estimator']", moment["estimator"]),
            },
            "seeded": bool(stored_number("seeded", state["seeded"], bool, 0, 1)),
            "steps": stored_number("steps", state["steps"], int, 0, self.steps_per_epoch),
            "total": stored_number("total", state["total"], float, -LARGEST, LARGEST),
            "history": self._checked_history(state["history"]),
        }
        self._check_agreement(loaded, state.get("all_steps"))
        if self.average is not None:
            steps = len(loaded["history"]) * self.steps_per_epoch + loaded["steps"]
            loaded["average"] = self.average.checked_state(state.get("average"), steps)
        return loaded

    def _checked_history(self, stored: Any) -> list[Epoch]:
        if not isinstance(stored, list) or len(stored) > self.schedule.epochs:
            raise StateError(f"history: expected a list of at most {self.schedule.epochs} epochs")
        history = []
        for number, values in enumerate(stored):
            name = f"history[{number}]"
            if not isinstance(values, tuple | list) or len(values) != len(fields(Epoch)):
                raise StateError(f"{name}: expected {len(fields(Epoch))} numbers")
            epoch, rate, train, validation = values
            stored_number(f"{name}, epoch", epoch, int, number + 1, number + 1)
            last_step = (number + 1) * self.steps_per_epoch - 1
            self._check_rate(f"{name}, learning rate", rate, last_step)
            stored_number(f"{name}, training objective", train, float, -LARGEST, LARGEST)
            if not (len(self.validation_data) == 0 and validation != validation):
                stored_number(f"{name}, validation", validation, float, -math.inf, math.inf)
            history.append(Epoch(*values))
        return history

    def _check_agreement(self, loaded: dict[str, Any], all_steps: Any) -> None:
        """Refuses fields that contradict each other."""
        if len(loaded["history"]) == self.schedule.epochs and loaded["steps"]:
            raise StateError(f"steps={loaded['steps']} after the last epoch")
        steps = len(loaded["history"]) * self.steps_per_epoch + loaded["steps"]
        if all_steps is not None:  # files of earlier versions lack it
            stored_number("all_steps", all_steps, int, steps, steps)
        if not loaded["steps"] and loaded["total"]:
            raise StateError(f"total={loaded['total']} before the first step of an epoch")
        if steps and not loaded["seeded"]:
            raise StateError(f"seeded=False after {steps} steps")
        if steps:
            rate = loaded["optimizer"]["param_groups"][0]["lr"]
            self._check_rate("optimizer.param_groups[0], lr", rate, steps - 1)
        elif loaded["optimizer"]["state"]:
            raise StateError("optimizer.state: momentum before the first step")

    def _check_rate(self, name: str, rate: Any, step: int) -> None:
        """Refuses a learning rate that is not the schedule's; one of its first group alone."""
        expected = self._highest_rates[0] * self.schedule.factor(step, self.steps_per_epoch)
        stored_number(name, rate, float, 0.0, LARGEST)
        if not math.isclose(rate, expected, rel_tol=1e-9):
            raise StateError(f"{name} is {rate}, by the schedule it is {expected}")

    def _enter_epoch(self) -> None:
        """Takes the data and the estimator of the epoch that is next, or of the last one."""
        epoch = min(len(self.history), self.schedule.epochs - 1)
        data, given = self.train_data, self.estimator
        self.epoch_data = data(epoch) if callable(data) else data
        if not len(self.epoch_data):
            raise ValueError("the training data are empty: give at least one datapoint")
        given = given if isinstance(given, ELBO) else given(epoch)
        if given is not self._given:
            self._given = given
            self.use_estimator(given)


def _state_of(estimator: Any) -> dict[str, Any]:
    """A copy of an estimator's own state; Pyro's estimators have none."""
    return copy.deepcopy(estimator.state_dict()) if hasattr(estimator, "state_dict") else {}


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _parameters(program: Any) -> list[Tensor]:
    return list(program.parameters()) if isinstance(program, torch.nn.Module) else []
