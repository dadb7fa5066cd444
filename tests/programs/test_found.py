"""Programs that the generator found, shrunk, each in words of its kind.

A program may be refused with a word; a number that is not the enumeration's is a failure.
"""

from dataclasses import replace

import pyro
import pyro.distributions as dist
import pytest
import torch

from sfnn_pyro.evaluation.exact import exact_log_likelihood
from tests.programs.check import EXACT, NOISY, Setting, examine, examine_drawn
from tests.programs.evaluations import examine_evaluations
from tests.programs.spec import Guide, Handler, Loop, Plate, Program, Site
from tests.programs.test_programs import failures

ROWS = (Plate("rows", 2, -1),)
MINIBATCH = (Plate("rows", 2, -1, 5, "drawn"),)
NESTED = (Plate("rows", 2, -2), Plate("columns", 2, -1))
HALF_SEEN = (Plate("rows", 2, -2), Plate("columns", 1, -1, 3, "given"))

H = Site("h", "bernoulli", ("rows",))
Y = Site("y", "normal", ("rows",), parents=("h",), observed="obs")

PLAIN = Program((H, Y), ROWS)
POINT = Program(
    (Site("z", "normal", ("rows",)), H, replace(Y, parents=("z", "h"))),
    ROWS,
    guide=Guide("mean_field"),
)
DELTA = Program((Site("z", "delta", ("rows",)), H, replace(Y, parents=("z", "h"))), ROWS)
IN_A_PLATE_OF_ITS_OWN = Program(
    (H, replace(H, name="k", plates=("rows", "columns")), replace(Y, parents=("h", "k"))), HALF_SEEN
)
UNREACHED = Site("y", "bernoulli", ("rows",), observed="obs")


def around(program: Program, *handlers: Handler) -> Program:
    return replace(program, handlers=handlers)


def guided(program: Program, kind: str = "conditional") -> Program:
    return replace(program, guide=Guide(kind))


TWO_OF_ONE_FACTOR = Program(
    (
        replace(H, plates=("columns",)),
        Site("f", "factor", ("rows",), parents=("h",)),
        replace(Y, plates=("columns",)),
    ),
    (Plate("rows", 1, -1, 2, "given"), Plate("columns", 1, -2, 2, "given")),
)
BESIDE_OF_ONE_FACTOR = Program(
    (replace(H, plates=("beside",)), Y),
    (Plate("rows", 2, -1, 4, "given"), Plate("beside", 1, -1, 2, "given")),
)
SCALE = Handler("scale", ("h",), 0.3)
MASK = Handler("mask", ("h",), 0.0)
EVERYWHERE = Handler("scale", ("h", "y"), 1.9)
SAME = (
    Handler("scale", ("h",), 2.0, tensor=True),
    Handler("scale", ("y",), 2.0),
)

FOUND = {
    "two minibatches of one factor": TWO_OF_ONE_FACTOR,
    "two minibatches of one factor, side by side": BESIDE_OF_ONE_FACTOR,
    "scale of one latent": around(PLAIN, SCALE),
    "scale of one latent, guide": around(guided(PLAIN), SCALE),
    "mask of one latent": around(PLAIN, MASK),
    "mask of one latent, guide": around(guided(PLAIN), MASK),
    "mask of some rows of one latent": around(PLAIN, replace(MASK, plate="rows")),
    "mask that belongs to the distribution": around(
        PLAIN, Handler("dist_mask", ("h",), plate="rows")
    ),
    "subsampled plate of one latent": IN_A_PLATE_OF_ITS_OWN,
    "subsampled plate of one latent, guide": guided(IN_A_PLATE_OF_ITS_OWN),
    "observed site that nothing reaches": Program((H, UNREACHED), ROWS),
    "no latent": Program((UNREACHED,), ROWS),
    "no latent and no plate": Program((replace(UNREACHED, plates=()),)),
    "recorded value outside the plate": Program(
        (H, Site("r", "deterministic", (), parents=("h",)), Y), MINIBATCH
    ),
    "factor outside the plate": Program((H, Y, Site("f", "factor", (), parents=("h",))), ROWS),
    "latent drawn once": DELTA,
    "latent proposed as a point": POINT,
    "equal scales of different types": around(PLAIN, *SAME),
    "scale around everything and another inside": around(PLAIN, EVERYWHERE, SCALE),
    "minibatch that the model draws": Program((H, Y), MINIBATCH),
    "minibatch that the model draws, guide": guided(Program((H, Y), MINIBATCH), "mean_field"),
    "everything masked": around(PLAIN, Handler("mask", ("h", "y"), 0.0)),
    "bound method": replace(PLAIN, form="bound"),
    "bound method in a mixture": replace(guided(PLAIN, "mixture"), form="bound"),
    "nothing observed": guided(Program((H,), ROWS), "mean_field"),
    "factor of the guide": replace(PLAIN, guide=Guide("mean_field", factor=True)),
    "loop with a subsampled sequential plate": Program(
        (replace(H, loop="steps"), replace(Y, loop="steps")), ROWS, (Loop("steps", 2, "plate", 3),)
    ),
    "global latent": Program(
        (Site("z", "bernoulli"), replace(H, parents=("z",)), replace(Y, parents=("h", "z"))), ROWS
    ),
    "latent that is set by an intervention": Program((replace(H, do=True), Y), ROWS),
}

SETTINGS = {
    "vectorised": Setting(2),
    "sequential": Setting(2, vectorize=False, call="loss_and_grads"),
    "chunked": Setting(2, call="chunked", nesting=False),
}


def _cases() -> list:
    cases = []
    for name in FOUND:
        for how in SETTINGS:
            if how == "chunked" and FOUND[name].guide.kind == "mixture":
                continue
            cases.append(pytest.param(name, how, id=f"{name}, {how}"))
    return cases


@pytest.mark.parametrize(("name", "how"), _cases())
def test_program_that_the_generator_found(name: str, how: str):
    program, setting = FOUND[name], SETTINGS[how]
    outcomes = [*examine(program, setting, EXACT), *examine_drawn(program, setting)]
    outcomes += examine_evaluations(program, setting)
    assert not failures(outcomes)


@pytest.mark.parametrize(
    "name", ["scale of one latent, guide", "global latent", "minibatch that the model draws"]
)
def test_estimators_with_noise_of_their_own(name: str):
    assert not failures(list(examine(FOUND[name], Setting(2), NOISY)))


def test_exact_sum_is_of_one_minibatch():
    y = torch.tensor([-3.0, 0.0, 3.0])

    def model(y):
        with pyro.plate("rows", 3, subsample_size=1) as index:
            h = pyro.sample("h", dist.Bernoulli(0.4))
            k = pyro.sample("k", dist.Bernoulli(0.4))
            pyro.sample("y", dist.Normal(h + k, 1.0), obs=y[index])

    def exact(row):
        h, k = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 0.0, 1.0]])
        law = torch.tensor([0.36, 0.24, 0.24, 0.16]).log()
        return torch.logsumexp(law + torch.distributions.Normal(h + k, 1.0).log_prob(row), 0)

    rights = torch.stack([exact(row) for row in y])
    for _ in range(8):
        got = exact_log_likelihood(model, y, chunk=1)
        assert (got - rights).abs().min() < 1e-9
