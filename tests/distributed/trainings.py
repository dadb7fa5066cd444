"""Whole trainings on a rank, or on one process."""

import copy
import itertools

import torch
from torch.utils.data import BatchSampler

from sfnn_pyro.data import Split
from sfnn_pyro.distributed import DistributedTrainer, ParticleParallel, ProcessGroup, SharedBatches
from sfnn_pyro.estimators import G3, G4, G5
from sfnn_pyro.guides import PriorProposal
from sfnn_pyro.models import SFNN
from sfnn_pyro.reparam import deterministic
from sfnn_pyro.training import NonFiniteError, Schedule, Trainer
from tests.callbacks import OnStep

SCHEDULE = Schedule(epochs=2, batch_size=10, learning_rate=0.05, seed=3)


def split(count, seed):
    generator = torch.Generator().manual_seed(seed)
    return Split(*torch.rand(2, count, 4, generator=generator).round())


def trainer(network="sfnn", schedule=SCHEDULE, likelihood="bernoulli", estimator=G4):
    """31 rows in minibatches of 10: the last one has a single row, less than a rank each."""
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(5)
    model = SFNN([4, 3, 4], likelihood)
    program = deterministic(model) if network == "deterministic" else model
    parts = split(31, 0), split(7, 1)
    parameters = list(model.parameters())
    return Trainer(
        program, PriorProposal(program), estimator(4), *parts, schedule, parameters=parameters
    )


def trained(trainer):
    history = [
        (epoch.train_log_likelihood, epoch.validation_log_likelihood) for epoch in trainer.run()
    ]
    return history, [p.detach().clone() for p in trainer.parameters]


def on_a_rank(divided, network):
    return trained(DistributedTrainer.of(trainer(network), ProcessGroup.current(), divided))


def from_every_state(divided, estimator=G4):
    """The end of a training, and the ends of those that went on from each of its states."""
    whole = DistributedTrainer.of(trainer(estimator=estimator), ProcessGroup.current(), divided)
    states = []
    for _ in whole.run(OnStep(lambda mean: states.append(copy.deepcopy(whole.state_dict())))):
        pass
    ends = []
    for state in states[::3]:
        again = DistributedTrainer.of(trainer(estimator=estimator), ProcessGroup.current(), divided)
        again.load_state_dict(state)
        ends.append(trained(again)[1])
    return [p.detach() for p in whole.parameters], ends, states[-1]


def from_one_process(state):
    again = DistributedTrainer.of(trainer(), ProcessGroup.current())
    again.load_state_dict(state)
    steps = again.steps
    trained(again)
    return steps, again.record()["seeds"]


def not_finite():
    schedule = Schedule(epochs=3, batch_size=10, learning_rate=1e30)
    one = trainer(schedule=schedule, likelihood="gaussian")
    try:
        trained(DistributedTrainer.of(one, ProcessGroup.current()))
    except NonFiniteError as error:
        return error.report
    return None


def refusals():
    """What ranks that do not work together are told."""
    torch.set_default_dtype(torch.float32)
    rank = ProcessGroup.current().rank
    torch.manual_seed(0)
    model = SFNN([4, 3, 4])
    guide, data = PriorProposal(model), split(10, 0)
    messages = []
    for x, y, seed in (
        (data.x[rank:5], data.y[rank:5], rank),
        (data.x[rank::2], data.y[rank::2], rank),
        (data.x, data.y, 0),
    ):
        torch.manual_seed(seed)
        try:
            ParticleParallel(G5(num_particles=4))(model, guide)(x, y)
        except ValueError as error:
            messages.append(str(error))
    return messages


def python_loop():
    """The loop of docs/distributed.md, on rows that no rank repeats."""
    torch.set_default_dtype(torch.float32)
    group = ProcessGroup.current()
    torch.manual_seed(0)
    model = SFNN([4, 3, 4])
    module = torch.nn.parallel.DistributedDataParallel(G3(4)(model, PriorProposal(model)))
    torch.manual_seed(group.seed(0))
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    rows = []
    data = split(31, 0)
    batches = SharedBatches(BatchSampler(range(31), 10, drop_last=True))
    for own in itertools.islice(batches, 3):
        loss = module(data.x[own], data.y[own]) * group.size / 10
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        rows += own
    return rows, [p.detach() for p in module.parameters()]
