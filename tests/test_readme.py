"""The README: its Python runs word for word, its rows are those of the report, its claims hold."""

import re
from pathlib import Path

import pyro
import pyro.distributions as dist
import pytest
import torch
from pyro.infer import RenyiELBO
from pyro.infer import ReweightedWakeSleep as PyrosReweightedWakeSleep

from sfnn_pyro.bench import compare
from sfnn_pyro.estimators import VIMCO, ReweightedWakeSleep
from sfnn_pyro.evaluation import exact_log_likelihood
from sfnn_pyro.models import SFNN

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
MODEL, ESTIMATOR = re.findall(r"```python\n(.*?)```", README, re.DOTALL)


def test_it_is_short():
    assert len(README.splitlines()) <= 100
    assert len([line for line in MODEL.splitlines() if line]) <= 20
    assert len([line for line in ESTIMATOR.splitlines() if line]) <= 12


def test_its_links_exist():
    text = re.sub(r"```.*?```", "", README, flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert link.startswith("https://") or (ROOT / link).exists(), link


def test_every_file_of_the_tree_exists():
    tree = (ROOT / "CONTRIBUTING.md").read_text().split("## The tree")[1].split("\n## ")[0]
    names = [name for name in re.findall(r"`([\w./]+)`", tree) if re.search(r"/|\.py$", name)]
    assert len(names) > 10
    for name in names:
        assert (ROOT / name).exists() or (ROOT / "sfnn_pyro" / name).exists(), name


def test_the_model_learns(capsys):
    torch.set_default_dtype(torch.float32)
    torch.manual_seed(0)
    exec(MODEL, {})
    low, high = sorted(pyro.param("loc").tolist())
    assert abs(low + 3) < 0.3 and abs(high - 2) < 0.3
    assert capsys.readouterr().out.startswith("[")


def test_the_estimator_is_unbiased():
    scope = {}
    exec(ESTIMATOR, scope)
    model, batch = SFNN([2, 2, 3]), (torch.rand(4, 2), torch.rand(4, 3).round())
    row = compare({"mine": scope["MeanBaseline"](2)}, model, batch, repetitions=200)[-1]
    assert row.target == "objective, enumerated"
    assert row.bias < 5 * row.bias_error


def test_the_results_are_those_of_the_report():
    report = (ROOT / "docs/results/report.md").read_text()
    rows = re.findall(r"^\| (completion|classification), [^:]*: (.*) \|$", README, re.MULTILINE)
    assert len(rows) == 5
    first, second = (report.index(f"## Table {number}") for number in ("1, MNIST", "2"))
    for task, row in rows:
        part = report[first:second] if task == "completion" else report[second:]
        assert f"\n| {row} | 3 |" in part, row


DATA = torch.cat([torch.linspace(-5, -1, 60), torch.linspace(0, 4, 40)])


def model(batch=None):
    loc = pyro.param("loc", torch.tensor([-1.0, 1.0]))
    with pyro.plate("data", len(DATA), subsample_size=batch) as index:
        kind = pyro.sample("kind", dist.Categorical(torch.tensor([0.5, 0.5])))
        pyro.sample("y", dist.Normal(loc[kind], 1.0), obs=DATA[index])


def guide(batch=None):
    logits = pyro.param("logits", torch.zeros(2))
    with pyro.plate("data", len(DATA), subsample_size=batch):
        pyro.sample("kind", dist.Categorical(logits=logits))


def reported(elbo, batch=None, times=100):
    """The mean of what a loss reports, as a log-likelihood of all data."""
    return -sum(elbo.loss(model, guide, batch) for _ in range(times)) / times


RENYI = {"alpha": 0, "num_particles": 10, "vectorize_particles": True, "max_plate_nesting": 1}


@torch.no_grad()
def test_why_minibatches():
    """RenyiELBO of a minibatch lies above the log-likelihood; ours below, as of all data."""
    exact = exact_log_likelihood(model).sum()
    assert reported(RenyiELBO(**RENYI)) < exact
    assert reported(RenyiELBO(**RENYI), batch=10) > exact + 5
    ours = reported(VIMCO(10)), reported(VIMCO(10), batch=10, times=400)
    assert max(ours) < exact + 1 and abs(ours[0] - ours[1]) < 15


@pytest.mark.parametrize(("elbo", "learns"), [(RenyiELBO(**RENYI), False), (VIMCO(10), True)])
def test_why_a_discrete_guide(elbo, learns):
    elbo.loss_and_grads(model, guide, None)
    gradient = pyro.param("logits").grad
    assert (gradient is not None and bool(gradient.abs().max() > 0)) is learns


@torch.no_grad()
def test_why_one_weight_for_each_datapoint():
    """Pyro's wake-sleep has one weight for all data: its ten particles are worth one."""
    exact = exact_log_likelihood(model).sum()
    pyros = PyrosReweightedWakeSleep(num_particles=10, max_plate_nesting=1)
    together = -sum(pyros.loss(model, guide)[0] for _ in range(20)) / 20
    ours = reported(ReweightedWakeSleep(10), times=20)
    assert exact - ours < 0.2 * (exact - together)
