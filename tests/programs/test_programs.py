"""Generated programs: every estimator refuses with a word, or agrees with the enumeration."""

from hypothesis import HealthCheck, given, settings

from tests.programs.check import Outcome, Setting, examine, examine_drawn
from tests.programs.evaluations import examine_evaluations
from tests.programs.grammar import programs
from tests.programs.spec import Program

FAST = 300


def failures(outcomes: list[Outcome]) -> list[Outcome]:
    return [one for one in outcomes if one.status in ("differs", "crashed")]


@settings(
    max_examples=FAST,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=list(HealthCheck),
)
@given(programs(most=6))
def test_every_estimator_agrees_with_the_enumeration_or_refuses(case: tuple[Program, Setting]):
    outcomes = [*examine(*case), *examine_drawn(*case), *examine_evaluations(*case)]
    assert not failures(outcomes)
