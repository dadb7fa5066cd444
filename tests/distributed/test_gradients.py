"""Two processes give the loss and the gradient of one, on the same particles, in float64."""

import pytest

from tests.distributed.particles import CASES, SHARDED, every_case, single
from tests.distributed.world import on_ranks

WAYS = ("by_data", "by_particles", "by_particles_in_svi")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    return on_ranks(every_case, store=tmp_path_factory.mktemp("ranks") / "store")


EVERY = [(way, *case) for way in WAYS for case in CASES] + [("by_shards", *c) for c in SHARDED]


@pytest.mark.parametrize("way, name, proposal", EVERY)
def test_equal_to_one_process(found, way, name, proposal):
    loss, grads = single(name, proposal)
    assert max(float(grad.abs().max()) for grad in grads.values()) > 1e-3
    for rank in found:
        other_loss, others = rank[way, name, proposal]
        assert abs(loss - other_loss) < 1e-10
        assert set(grads) <= set(others)
        for parameter, other in others.items():
            # DistributedDataParallel gives a parameter that was not used a gradient of zero.
            difference = other - grads[parameter] if parameter in grads else other
            assert float(difference.abs().max()) < 1e-10, parameter
