"""Training by stochastic gradient descent, as in the paper."""

import copy
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass, field
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer import ELBO, SVI
from pyro.poutine.util import site_is_subsample
from torch import Tensor

from sfnn_pyro.data import Split
from sfnn_pyro.evaluation import log_likelihood
from sfnn_pyro.optim import JointOptim, triangular

MAX_SEED = 2**63


class TrainingError(RuntimeError):
    """Training cannot go on; the message says at which step and why."""


class NonFiniteError(TrainingError):
    """A step whose objective or gradient is not finite.

    The trainer is as it was before that step.

    Arguments:
        message: one line for a person.
        report: step and epoch, the objective, the minibatch as rows of the training data, and
            for every site at fault the rows where its log-probability is not finite.
    """

    def __init__(self, message: str, report: dict[str, Any]) -> None:
        super().__init__(message)
        self.report = report


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to learn.

    Arguments:
        epochs: passes over the training data.
        learning_rate: the maximum, of the objective's *mean* over a minibatch.
        batch_size: datapoints in a minibatch.
        momentum: of the stochastic gradient descent.
        rising_epochs: epochs until the maximum; at most half of all.
        seed: of the data's order and of the particles.
        weight_decay: what is added to the gradient of each parameter, times the parameter.

    Raises:
        ValueError: a value is out of range.
    """

    epochs: int = 10
    learning_rate: float = 0.1
    batch_size: int = 100
    momentum: float = 0.9
    rising_epochs: float = 5.0
    seed: int = 0
    weight_decay: float = 0.0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise ValueError(
                f"epochs={self.epochs}, batch_size={self.batch_size}: both must be at least 1"
            )
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate={self.learning_rate}: must be positive and finite")
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum={self.momentum}: must lie in [0, 1)")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise ValueError(f"weight_decay={self.weight_decay}: must be finite and at least 0")
        if not self.rising_epochs > 0:
            raise ValueError(f"rising_epochs={self.rising_epochs}: must be positive")
        if not 0 <= self.seed < MAX_SEED:
            raise ValueError(f"seed={self.seed}: must lie between 0 and 2**63 - 1")


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
    learning rates mean what they mean in the paper. Order of the data and random stream of the
    particles depend on the seed alone.

    Between steps ``state_dict`` holds everything that the rest of the training depends on: a
    trainer that loads it ends with the same bits as one that was never interrupted.

    Arguments:
        model: a Pyro module with the signature ``model(x, y)``.
        guide: its proposal.
        estimator: any Pyro ELBO.
        train: training data.
        validation: evaluated after every epoch; may be empty.
        schedule: how long and how fast.
        parameters: what to train; those of model and guide unless given.
        validation_particles: M of the validation's estimate.

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
    estimator: ELBO
    train: Split
    validation: Split
    schedule: Schedule
    parameters: list[Tensor] | None = None
    validation_particles: int = 20
    history: list[Epoch] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not len(self.train):
            raise ValueError("the training data are empty: give at least one datapoint")
        if self.parameters is None:
            self.parameters = [p for part in (self.model, self.guide) for p in _parameters(part)]
        self._trained = list(dict.fromkeys(self.parameters))
        self._optimizer = torch.optim.SGD(
            self._trained,
            lr=self.schedule.learning_rate,
            momentum=self.schedule.momentum,
            weight_decay=self.schedule.weight_decay,
            fused=True,
        )
        epochs = self.schedule.epochs
        self._factor = triangular(
            epochs * self.steps_per_epoch,
            min(self.schedule.rising_epochs, epochs / 2) * self.steps_per_epoch,
        )
        self._seeded = False
        self._steps, self._total = 0, 0.0  # of the epoch that is under way

    @property
    def steps_per_epoch(self) -> int:
        """Minibatches in a pass over the training data."""
        return math.ceil(len(self.train) / self.schedule.batch_size)

    @property
    def learning_rate(self) -> float:
        """Of the last step."""
        return self._optimizer.param_groups[0]["lr"]

    @property
    def steps(self) -> int:
        """Taken since the training began."""
        return len(self.history) * self.steps_per_epoch + self._steps

    @property
    def progress(self) -> float:
        """The part of all steps that is done, 0 to 1."""
        return self.steps / (self.schedule.epochs * self.steps_per_epoch)

    def run(
        self,
        on_step: Callable[[float], None] | None = None,
        on_validation: Callable[[int], None] | None = None,
    ) -> Iterator[Epoch]:
        """Trains from where the trainer stands; yields after every epoch.

        Arguments:
            on_step: called after every step with the mean of its log-likelihood estimates;
                the state may be saved there, and training left by an exception.
            on_validation: called during validation with a count of datapoints; may raise.
        """
        if not self._seeded:
            torch.manual_seed(self.schedule.seed)
            self._seeded = True
        while len(self.history) < self.schedule.epochs:
            with _own_parameter_store(), _quiet_about_nan():
                self._rest_of_epoch(on_step)
            mean = self._total / len(self.train)
            validation = self._validate(on_validation)
            self.history.append(Epoch(len(self.history) + 1, self.learning_rate, mean, validation))
            self._steps, self._total = 0, 0.0
            yield self.history[-1]

    def state_dict(self) -> dict[str, Any]:
        """Everything that the rest of the training depends on, but for its arguments."""
        return {
            "parameters": [p.detach() for p in self._trained],
            "optimizer": self._optimizer.state_dict(),
            "moment": self._moment(),
            "seeded": self._seeded,
            "steps": self._steps,
            "total": self._total,
            "history": [astuple(epoch) for epoch in self.history],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Goes to where another trainer with the same arguments stood."""
        shapes = [tuple(p.shape) for p in self._trained]
        stored = [tuple(p.shape) for p in state["parameters"]]
        if shapes != stored:
            raise ValueError(f"the state has parameters of shapes {stored}, not {shapes}")
        with torch.no_grad():
            for parameter, value in zip(self._trained, state["parameters"], strict=True):
                parameter.copy_(value)
        self._optimizer.load_state_dict(state["optimizer"])
        self._seeded = state["seeded"]
        self._return_to(state["moment"])
        self._steps, self._total = state["steps"], state["total"]
        self.history[:] = [Epoch(*values) for values in state["history"]]

    def _rest_of_epoch(self, on_step: Callable[[float], None] | None) -> None:
        optim = JointOptim(self._optimizer)
        svi = SVI(self.model, self.guide, optim, self.estimator.loss, self._loss_and_grads)
        for rows in self._minibatches(len(self.history))[self._steps :]:
            mean = self._step(svi, rows)
            self._total += mean * len(rows)
            self._steps += 1
            if on_step is not None:
                on_step(mean)

    def _step(self, svi: SVI, rows: Tensor) -> float:
        for group in self._optimizer.param_groups:
            group["lr"] = self.schedule.learning_rate * self._factor(self.steps)
        before = self._moment()
        try:
            return self._take(svi, rows)
        except _NonFinite as error:
            self._optimizer.zero_grad()
            self._return_to(before)
            sites = self._sites_at_fault(rows)
            self._return_to(before)
            raise self._non_finite(error.what, sites, rows) from None

    def _take(self, svi: SVI, rows: Tensor) -> float:
        """One step; the mean over the minibatch of its log-likelihood estimates."""
        with poutine.scale(scale=1 / len(rows)):
            return -svi.step(self.train.x[rows], self.train.y[rows])

    def _loss_and_grads(self, *args: Any) -> float:
        """The loss, checked with the gradients before the optimizer sees them."""
        loss = self.estimator.loss_and_grads(*args)
        self._check_step(loss)
        return loss

    def _check_step(self, loss: float) -> None:
        if not math.isfinite(loss):
            raise _NonFinite(f"the objective is {-loss}")
        grads = [p.grad for p in self._trained if p.grad is not None]
        if not torch.nn.utils.get_total_norm(grads, norm_type=math.inf).isfinite():
            raise _NonFinite("the gradient is not finite")

    def _sites_at_fault(self, rows: Tensor) -> dict[str, list[int]]:
        """Runs a step's loss again, on the same particles, with an eye on every site."""
        with _own_parameter_store(), _NonFiniteSites(len(rows)) as found:
            self.estimator.loss(self.model, self.guide, self.train.x[rows], self.train.y[rows])
        return {name: rows[bad].tolist() for name, bad in found.sites.items()}

    def _non_finite(self, what: str, sites: dict[str, list[int]], rows: Tensor) -> NonFiniteError:
        step, epoch = self.steps + 1, len(self.history) + 1
        places = "; ".join(f"site '{name}' at {_few(bad)}" for name, bad in sites.items())
        report = {
            "step": step,
            "epoch": epoch,
            "what": what,
            "sites": sites,
            "minibatch": rows.tolist(),
        }
        return NonFiniteError(
            f"{what} at step {step} (epoch {epoch}), minibatch of {_few(rows.tolist())}; not "
            f"finite: {places or 'no site, only the gradient'}; try a smaller learning rate",
            report,
        )

    def _moment(self) -> dict[str, Any]:
        """What a step changes beside parameters and optimizer: random state and estimator."""
        moment = {"random": torch.get_rng_state(), "estimator": _state_of(self.estimator)}
        if torch.cuda.is_initialized():
            moment["random_cuda"] = torch.cuda.get_rng_state_all()
        return moment

    def _return_to(self, moment: dict[str, Any]) -> None:
        torch.set_rng_state(moment["random"])
        if "random_cuda" in moment:
            torch.cuda.set_rng_state_all(moment["random_cuda"])
        if hasattr(self.estimator, "load_state_dict"):
            self.estimator.load_state_dict(copy.deepcopy(moment["estimator"]))

    def _minibatches(self, epoch: int) -> tuple[Tensor, ...]:
        return minibatches(len(self.train), self.schedule, epoch)

    def _validate(self, on_batch: Callable[[int], None] | None) -> float:
        if not len(self.validation):
            return math.nan
        with torch.random.fork_rng():
            torch.manual_seed(self.schedule.seed)
            values = log_likelihood(
                self.model,
                self.validation.x,
                self.validation.y,
                num_particles=self.validation_particles,
                on_batch=on_batch,
            )
        return values.mean().item()


def minibatches(count: int, schedule: Schedule, epoch: int) -> tuple[Tensor, ...]:
    """Rows of every minibatch of an epoch (from 0), by the schedule's seed alone."""
    seed = (schedule.seed * 1_000_003 + epoch) % MAX_SEED
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return order.split(schedule.batch_size)


class _NonFinite(Exception):
    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class _NonFiniteSites(poutine.messenger.Messenger):
    """Finds the sites whose log-probability makes a datapoint's weights not finite."""

    def __init__(self, batch_size: int) -> None:
        super().__init__()
        self.batch_size = batch_size
        self.sites: dict[str, Tensor] = {}

    def _pyro_post_sample(self, msg: Any) -> None:
        if site_is_subsample(msg):
            return
        log_prob = msg["fn"].log_prob(msg["value"]).detach()
        whole = log_prob.dim() == 0 or log_prob.shape[-1] != self.batch_size
        if whole:
            log_prob = log_prob.reshape(-1, 1)
        # Some particles may have a weight of zero, as long as one has not.
        bad = ~torch.logsumexp(log_prob.reshape(-1, log_prob.shape[-1]), 0).isfinite()
        if bad.any():
            self.sites[msg["name"]] = bad.expand(self.batch_size)


def _few(rows: list[int]) -> str:
    some = ", ".join(map(str, rows[:3]))
    return f"rows {some}" + (f" and {len(rows) - 3} more" if len(rows) > 3 else "")


def _state_of(estimator: Any) -> dict[str, Any]:
    """A copy of an estimator's own state; Pyro's estimators have none."""
    return copy.deepcopy(estimator.state_dict()) if hasattr(estimator, "state_dict") else {}


def _parameters(program: Any) -> list[Tensor]:
    return list(program.parameters()) if isinstance(program, torch.nn.Module) else []


@contextmanager
def _own_parameter_store() -> Iterator[None]:
    """An empty store of parameters, so that no other model of this process shares a name."""
    with pyro.get_param_store().scope():
        yield


@contextmanager
def _quiet_about_nan() -> Iterator[None]:
    """No warning of Pyro's beside the error that says more."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Encountered NaN")
        yield
