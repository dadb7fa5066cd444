"""A step that is not finite: how it is found, which sites are at fault, and what is reported."""

import math
from collections.abc import Iterable
from typing import Any

import pyro
import torch
from pyro import poutine
from pyro.infer import ELBO
from pyro.poutine.util import site_is_subsample
from torch import Tensor


class TrainingError(RuntimeError):
    """A training cannot continue; the message says at which step and why."""


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


class NonFiniteStep(Exception):
    """What is not finite in the step under way."""


def check_step(loss: float, parameters: Iterable[Tensor]) -> None:
    """Refuses a loss or a gradient that is not finite, before an optimizer sees it.

    Raises:
        NonFiniteStep: it says which of the two.

    Example:
        >>> check_step(float("inf"), [])
        Traceback (most recent call last):
            ...
        sfnn_pyro.training.non_finite.NonFiniteStep: the objective is -inf
    """
    if not math.isfinite(loss):
        raise NonFiniteStep(f"the objective is {-loss}")
    # A layer without inputs has a weight without elements, which have no largest.
    grads = [p.grad for p in parameters if p.grad is not None and p.numel()]
    if not torch.nn.utils.get_total_norm(grads, norm_type=math.inf).isfinite():
        raise NonFiniteStep("the gradient is not finite")


def sites_at_fault(
    estimator: ELBO, model: Any, guide: Any, x: Tensor, y: Tensor
) -> dict[str, Tensor]:
    """Runs the loss of a minibatch again and examines the log-probability of every site.

    Returns:
        For every site at fault, whether the weights of each datapoint are not finite, ``(B,)``.
    """
    # Without validation a draw from NaN is no error, so that every site is reached.
    with pyro.validation_enabled(False), NonFiniteSites(len(x)) as found:
        estimator.loss(model, guide, x, y)
    return found.sites


def non_finite_error(
    what: str, step: int, epoch: int, rows: list[int], sites: dict[str, list[int]]
) -> NonFiniteError:
    """The error of a step that is not finite, with its report.

    Arguments:
        what: what is not finite.
        step: its number, from 1.
        epoch: its number, from 1.
        rows: the minibatch, as rows of the training data.
        sites: rows at fault, by the name of the site.
    """
    places = "; ".join(f"site '{name}' at {_few(bad)}" for name, bad in sites.items())
    return NonFiniteError(
        f"{what} at step {step} (epoch {epoch}), minibatch of {_few(rows)}; not finite: "
        f"{places or 'no site, only the gradient'}; try a smaller learning rate",
        {"step": step, "epoch": epoch, "what": what, "sites": sites, "minibatch": rows},
    )


class NonFiniteSites(poutine.messenger.Messenger):
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
