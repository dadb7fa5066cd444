"use strict";

// The mathematics of the page, without the page: what sfnn_pyro computes in PyTorch, for one x.
// Equation numbers are those of Raiko, Berglund, Alain, Dinh, ICLR 2015 (arXiv 1406.2989).
// Particles lie one after another: the value of unit i in particle m is at [m * width + i].
const Network = (() => {
  const sigmoid = (a) => 1 / (1 + Math.exp(-a));

  const softplus = (a) => Math.max(a, 0) + Math.log1p(Math.exp(-Math.abs(a)));

  /** log P(h) of a Bernoulli unit with pre-activation a, in nats. */
  const logBernoulli = (h, a) => h * a - softplus(a);

  /** IEEE half-precision numbers, little-endian, as float32. */
  function decodeHalf(bytes) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const values = new Float32Array(bytes.byteLength / 2);
    for (let i = 0; i < values.length; i++) {
      const half = view.getUint16(2 * i, true);
      const sign = half & 0x8000 ? -1 : 1;
      const exponent = (half >> 10) & 31;
      const fraction = half & 1023;
      if (exponent === 0) values[i] = sign * fraction * 2 ** -24;
      else if (exponent === 31) values[i] = fraction ? NaN : sign * Infinity;
      else values[i] = sign * (1 + fraction / 1024) * 2 ** (exponent - 15);
    }
    return values;
  }

  /** The named tensors of a file, in the order in which its description lists them. */
  function tensors(description, bytes) {
    const values = decodeHalf(bytes);
    const found = {};
    let start = 0;
    for (const [name, shape] of description.tensors) {
      const size = shape.reduce((a, b) => a * b, 1);
      found[name] = values.subarray(start, start + size);
      start += size;
    }
    return found;
  }

  /** (rows, columns) to (columns, rows): a binary input then adds whole rows of memory. */
  function transposed(matrix, rows, columns) {
    const result = new Float32Array(matrix.length);
    for (let i = 0; i < rows; i++) {
      for (let j = 0; j < columns; j++) result[j * rows + i] = matrix[i * columns + j];
    }
    return result;
  }

  /** An SFNN: its layers bottom-up, each with a weight (n_in, n_out) and a bias (n_out). */
  function makeNetwork(description, bytes) {
    const found = tensors(description, bytes);
    const layers = description.sizes.slice(1).map((nOut, l) => {
      const nIn = description.sizes[l];
      return {
        nIn,
        nOut,
        weight: transposed(found[`layers.${l}.weight`], nOut, nIn),
        bias: found[`layers.${l}.bias`],
      };
    });
    const { sizes, likelihood, units } = description;
    const hidden = sizes.slice(1, -1);
    return { sizes, likelihood, units, layers, numHidden: hidden.reduce((a, b) => a + b, 0) };
  }

  /** A recognition network R(h | y, x) without an encoder; y enters beside x. */
  function makeRecognition(description, bytes) {
    const found = tensors(description, bytes);
    const [nX, ...hidden] = description.sizes;
    const context = nX + hidden.pop();
    const layers = hidden.map((nOut, l) => ({
      nOut,
      context,
      fromContext: transposed(found[`from_context.${l}.weight`], nOut, context),
      bias: found[`from_context.${l}.bias`],
      nBelow: l ? hidden[l - 1] : 0,
      fromBelow: l ? transposed(found[`from_below.${l - 1}.weight`], nOut, hidden[l - 1]) : null,
    }));
    return { layers };
  }

  /** Adds input @ weight to sum, where most of the input may be zero. */
  function addProduct(sum, sumStart, input, inputStart, nIn, weight, nOut) {
    for (let i = 0; i < nIn; i++) {
      const value = input[inputStart + i];
      if (value === 0) continue;
      const row = i * nOut;
      if (value === 1) for (let j = 0; j < nOut; j++) sum[sumStart + j] += weight[row + j];
      else for (let j = 0; j < nOut; j++) sum[sumStart + j] += value * weight[row + j];
    }
  }

  /** Pre-activations (M, n_out) of a layer whose input differs between particles. */
  function preactivations(input, count, layer) {
    const a = new Float32Array(count * layer.nOut);
    for (let m = 0; m < count; m++) {
      a.set(layer.bias, m * layer.nOut);
      addProduct(a, m * layer.nOut, input, m * layer.nIn, layer.nIn, layer.weight, layer.nOut);
    }
    return a;
  }

  /** The same pre-activations for all particles, as x is the same: computed once. */
  function shared(input, weight, bias, nIn, nOut, count) {
    const one = Float32Array.from(bias);
    addProduct(one, 0, input, 0, nIn, weight, nOut);
    const all = new Float32Array(count * nOut);
    for (let m = 0; m < count; m++) all.set(one, m * nOut);
    return all;
  }

  /**
   * h = 1 where u < sigma(a) (eq. 1), or sigma(a) itself for deterministic units.
   * uniforms (M, all hidden units): `start` is where this layer's begin.
   */
  function activate(a, count, width, units, uniforms, numHidden, start) {
    const h = new Float32Array(a.length);
    for (let m = 0; m < count; m++) {
      for (let i = 0; i < width; i++) {
        const k = m * width + i;
        const p = sigmoid(a[k]);
        if (units === "deterministic") h[k] = p;
        else h[k] = uniforms[m * numHidden + start + i] < p ? 1 : 0;
      }
    }
    return h;
  }

  /** h1 to hL from the network's own prior P(h | x). */
  function hiddenFromPrior(network, x, uniforms, count, units = network.units) {
    const hidden = [];
    let start = 0;
    network.layers.slice(0, -1).forEach((layer, l) => {
      const a = l
        ? preactivations(hidden[l - 1], count, layer)
        : shared(x, layer.weight, layer.bias, layer.nIn, layer.nOut, count);
      hidden.push(activate(a, count, layer.nOut, units, uniforms, network.numHidden, start));
      start += layer.nOut;
    });
    return hidden;
  }

  /** h1 to hL from R(h | y, x), and log R of each particle. */
  function hiddenFromRecognition(network, recognition, x, seen, uniforms, count) {
    const context = new Float32Array(x.length + seen.length);
    context.set(x);
    context.set(seen, x.length);
    const hidden = [];
    const logProposal = new Float64Array(count);
    let start = 0;
    recognition.layers.forEach((layer, l) => {
      const a = shared(context, layer.fromContext, layer.bias, layer.context, layer.nOut, count);
      for (let m = 0; l && m < count; m++) {
        const below = hidden[l - 1];
        addProduct(a, m * layer.nOut, below, m * layer.nBelow, layer.nBelow, layer.fromBelow, layer.nOut);
      }
      const h = activate(a, count, layer.nOut, "stochastic", uniforms, network.numHidden, start);
      addLogBernoulli(logProposal, h, a, count, layer.nOut);
      hidden.push(h);
      start += layer.nOut;
    });
    return { hidden, logProposal };
  }

  function addLogBernoulli(sum, h, a, count, width) {
    for (let m = 0; m < count; m++) {
      for (let k = m * width; k < (m + 1) * width; k++) sum[m] += logBernoulli(h[k], a[k]);
    }
  }

  /** log P(h | x) of each particle. */
  function logPrior(network, x, hidden, count) {
    const sum = new Float64Array(count);
    network.layers.slice(0, -1).forEach((layer, l) => {
      const a = l
        ? preactivations(hidden[l - 1], count, layer)
        : shared(x, layer.weight, layer.bias, layer.nIn, layer.nOut, count);
      addLogBernoulli(sum, hidden[l], a, count, layer.nOut);
    });
    return sum;
  }

  /** The output layer's pre-activations (M, dy): logits, or the means of a Gaussian. */
  function outputs(network, hidden, count) {
    return preactivations(hidden[hidden.length - 1], count, network.layers[network.layers.length - 1]);
  }

  /** log P(y_k | h) of each particle: the known entries of y alone count. */
  function logLikelihood(network, output, y, known, count) {
    const sum = new Float64Array(count);
    const width = y.length;
    for (let i = 0; i < width; i++) {
      if (!known[i]) continue;
      for (let m = 0; m < count; m++) {
        const o = output[m * width + i];
        if (network.likelihood === "bernoulli") sum[m] += logBernoulli(y[i], o);
        else sum[m] -= (y[i] - o) ** 2 / 2 + Math.log(2 * Math.PI) / 2;
      }
    }
    return sum;
  }

  /**
   * M weighted particles, as sfnn_pyro.imputation.impute draws them:
   * w = P(y_k | h) P(h | x) / R(h | y_k, x) (eq. 27); of the prior as proposal P(y_k | h) stays.
   */
  function particles(network, { x, y, known, uniforms, count, recognition = null, fill = 0 }) {
    let hidden;
    let ratio = null;
    if (recognition && network.units === "stochastic") {
      const seen = y.map((value, i) => (known[i] ? value : fill));
      const drawn = hiddenFromRecognition(network, recognition, x, seen, uniforms, count);
      hidden = drawn.hidden;
      ratio = logPrior(network, x, hidden, count).map((value, m) => value - drawn.logProposal[m]);
    } else {
      hidden = hiddenFromPrior(network, x, uniforms, count);
    }
    const output = outputs(network, hidden, count);
    const logWeight = logLikelihood(network, output, y, known, count);
    if (ratio) for (let m = 0; m < count; m++) logWeight[m] += ratio[m];
    return { hidden, output, logWeight };
  }

  /** The one output of the network with every hidden unit at its mean: the paper's network A. */
  function atMeans(network, x) {
    return outputs(network, hiddenFromPrior(network, x, null, 1, "deterministic"), 1);
  }

  /** The multi-sample estimate of the log-likelihood (eq. 6), in nats. */
  function logMeanExp(logWeight) {
    const peak = logWeight.reduce((a, b) => Math.max(a, b), -Infinity);
    if (peak === -Infinity) return peak;
    const total = logWeight.reduce((sum, value) => sum + Math.exp(value - peak), 0);
    return peak + Math.log(total / logWeight.length);
  }

  /** Responsibilities, the normalised weights (eq. 28). */
  function responsibilities(logWeight) {
    const peak = logWeight.reduce((a, b) => Math.max(a, b), -Infinity);
    const weight = logWeight.map((value) => Math.exp(value - peak));
    const total = weight.reduce((a, b) => a + b, 0);
    return weight.map((value) => value / total);
  }

  /** How many equally weighted particles the M are worth: 1 / sum of squares, from 1 to M. */
  function effectiveSampleSize(weight) {
    return 1 / weight.reduce((sum, value) => sum + value * value, 0);
  }

  /** For each uniform the particle whose part of the cumulative weights it falls into. */
  function resample(weight, uniforms) {
    const marks = new Float64Array(weight.length);
    let total = 0;
    weight.forEach((value, m) => {
      total += value;
      marks[m] = total;
    });
    let last = weight.length - 1;
    while (last > 0 && weight[last] === 0) last--;
    return Array.from(uniforms, (u) => {
      let low = 0;
      let high = last;
      while (low < high) {
        const middle = (low + high) >> 1;
        if (marks[middle] > u * total) high = middle;
        else low = middle + 1;
      }
      return low;
    });
  }

  /** What is drawn of an output: P(y = 1 | h), or a Gaussian's mean. */
  function means(network, output) {
    return network.likelihood === "bernoulli" ? output.map(sigmoid) : output;
  }

  /** The responsibilities' mean of M pictures (M, width). */
  function weightedMean(pictures, weight, width) {
    const mean = new Float32Array(width);
    weight.forEach((w, m) => {
      if (w > 0) for (let i = 0; i < width; i++) mean[i] += w * pictures[m * width + i];
    });
    return mean;
  }

  return {
    atMeans,
    decodeHalf,
    effectiveSampleSize,
    logMeanExp,
    makeNetwork,
    makeRecognition,
    means,
    particles,
    resample,
    responsibilities,
    sigmoid,
    weightedMean,
  };
})();
