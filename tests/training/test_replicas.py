"""A replica ends where its single training ends, on the same random numbers."""

import copy

import pytest
import torch
from pyro import poutine

from sfnn_pyro.data import Split
from sfnn_pyro.estimators import G3, G4, G5, VIMCO
from sfnn_pyro.evaluation.exact import exact_log_likelihood
from sfnn_pyro.guides import PriorProposal
from sfnn_pyro.models import SFNN, ReplicatedSFNN
from sfnn_pyro.reparam import deterministic
from sfnn_pyro.training import NonFiniteError, Schedule, Trainer
from sfnn_pyro.training.replicas import ReplicaTrainer, train_replicas
from tests.callbacks import OnStep
from tests.enumeration import Forced

RATES = [0.05, 0.3, 0.1]


class Script(poutine.messenger.Messenger):
    """Draws hidden units by the same uniform numbers in every training of a replica."""

    def __init__(self, replicas):
        super().__init__()
        self.replicas = replicas
        self.calls = 0

    def _pyro_post_sample(self, msg):
        if not msg["name"].startswith("h") or msg["is_observed"]:
            return
        fn, drawn = msg["fn"], msg["value"]
        parts = []
        for replica in self.replicas:
            generator = torch.Generator().manual_seed(1000 * replica + self.calls)
            shape = (drawn.shape[0], drawn.shape[-2], drawn.shape[-1])
            parts.append(torch.rand(shape, generator=generator))
        self.calls += 1
        uniform = torch.stack(parts, 1) if drawn.dim() == 4 else parts[0]
        value = uniform.lt(fn.probs).to(drawn)
        msg["value"] = value + (drawn - drawn.detach()) if drawn.requires_grad else value


@pytest.fixture
def data():
    return Split(torch.rand(40, 5).round().float(), torch.rand(40, 6).round().float())


@pytest.mark.parametrize("estimator", [G3, G4, G5, VIMCO])
@pytest.mark.parametrize("sizes", [[5, 4, 6], [5, 4, 3, 6]])
def test_each_replica_equals_its_single_training(data, estimator, sizes):
    torch.set_default_dtype(torch.float32)
    networks = [SFNN(sizes).double() for _ in RATES]
    wide = Split(data.x, data.y)
    object.__setattr__(wide, "x", data.x.double())
    object.__setattr__(wide, "y", data.y.double())
    torch.set_default_dtype(torch.float64)
    schedules = [
        Schedule(epochs=2, batch_size=10, learning_rate=rate, seed=seed)
        for seed, rate in enumerate(RATES)
    ]
    with Script(range(3)):
        together = train_replicas(networks, estimator(4, max_plate_nesting=2), wide, schedules)
    empty = Split(data.x[:0], data.y[:0])
    for replica, (network, schedule) in enumerate(zip(networks, schedules, strict=True)):
        trainer = Trainer(
            network,
            PriorProposal(network),
            estimator(4, max_plate_nesting=1),
            wide,
            empty,
            schedule,
        )
        with Script([replica]):
            list(trainer.run())
        for ours, single in zip(together[replica].parameters(), network.parameters(), strict=True):
            assert torch.allclose(ours, single, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian", "categorical"])
def test_likelihoods_are_those_of_the_networks(likelihood):
    networks = [SFNN([5, 3, 4], likelihood) for _ in range(3)]
    x = torch.rand(6, 5)
    y = torch.randint(4, (6,)) if likelihood == "categorical" else torch.rand(6, 4).round()
    model = ReplicatedSFNN(networks)
    batched = exact_log_likelihood(model, x, y)
    for replica, network in enumerate(networks):
        single = exact_log_likelihood(network, x, y)
        assert torch.allclose(batched[replica], single, atol=1e-12)
        assert torch.equal(model.network(replica).layers[0].weight, network.layers[0].weight)


def test_weights_belong_to_a_replica_and_a_datapoint():
    model = ReplicatedSFNN([SFNN([5, 3, 4]), SFNN([5, 3, 4])])
    x, y = torch.rand(2, 6, 5), torch.rand(2, 6, 4).round()
    h = torch.rand(7, 2, 6, 3).round()
    with Forced({"h1": h}):
        both = G5(7, max_plate_nesting=2).loss(model, PriorProposal(model), x, y)
    singles = 0.0
    for replica in range(2):
        network = model.network(replica)
        with Forced({"h1": h[:, replica]}):
            singles += G5(7, max_plate_nesting=1).loss(
                network, PriorProposal(network), x[replica], y[replica]
            )
    assert both == pytest.approx(singles, rel=1e-12)


def test_every_epoch_is_reported_and_a_failure_says_where():
    networks = [SFNN([5, 3, 6]), SFNN([5, 3, 6])]
    data = Split(torch.rand(40, 5).round().float(), torch.rand(40, 6).round().float())
    torch.set_default_dtype(torch.float32)
    networks = [network.float() for network in networks]
    epochs = []
    schedules = [Schedule(epochs=3, batch_size=20, seed=seed) for seed in range(2)]
    train_replicas(networks, G4(2, max_plate_nesting=2), data, schedules, epochs.append)
    assert epochs == [1, 2, 3]
    torch.nn.init.constant_(networks[1].layers[0].bias, torch.nan)
    with pytest.raises(NonFiniteError, match="not finite at step 1 in one of 2 replicas: train"):
        train_replicas(networks, G4(2, max_plate_nesting=2), data, schedules)


def test_an_interrupted_training_goes_on_with_the_same_bits():
    torch.set_default_dtype(torch.float32)
    data = Split(torch.rand(40, 5).round(), torch.rand(40, 6).round())

    def make():
        torch.manual_seed(0)
        networks = [SFNN([5, 4, 6]) for _ in RATES]
        schedules = [Schedule(3, rate, batch_size=15, seed=1) for rate in RATES]
        return ReplicaTrainer.of(networks, G3(3), data, data, schedules, program=deterministic)

    class Left(Exception):
        pass

    def leave(mean):
        if trainer.steps == 5:
            raise Left

    whole = make()
    list(whole.run())
    trainer = make()
    with pytest.raises(Left):
        list(trainer.run(OnStep(leave)))
    state = copy.deepcopy(trainer.state_dict())
    trainer = make()
    trainer.load_state_dict(state)
    list(trainer.run())
    assert trainer.validations == whole.validations
    assert [len(values) for values in whole.validations] == [3, 3, 3]
    assert trainer.history == whole.history
    for ours, other in zip(trainer.networks(), whole.networks(), strict=True):
        assert all(map(torch.equal, ours.parameters(), other.parameters()))


def test_a_deterministic_replica_equals_its_single_training():
    """Nothing is drawn, so nothing need be scripted."""
    torch.set_default_dtype(torch.float32)
    data = Split(torch.rand(40, 5).round(), torch.rand(40, 6).round())
    networks = [SFNN([5, 4, 6]) for _ in RATES]
    schedules = [Schedule(2, rate, batch_size=10, seed=3) for rate in RATES]
    trainer = ReplicaTrainer.of(networks, G3(1), data, data, schedules, program=deterministic)
    list(trainer.run())
    for number, (network, schedule) in enumerate(zip(networks, schedules, strict=True)):
        program = deterministic(network)
        single = Trainer(
            program,
            PriorProposal(program),
            G3(1),
            data,
            data,
            schedule,
            list(network.parameters()),
        )
        for epoch in single.run():
            ours = trainer.validations[epoch.epoch - 1][number]
            assert ours == pytest.approx(epoch.validation_log_likelihood, rel=1e-5)


def test_errors(data):
    with pytest.raises(ValueError, match="replicas need one shape"):
        ReplicatedSFNN([SFNN([5, 3, 4]), SFNN([5, 2, 4])])
    with pytest.raises(ValueError, match="replicas need one shape"):
        ReplicatedSFNN([])
    with pytest.raises(ValueError, match=r"x has shape \(6, 4\), expected \(1, B, 5\)"):
        ReplicatedSFNN([SFNN([5, 3, 4])])(torch.zeros(6, 4))
    networks = [SFNN([5, 3, 6]), SFNN([5, 3, 6])]
    with pytest.raises(ValueError, match="2 networks and 1 schedules"):
        train_replicas(networks, G3(2), data, [Schedule()])
    with pytest.raises(ValueError, match="may differ in seed and learning rate alone"):
        train_replicas(networks, G3(2), data, [Schedule(), Schedule(epochs=3)])
    with pytest.raises(ValueError, match="replicas have no weight decay"):
        train_replicas(networks, G3(2), data, [Schedule(weight_decay=0.1)] * 2)
