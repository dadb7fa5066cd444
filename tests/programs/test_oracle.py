"""The oracle against sums by hand, and laws that it must obey."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from torch.distributions import Bernoulli, Normal

from tests.programs.check import Setting
from tests.programs.grammar import programs
from tests.programs.oracle import Expectations, Oracle, coupled
from tests.programs.spec import Guide, Handler, Plate, Program, Site

some = settings(
    max_examples=40,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)

ROWS = (Plate("rows", 2, -1, 3, "given"),)
H = Site("h", "bernoulli", ("rows",))
Y = Site("y", "normal", ("rows",), parents=("h",), observed="obs")


@pytest.mark.parametrize("scaled", [False, True])
def test_expected_objective_of_one_latent_by_hand(scaled: bool):
    program = Program((H, Y), ROWS, handlers=(Handler("scale", ("y",), 0.7),) if scaled else ())
    oracle = Oracle(program)
    p = {name: value.detach() for name, value in oracle.leaves.items()}
    y = oracle.given.data["y"][oracle.given.indices["rows"]]
    h = torch.tensor([0.0, 1.0])
    law = Bernoulli(logits=p["m_h_bias"]).log_prob(h)
    log_y = Normal(p["m_y_bias"] + p["m_y_h"] * h[:, None], 1.0).log_prob(y)  # (K, B)
    log_y = log_y * (0.7 if scaled else 1.0)
    total = 0.0
    for a in range(2):
        for b in range(2):
            chat = torch.logaddexp(log_y[a], log_y[b]) - math.log(2)
            total = total + (law[a] + law[b]).exp() * chat * 3 / 2
    right = Expectations(oracle, 2)
    got = (right.probability * right.objective.detach()).sum(0) * oracle.scale
    assert torch.allclose(got, total)
    assert torch.allclose(oracle.scale, torch.tensor([1.5, 1.5]))


@pytest.mark.parametrize(
    ("extra", "datapoints", "scale"),
    [
        ((), 2, 1.5),
        ((Site("r", "deterministic", (), parents=("h",)),), 2, 1.5),
        ((Site("f", "factor", (), parents=("h",)),), 1, 1.0),
        ((Site("z", "bernoulli"),), 1, 1.0),
        ((replace(Y, name="y2", plates=()),), 1, 1.0),
        ((replace(Y, name="y2", plates=(), hidden=True),), 2, 1.5),
    ],
)
def test_what_is_one_datapoint(extra: tuple[Site, ...], datapoints: int, scale: float):
    oracle = Oracle(Program((H, Y, *extra), ROWS))
    assert oracle.datapoints == datapoints
    assert torch.allclose(oracle.scale, torch.full((datapoints,), scale))


@some
@given(programs(most=9))
def test_laws_are_laws_and_pieces_meet_every_tuple_with_its_probability(
    case: tuple[Program, Setting],
):
    program, setting = case
    right = Expectations(Oracle(program), setting.num_particles)
    assert torch.allclose(right.probability.sum(0), torch.ones(right.oracle.datapoints))
    met = torch.zeros_like(right.probability)
    for weight, index in coupled(right.probability):
        met[index, torch.arange(right.oracle.datapoints)] += weight
    assert torch.allclose(met, right.probability, atol=1e-12)


@some
@given(programs(most=9))
def test_likelihood_is_the_same_under_every_guide(case: tuple[Program, Setting]):
    program, _ = case
    points = any(site.family in ("normal", "delta") and not site.observed for site in program.sites)
    if points or (program.plates and any(plate.full for plate in program.plates)):
        return
    plain = replace(
        program, handlers=(), loops=tuple(replace(one, full=None) for one in program.loops)
    )
    found = []
    for kind in ("prior", "mean_field", "conditional"):
        right = Expectations(Oracle(replace(plain, guide=Guide(kind))), 1)
        total = right.log_law + right.log_weight
        found.append(torch.logsumexp(total, 0).detach())
    assert torch.allclose(found[0], found[1])
    assert torch.allclose(found[0], found[2])


@some
@given(programs(most=9))
def test_values_and_states_are_inverse(case: tuple[Program, Setting]):
    oracle = Oracle(case[0])
    states = torch.arange(oracle.num_states)[:, None].expand(-1, oracle.datapoints)
    if oracle.discrete:
        assert torch.equal(oracle.states_of(oracle.values_of(states)), states)
