"""The page's mathematics is PyTorch's, to rounding, for given uniform numbers."""

import math

import pytest
import torch

from sfnn_pyro.evaluation.imputation import impute
from sfnn_pyro.particles.weights import effective_sample_size, log_mean_exp, responsibilities
from sfnn_pyro.web.recognition_training import start_from_prior
from tests.web.networks import expected, network, pictures, read, write

from .conftest import DOCS

TOLERANCE = 1e-3
CHANCES = [0.0, 0.1173, 0.5031, 0.9007, 0.999999]
COMPUTE = """({x, y, known, uniforms, count, recognise, chances}) => {
    const network = page.stochastic;
    const drawn = Network.particles(network, {
        x: Float32Array.from(x), y: Float32Array.from(y), known, uniforms, count,
        recognition: recognise ? page.recognition : null, fill: page.description.fill,
    });
    const weight = Network.responsibilities(drawn.logWeight);
    return {
        hidden: drawn.hidden.map((h) => Array.from(h)),
        means: Array.from(Network.means(network, drawn.output)),
        logWeight: Array.from(drawn.logWeight),
        weight: Array.from(weight),
        ess: Network.effectiveSampleSize(weight),
        nats: Network.logMeanExp(drawn.logWeight),
        mean: Array.from(Network.weightedMean(
            Network.means(network, drawn.output), weight, y.length)),
        chosen: Network.resample(weight, chances),
        answer: Array.from(Network.means(network, Network.atMeans(network, Float32Array.from(x)))),
    };
}"""
KINDS = {
    "one hidden layer": ("bernoulli", (7,), "stochastic"),
    "two hidden layers": ("bernoulli", (20, 15), "stochastic"),
    "three hidden layers": ("bernoulli", (9, 12, 5), "stochastic"),
    "gaussian": ("gaussian", (20, 15), "stochastic"),
    "deterministic": ("bernoulli", (20, 15), "deterministic"),
    "deterministic gaussian": ("gaussian", (9, 12, 5), "deterministic"),
}


def computed(opened, x, y, known, uniforms, *, recognise=False):
    argument = {
        "x": x.tolist(),
        "y": y.tolist(),
        "known": known.int().tolist(),
        "uniforms": uniforms.flatten().tolist(),
        "count": len(uniforms),
        "recognise": recognise,
        "chances": CHANCES,
    }
    return opened.evaluate(COMPUTE, argument)


def problem(written, count):
    """A made-up datapoint, of which half is known, and uniform numbers."""
    sizes = written.model.sizes
    x, y = torch.rand(sizes[0]).round(), torch.rand(sizes[-1]).round()
    return x, y, torch.rand(sizes[-1]) < 0.5, torch.rand(count, sum(sizes[1:-1]))


def difference(found, wanted: torch.Tensor) -> float:
    return (torch.tensor(found).reshape(wanted.shape) - wanted).abs().max().item()


def check(opened, written, data, *, recognise=False) -> float:
    """Compares everything that the page computes; returns the largest difference."""
    *_, uniforms = data
    found = computed(opened, *data, recognise=recognise)
    hidden, means, log_weight = expected(written, *data, recognise=recognise)
    assert len(hidden) in (0, len(found["hidden"]))  # 0: no unit is drawn
    for values, (name, wanted) in zip(found["hidden"], hidden.items(), strict=False):
        assert torch.equal(torch.tensor(values).reshape(wanted.shape), wanted), name
    weight = responsibilities(log_weight)
    differences = {
        "means": difference(found["means"], means),
        "log-weights": difference(found["logWeight"], log_weight),
        "responsibilities": difference(found["weight"], weight),
        "mean": difference(found["mean"], weight @ means),
        "log-likelihood": abs(found["nats"] - log_mean_exp(log_weight).item()),
        "effective sample size": abs(found["ess"] - effective_sample_size(log_weight).item()),
    }
    assert max(differences.values()) < TOLERANCE, differences
    assert 1 <= found["ess"] <= len(uniforms) * (1 + 1e-9)
    marks = torch.tensor(found["weight"]).cumsum(0)
    wanted = torch.searchsorted(marks, torch.tensor(CHANCES), right=True)
    assert found["chosen"] == wanted.tolist()
    return max(differences.values())


@pytest.mark.parametrize("kind", KINDS)
def test_equals_pytorch(visit, tmp_path, kind):
    likelihood, hidden, units = KINDS[kind]
    data = pictures(3, 5, likelihood)
    written = write(tmp_path, data, network(data, *hidden), units=units)
    opened = visit(written.url).ready()
    check(opened, written, problem(written, 30))
    assert not opened.complaints


@pytest.mark.parametrize("likelihood", ["bernoulli", "gaussian"])
@pytest.mark.parametrize("hidden", [(7,), (9, 12, 5)], ids=str)
def test_equals_pytorch_with_a_recognition_network(visit, tmp_path, likelihood, hidden):
    data = pictures(3, 5, likelihood)
    model = network(data, *hidden)
    guide = start_from_prior(model)
    for parameter in guide.parameters():
        torch.nn.init.normal_(parameter, std=1 / parameter.shape[-1] ** 0.5)
    written = write(tmp_path, data, model, guide=guide)
    opened = visit(written.url).ready()
    check(opened, written, problem(written, 30), recognise=True)


def test_the_documentations_network_equals_pytorch(docs, record_property):
    record_property("largest difference", check_examples(docs, read(DOCS), recognise=False))


@pytest.mark.parametrize("recognise", [False, True], ids=["prior", "recognition"])
def test_a_trained_recognition_network_equals_pytorch(recognised, recognised_folder, recognise):
    check_examples(recognised, read(recognised_folder), recognise=recognise)


def check_examples(opened, written, *, recognise: bool) -> float:
    """Compares what the page computes for three of its examples."""
    largest = 0.0
    for number in range(3):
        x, y = opened.evaluate(
            "(n) => { const {x, y} = page.example(n); return [Array.from(x), Array.from(y)]; }",
            number,
        )
        _, _, known, uniforms = problem(written, 100)
        data = torch.tensor(x).double(), torch.tensor(y).double(), known, uniforms
        largest = max(largest, check(opened, written, data, recognise=recognise))
    print(f"largest difference from PyTorch: {largest:.1e}")
    return largest


def test_the_deterministic_answer_is_network_a(visit, tmp_path):
    data = pictures(3, 5)
    model = network(data, 20, 15)
    written = write(tmp_path, data, model)
    opened = visit(written.url).ready()
    point = problem(written, 2)
    written.units = "deterministic"
    _, means, _ = expected(written, *point, recognise=False)
    assert difference(computed(opened, *point)["answer"], means[0]) < TOLERANCE


@pytest.mark.parametrize("recognise", [False, True], ids=["prior", "recognition"])
def test_agrees_with_impute(visit, tmp_path, recognise):
    data = pictures(2, 4)
    model = network(data, 4)
    guide = start_from_prior(model)
    written = write(tmp_path, data, model, guide=guide)
    x, y, known, _ = problem(written, 1)
    uniforms = torch.rand(4_000, 4)
    found = computed(visit(written.url).ready(), x, y, known, uniforms, recognise=recognise)
    result = impute(
        written.model,
        x[None],
        y[None],
        known,
        guide=written.guide if recognise else None,
        num_particles=4_000,
        num_samples=4_000,
        fill=written.fill,
    )
    # Relative variance of a mean of M weights: (M / ESS - 1) / M, for each of the two.
    error = math.sqrt(2 * (1 / found["ess"] - 1 / 4_000))
    assert abs(found["nats"] - result.log_likelihood_known.item()) < 5 * error
    frequency = result.samples[:, 0].mean(0)
    bound = 5 * (error + math.sqrt(0.25 / 4_000))
    assert (torch.tensor(found["mean"]) - frequency)[~known].abs().max() < bound
