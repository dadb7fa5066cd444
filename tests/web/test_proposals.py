"""On the page, a recognition network proposes particles that fit the evidence."""

import statistics

import torch

from tests.web.measures import FIT, ess

SIZES_BY_PROPOSAL = """(uniforms) => {
    const count = 100;
    const sizes = {prior: [], recognition: []};
    for (let n = 0; n < page.description.examples.count; n++) {
        const {x, y} = page.example(n);
        const known = y.map((value) => value > 0.5);
        for (const name of ["prior", "recognition"]) {
            const recognition = name === "prior" ? null : page.recognition;
            const { logWeight } = Network.particles(page.stochastic, {
                x, y, known, uniforms, count, recognition, fill: page.description.fill,
            });
            const weight = Network.responsibilities(logWeight);
            sizes[name].push(Network.effectiveSampleSize(weight));
        }
    }
    return sizes;
}"""


def test_the_recognition_network_keeps_the_effective_sample_size_higher(recognised):
    """Of the examples, with the ink of the real digit's lower half as evidence."""
    sizes = {"prior": [], "recognition": []}
    for _ in range(6):
        uniforms = torch.rand(100 * recognised.evaluate("page.stochastic.numHidden")).tolist()
        for name, found in recognised.evaluate(SIZES_BY_PROPOSAL, uniforms).items():
            sizes[name] += found
    means = {name: statistics.geometric_mean(found) for name, found in sizes.items()}
    print(f"geometric mean of the effective sample size of 100: {means}")
    assert means["recognition"] > 1.5 * means["prior"]


def test_choosing_the_recognition_network_uses_it(recognised):
    recognised.stroke((4, 6), (7, 6))
    before, prior = recognised.pictures(), recognised.evaluate(FIT)
    recognised.page.check("input[name=proposal][value=recognition]")
    recognised.settle()
    assert recognised.pictures() != before
    # Its particles agree better with the evidence before any of them is weighted.
    assert recognised.evaluate(FIT)["proposed"] > prior["proposed"] + 0.5
    assert 1 <= ess(recognised) <= 100


def test_without_one_there_is_no_choice(docs, recognised):
    assert recognised.page.is_visible("#proposals")
    assert not docs.page.is_visible("#proposals")
    assert not docs.evaluate("page.recognises")
