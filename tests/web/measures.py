"""What is measured of an opened page."""

# In the pixels that were drawn: the evidence's mean log-likelihood, and the mean of P(y = 1), under
# the hidden states of all particles proposed and of the twenty completions shown.
FIT = """() => {
    const {output, weight, known, y, chosen} = page.state;
    const width = y.length;
    const pixels = [...known.keys()].filter((i) => known[i]);
    const p = (m, i) => Network.sigmoid(output[m * width + i]);
    const log = (m) => pixels.reduce((sum, i) => sum + Math.log(y[i] ? p(m, i) : 1 - p(m, i)), 0);
    const all = [...weight.keys()];
    const mean = (values) => values.reduce((a, b) => a + b, 0) / values.length;
    return {
        pixels: pixels.length,
        proposed: mean(all.map(log)),
        shown: mean(chosen.map(log)),
        inkProposed: mean(pixels.map((i) => mean(all.map((m) => p(m, i))))),
        inkShown: mean(pixels.map((i) => mean(chosen.map((m) => p(m, i))))),
    };
}"""


def ess(opened) -> float:
    return opened.evaluate("page.state.ess")
