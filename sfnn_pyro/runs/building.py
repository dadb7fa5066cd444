"""What a run trains, built from the names of its parts: network, program, proposal, estimator."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from pyro.infer import ELBO

from sfnn_pyro.estimators import ESTIMATORS
from sfnn_pyro.guides import MixtureProposal, PriorProposal, RecognitionNetwork
from sfnn_pyro.models import SFNN, HybridSFNN
from sfnn_pyro.reparam import deterministic
from sfnn_pyro.runs.choices import HYBRIDS


def build_network(
    network: str, sizes: Sequence[int], likelihood: str, *, stochastic: int, seed: int
) -> Any:
    """A network by its name, freshly initialised from a seed.

    Arguments:
        network: a name in ``NETWORKS``.
        sizes: widths from input to output.
        likelihood: of the output.
        stochastic: stochastic units in each hidden layer of the networks C and D.
        seed: of the initial weights.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        if network in HYBRIDS:
            learned = network == "hybrid"
            return HybridSFNN(sizes, likelihood, stochastic=stochastic, learned=learned)
        return SFNN(sizes, likelihood)


def program_of(network: str, model: Any) -> Any:
    """The model as a network runs it: as it is, or with every latent at its mean."""
    return deterministic(model) if network == "deterministic" else model


def build_proposal(proposal: str, model: Any, program: Any, *, encoder: int, seed: int) -> Any:
    """The proposal for a program of a model; a learned one is initialised from a seed.

    Arguments:
        proposal: ``"prior"``, ``"recognition"`` or ``"mixture"``.
        model: the network, for its widths, device and dtype.
        program: what the network runs, see ``program_of``.
        encoder: units of a learned proposal's encoder; 0 for none.
        seed: of the initial weights.
    """
    prior = PriorProposal(program)
    if proposal == "prior":
        return prior
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        recognition = RecognitionNetwork(_latents_of(model), encoder)
        recognition.to(next(model.parameters()))
    return recognition if proposal == "recognition" else MixtureProposal(prior, recognition)


def build_estimator(name: str, particles: int, *, insomnia: float = 1.0) -> ELBO:
    """An estimator by its name.

    Arguments:
        name: a name in ``ESTIMATORS``.
        particles: M.
        insomnia: of ``ReweightedWakeSleep``.

    Raises:
        ValueError: it cannot be with so many particles.

    Example:
        >>> build_estimator("g3", 5).num_particles
        5
    """
    options: dict[str, Any] = {"insomnia": insomnia} if name == "rws" else {}
    return ESTIMATORS[name](num_particles=particles, **options)


def _latents_of(model: Any) -> Any:
    """What a recognition network reads of a model: the widths of its latents, its output."""
    if not isinstance(model, HybridSFNN):
        return model
    n_in, *hidden, n_out = model.sizes
    return SimpleNamespace(
        sizes=[n_in, *(model.stochastic for _ in hidden), n_out],
        likelihood=model.likelihood,
        data_size=model.data_size,
    )
