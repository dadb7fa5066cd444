"""One problem whose particles are given, so that any division of them can be compared."""

from functools import partial

import pyro
import torch
from pyro import poutine
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

from sfnn_pyro.distributed import ParticleParallel, ProcessGroup
from sfnn_pyro.estimators import (
    G2,
    G3,
    G4,
    G5,
    OVIS,
    RLOO,
    VIMCO,
    DisARM,
    GumbelStraightThrough,
)
from sfnn_pyro.guides import MixtureProposal, PriorProposal, RecognitionNetwork
from sfnn_pyro.models import SFNN
from sfnn_pyro.particles import PARTICLE_PLATE

B, M = 100, 6
SIZES = [5, 4, 3, 6]
ESTIMATORS = {
    "g2": G2,
    "g3": G3,
    "g4": G4,
    "g5": G5,
    "vimco": VIMCO,
    "vimco-arithmetic": partial(VIMCO, mean="arithmetic"),
    "ovis": OVIS,
    "rloo": RLOO,
}
PROPOSALS = {
    "g2": ("prior",),
    "g3": ("prior",),
    "g5": ("prior", "mixture"),
}
CASES = [
    (name, proposal)
    for name in ESTIMATORS
    for proposal in PROPOSALS.get(name, ("prior", "recognition", "mixture"))
]

SHARDED = [("g3", "prior"), ("g5", "prior"), ("vimco", "prior")]


class Given(poutine.messenger.Messenger):
    """Gives hidden layers their values; one with a path as h = sigma(a) + eps, eps constant.

    ``identity`` instead gives them the slope of G2, one. A run of fewer particles, of a mixture's
    guide, gets the next ones.
    """

    def __init__(self, values, identity=False):
        super().__init__()
        self.values, self.identity = values, identity
        self.taken = dict.fromkeys(values, 0)

    def _pyro_sample(self, msg):
        if msg["name"] not in self.values or msg["is_observed"]:
            return
        value = self.values[msg["name"]]
        (count,) = (f.size for f in msg["cond_indep_stack"] if f.name == PARTICLE_PLATE)
        if count < len(value):
            first = self.taken[msg["name"]] % len(value)
            self.taken[msg["name"]] = first + count
            value = value[first : first + count]
        if getattr(msg["fn"], "has_rsample", False):
            relaxed = msg["fn"].logits if self.identity else torch.sigmoid(msg["fn"].logits)
            value = value + relaxed - relaxed.detach()
        msg["value"], msg["done"] = value, True


def problem(proposal):
    """Model, guide, data, and M particles of every datapoint."""
    pyro.clear_param_store()
    torch.manual_seed(3)
    model = SFNN(SIZES)
    recognition = RecognitionNetwork(model, width=4)
    prior = PriorProposal(model)
    guides = {
        "prior": prior,
        "recognition": recognition,
        "mixture": MixtureProposal(prior, recognition, 1 / 3),
    }
    x, y = torch.rand(B, 5).round(), torch.rand(B, 6).round()
    values = {"h1": torch.rand(M, B, 4).round(), "h2": torch.rand(M, B, 3).round()}
    return model, guides[proposal], x, y, values


def gradients(module):
    return {name: p.grad for name, p in module.named_parameters() if p.grad is not None}


def distributed(module, proposal):
    unused = proposal != "prior"  # most estimators leave a guide's parameters alone
    return DistributedDataParallel(module, find_unused_parameters=unused)


def single(name, proposal):
    """Loss and gradients of the mean over the minibatch, on one process.

    A mixture's particles are in the order of its guides there, not of the ranks.
    """
    model, guide, x, y, values = problem(proposal)
    if proposal == "mixture":
        order = torch.tensor([0, 3, 1, 2, 4, 5])  # of each rank the first is the prior's
        values = {site: value[order] for site, value in values.items()}
    module = ESTIMATORS[name](num_particles=M)(model, guide)
    with Given(values, identity=name == "g2"):
        loss = module(x, y) / B
    loss.backward()
    return loss.item(), gradients(module)


def by_data(name, proposal):
    """The same on a rank that sees its share of the datapoints."""
    model, guide, x, y, values = problem(proposal)
    group = ProcessGroup.current()
    if proposal == "mixture":
        values = {site: value[torch.tensor([0, 3, 1, 2, 4, 5])] for site, value in values.items()}
    module = distributed(ESTIMATORS[name](num_particles=M)(model, guide), proposal)
    own = group.share(torch.arange(B))
    with Given({site: value[:, own] for site, value in values.items()}, name == "g2"):
        loss = module(x[own], y[own]) * group.size / B
    loss.backward()
    return group.sum([loss.item()])[0] / group.size, gradients(module.module)


def by_particles(name, proposal):
    """The same on a rank that draws its share of the particles."""
    model, guide, x, y, values = problem(proposal)
    estimator = ParticleParallel(ESTIMATORS[name](num_particles=M))
    first = estimator.group.rank * estimator.share
    module = distributed(estimator(model, guide), proposal)
    own = {site: value[first : first + estimator.share] for site, value in values.items()}
    with Given(own, identity=name == "g2"):
        loss = module(x, y) / B
    loss.backward()
    return loss.item(), gradients(module.module)


def by_particles_in_svi(name, proposal):
    """The same through ``loss_and_grads``, without ``DistributedDataParallel``."""
    model, guide, x, y, values = problem(proposal)
    estimator = ParticleParallel(ESTIMATORS[name](num_particles=M))
    first = estimator.group.rank * estimator.share
    own = {site: value[first : first + estimator.share] for site, value in values.items()}
    with Given(own, identity=name == "g2"), poutine.scale(scale=1 / B):
        loss = estimator.loss_and_grads(model, guide, x, y)
        same = estimator.loss(model, guide, x, y)
    assert same == loss
    return loss, gradients(estimator(model, guide))


def by_shards(name, proposal):
    """The same on a rank that keeps its share of the parameters, too."""
    model, guide, x, y, values = problem(proposal)
    group = ProcessGroup.current()
    module = ESTIMATORS[name](num_particles=M)(model, guide)
    fully_shard(module, mesh=init_device_mesh("cpu", (group.size,)))
    own = group.share(torch.arange(B))
    with Given({site: value[:, own] for site, value in values.items()}, name == "g2"):
        loss = module(x[own], y[own]) * group.size / B
    loss.backward()
    grads = {name: grad.full_tensor() for name, grad in gradients(module).items()}
    return group.sum([loss.item()])[0] / group.size, grads


def every_case():
    ways = (by_data, by_particles, by_particles_in_svi)
    found = {(way.__name__, *case): way(*case) for case in CASES for way in ways}
    sharded = {("by_shards", *case): by_shards(*case) for case in SHARDED}
    return found | sharded


REFUSED = {"disarm": DisARM, "gumbel": GumbelStraightThrough}
