"""Trainings on two ranks: those of one process, in the same number of steps."""

import copy
import math

import pytest
import torch

from sfnn_pyro.distributed import (
    SPLITS,
    DistributedTrainer,
    ParticleParallel,
    ProcessGroup,
    SharedBatches,
)
from sfnn_pyro.distributed.process_group import joined, own_device
from sfnn_pyro.estimators import ESTIMATORS, G1, G4, JSA, Chunked, DisARM, ReweightedWakeSleep
from sfnn_pyro.guides import MixtureProposal, PriorProposal, RecognitionNetwork
from sfnn_pyro.models import SFNN
from tests.callbacks import OnStep
from tests.distributed import trainings

DIVISIBLE = {"g2", "g3", "g4", "g5", "vimco", "rloo", "ovis", "gumbel", "reinmax", "gumbelrao"}


@pytest.fixture(autouse=True)
def float32():
    """Data sets are float32."""
    torch.set_default_dtype(torch.float32)


@pytest.mark.parametrize("divided", SPLITS)
def test_without_chance_the_whole_training_is_that_of_one_process(ranks, divided):
    """Also where a minibatch has fewer rows than there are ranks."""
    history, parameters = trainings.trained(trainings.trainer("deterministic"))
    for other_history, others in ranks(trainings.on_a_rank, divided, "deterministic"):
        torch.testing.assert_close(torch.tensor(other_history), torch.tensor(history))
        torch.testing.assert_close(others, parameters)


@pytest.mark.parametrize(
    ("divided", "estimator"), [*((split, G4) for split in SPLITS), ("data", JSA)]
)
def test_from_every_state_the_ranks_go_on_to_the_same_bits(ranks, divided, estimator):
    """With JSA each rank remembers the datapoints that it has seen."""
    (whole, ends, state), (other, *_) = ranks(trainings.from_every_state, divided, estimator)
    assert all(torch.equal(a, b) for a, b in zip(whole, other, strict=True))
    assert len(ends) == 3
    for end in ends:
        assert all(torch.equal(a, b) for a, b in zip(whole, end, strict=True))
    streams = [moment["random"] for moment in state["ranks"]["moments"]]
    assert not torch.equal(*streams)
    remembered = [bool(moment["estimator"]) for moment in state["ranks"]["moments"]]
    assert remembered == [estimator is JSA] * 2


def test_another_number_of_ranks_goes_on_with_new_streams(ranks):
    one = trainings.trainer()
    states = []
    for _ in one.run(OnStep(lambda mean: states.append(copy.deepcopy(one.state_dict())))):
        pass
    found = ranks(trainings.from_one_process, states[2])
    assert [steps for steps, _ in found] == [3, 3]
    fresh = [ProcessGroup(rank, 2).seed(trainings.SCHEDULE.seed) for rank in range(2)]
    assert found[0][1] == found[1][1] and not set(fresh) & set(found[0][1])


def test_a_step_that_is_not_finite_stops_all_ranks_with_one_report(ranks):
    first, second = ranks(trainings.not_finite)
    assert first == second and first is not None
    assert set().union(*first["sites"].values()) <= set(first["minibatch"])


def test_ranks_that_do_not_work_together_are_told(ranks):
    for shape, values, stream in ranks(trainings.refusals):
        assert "ranks 0 and 1 saw different datapoints: give every rank the same" in shape
        assert "ranks 0 and 1 saw different datapoints" in values
        assert "two ranks drew the same particles" in stream


def test_the_loop_of_the_page(ranks):
    (rows, parameters), (other_rows, others) = ranks(trainings.python_loop)
    assert sorted(rows + other_rows) == list(range(30))
    assert all(torch.equal(a, b) for a, b in zip(parameters, others, strict=True))


@pytest.mark.parametrize("name", sorted(ESTIMATORS))
def test_which_estimators_divide_their_particles(name):
    estimator = ESTIMATORS[name](num_particles=4)
    assert estimator.divisible is (name in DIVISIBLE)
    if name not in DIVISIBLE:
        with pytest.raises(ValueError, match="needs all its particles at once; use it without Par"):
            ParticleParallel(estimator)


@pytest.mark.parametrize(
    "estimator", [G1(4), DisARM(4), ReweightedWakeSleep(4), Chunked(G4(4), 2)], ids=repr
)
def test_other_estimators_are_refused(estimator):
    with pytest.raises(ValueError, match="needs all its particles at once"):
        ParticleParallel(estimator)


def test_particles_that_cannot_be_divided():
    with pytest.raises(ValueError, match="num_particles=5 cannot be divided over 2 ranks: give a"):
        ParticleParallel(G4(5), ProcessGroup(0, 2))
    model = SFNN([4, 3, 2])
    guide = MixtureProposal(PriorProposal(model), RecognitionNetwork(model), share=0.5)
    estimator = ParticleParallel(G4(6), ProcessGroup(0, 2))
    with pytest.raises(ValueError, match=r"a mixture's shares of \(3, 3\) particles cannot be"):
        estimator.loss(model, guide, torch.zeros(5, 4), torch.zeros(5, 2))


def test_minibatches_smaller_than_the_ranks():
    with pytest.raises(ValueError, match="a minibatch of 1 cannot be divided over 2 ranks"):
        list(SharedBatches([[0, 1], [2]], ProcessGroup(0, 2)))


def test_an_unknown_split():
    with pytest.raises(ValueError, match="split='layers': choose one of data, particles"):
        DistributedTrainer.of(trainings.trainer(), ProcessGroup(), "layers")


@pytest.mark.parametrize("device", ["gpu", "cuda"])
def test_a_device_that_is_not_here(device):
    if device == "cuda" and torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ValueError, match=f"device='{device}'"):
        own_device(device)


def test_restarts_on_several_nodes_need_stores_of_their_own(monkeypatch):
    for name in ("GROUP_WORLD_SIZE", "TORCHELASTIC_MAX_RESTARTS"):
        monkeypatch.setenv(name, "2")
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "a")
    with pytest.raises(ValueError, match="need TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"), joined():
        pass


def test_seeds_of_ranks_differ():
    seeds = {ProcessGroup(rank, 64).seed(seed, *key) for rank in range(64) for seed in range(9)
             for key in ((), (1,))}  # fmt: skip
    assert len(seeds) == 64 * 9 * 2 and max(seeds) < 2**63
    assert all(math.isfinite(seed) for seed in seeds)
