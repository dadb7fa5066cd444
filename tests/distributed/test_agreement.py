"""Ranks with other code, options or data than the first are refused with the difference named."""

import pytest
import torch

from sfnn_pyro.distributed import DisagreementError, ProcessGroup, check_agreement, joined


class Among(ProcessGroup):
    """The first of two ranks, whose other says the same but for some changes."""

    def __new__(cls, changes):
        return super().__new__(cls)

    def __init__(self, changes):
        super().__init__(0, 2)
        object.__setattr__(self, "changes", changes)

    def gather_objects(self, value):
        _, facts = value
        return [value, ("other", {**facts, **self.changes})]


GIVEN = {"particles": 20, "x": torch.zeros(3, 2)}


@pytest.mark.parametrize(
    "name, value, message",
    [
        ("the version of torch", "0.1", r"differ in the version of torch: '.*' and '0.1'"),
        ("the source code of sfnn_pyro", "0", "differ in the source code of sfnn_pyro: '"),
        ("particles", 10, "differ in particles: 20 and 10; make them alike"),
        ("x", "", r"differ in x: '\(3, 2\), checksum [0-9a-f]{12}' and ''"),
    ],
)
def test_the_difference_is_named_and_both_ranks(name, value, message):
    with pytest.raises(DisagreementError, match=message) as caught:
        check_agreement(Among({name: value}), GIVEN)
    assert "and rank 1 (on other)" in str(caught.value)


def test_ranks_that_agree_begin():
    check_agreement(Among({}), GIVEN)
    check_agreement(ProcessGroup(), GIVEN)


def test_a_tensor_is_compared_by_its_contents(ranks):
    assert ranks(_compared) == [True, True]


def _compared():
    group = ProcessGroup.current()
    check_agreement(group, {"x": torch.ones(2)})
    try:
        check_agreement(group, {"x": torch.full((2,), float(group.rank))})
    except DisagreementError as error:
        return "rank 1" in str(error)
    return False


@pytest.mark.parametrize("minutes", [0, -1, float("nan"), float("inf")])
def test_the_time_to_wait_must_be_some(minutes):
    message = f"timeout_minutes={minutes}: must be above 0"
    with pytest.raises(ValueError, match=message), joined(minutes):
        pass
