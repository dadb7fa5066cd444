"use strict";

// The page: from a drawing to completions, at every stroke.
const LARGEST = 500;
const SPEAK_AFTER = 700; // milliseconds without a change, before a screen reader is told

const element = (id) => document.getElementById(id);

/** A number for a person, with a real minus sign. */
const inWords = (value) => value.toFixed(1).replace("-", "\u2212");

class Page {
  constructor(read) {
    Object.assign(this, read);
    const { image } = this.description;
    this.shape = image.y_shape;
    this.columns = image.x_shape[1];
    this.pad = new Pad(element("pad"), {
      xShape: image.x_shape,
      yShape: image.y_shape,
      onChange: () => this.schedule(),
      onMove: (cursor) => this.sayPlace(cursor),
    });
    this.canvases = [...document.querySelectorAll("#samples canvas")];
    this.drawNoise();
    this.layOut();
    this.fillExamples();
    this.listen();
    this.describe();
    this.choose(0);
    this.pad.earlier.length = 0;
  }

  /** One set of uniform numbers serves all strokes: pictures change with the drawing alone. */
  drawNoise() {
    const size = LARGEST * this.stochastic.numHidden;
    this.uniforms = Float64Array.from({ length: size }, Math.random);
    // One in each of twenty equal parts: every particle has its weight's chance of each place.
    const shown = this.canvases.length;
    this.chances = Array.from({ length: shown }, (_, s) => (s + Math.random()) / shown);
  }

  get count() {
    return Number(element("count").value);
  }

  get sharpness() {
    return Number(element("sharpness").value);
  }

  get recognises() {
    return document.querySelector("input[name=proposal]:checked").value === "recognition";
  }

  layOut() {
    document.body.classList.toggle("photographs", this.stochastic.likelihood === "gaussian");
    const canvas = element("pad");
    const rows = this.pad.rows;
    const scale = Math.max(1, Math.floor(616 / Math.max(this.columns, rows)));
    canvas.width = this.columns * scale;
    canvas.height = rows * scale;
    document.body.style.setProperty("--aspect", String(this.columns / rows));
    Pictures.readColours(document.body);
  }

  example(number) {
    const xSize = this.pad.xSize;
    const size = xSize + this.pad.known.length;
    const whole = this.examples.subarray(number * size, (number + 1) * size);
    return { x: whole.subarray(0, xSize), y: whole.subarray(xSize) };
  }

  fillExamples() {
    // The page has room for twelve from the start; an export may hold fewer or more.
    const list = element("examples");
    const { count } = this.description.examples;
    while (list.children.length > count) list.lastElementChild.remove();
    while (list.children.length < count) list.append(list.firstElementChild.cloneNode(true));
    const buttons = [...list.querySelectorAll("button")];
    buttons.forEach((button, number) => {
      button.disabled = false;
      button.setAttribute("aria-label", `Test picture ${number + 1}`);
      button.addEventListener("click", () => this.choose(number));
    });
    this.buttons = buttons.map((button) => button.firstElementChild);
  }

  choose(number) {
    const { x, y } = this.example(number);
    this.pad.start(x, y);
  }

  listen() {
    for (const id of ["count", "sharpness"]) {
      element(id).addEventListener("input", () => this.schedule());
    }
    for (const radio of document.querySelectorAll("input[name=proposal]")) {
      radio.addEventListener("change", () => this.schedule());
    }
    for (const radio of document.querySelectorAll("input[name=brush]")) {
      radio.addEventListener("change", () => (this.pad.brush = Number(radio.value)));
    }
    element("undo").addEventListener("click", () => this.undo());
    element("clear").addEventListener("click", () => {
      this.pad.start(new Float32Array(this.pad.xSize), null);
    });
    element("clear-evidence").addEventListener("click", () => this.pad.clearEvidence());
    element("again").addEventListener("click", () => {
      this.drawNoise();
      this.schedule();
    });
    document.addEventListener("keydown", (event) => {
      if ((event.ctrlKey || event.metaKey) && !event.shiftKey && event.key === "z") {
        event.preventDefault();
        this.undo();
      }
    });
    for (const focus of ["focus", "blur"]) {
      element("pad").addEventListener(focus, () => this.schedule());
    }
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
      Pictures.readColours(document.body);
      this.schedule();
    });
  }

  undo() {
    if (!this.pad.undo()) element("place").textContent = "Nothing to undo.";
  }

  describe() {
    const { description } = this;
    element("proposals").hidden = !this.recognition;
    if (!description.image.halves) {
      element("title").textContent = "Draw, and watch the network imagine the rest";
      element("lede").textContent =
        "From the upper picture this network imagines the lower one. There is seldom a single way " +
        "to go on: draw above the line, and see twenty. Then draw below it, and see which still fit.";
      element("examples-title").textContent = "Start from a test picture";
    }
    if (this.stochastic.likelihood === "gaussian") {
      element("samples-hint").textContent =
        "Above: what the network sees. Below: the mean of what it imagines, each time from another " +
        "random state of its hidden units.";
      element("sharpness-hint").textContent =
        "At 1 the greys are the network's own. It changes pictures, not weights.";
    }
    if (!this.deterministic) {
      element("deterministic-note").textContent =
        "the same network with every hidden unit at its mean: one answer";
    }
    if (this.stochastic.units === "deterministic") {
      element("samples-hint").textContent =
        "This network is deterministic: its hidden units are never drawn, and all twenty are the same.";
    }
    element("provenance").textContent = description.title;
  }

  /** At most one redraw a frame, however many events there are. */
  schedule() {
    if (this.scheduled) return;
    this.scheduled = true;
    requestAnimationFrame(() => {
      this.scheduled = false;
      const start = performance.now();
      this.draw();
      this.milliseconds = performance.now() - start;
      element("milliseconds").textContent = `Redrawn in ${this.milliseconds.toFixed(0)} ms.`;
      clearTimeout(this.speaking);
      this.speaking = setTimeout(() => this.speak(), SPEAK_AFTER);
    });
  }

  compute() {
    const { pad, count, stochastic } = this;
    const { x, y, known } = pad;
    const { fill } = this.description;
    const recognition = this.recognises ? this.recognition : null;
    const drawn = Network.particles(stochastic, {
      x, y, known, uniforms: this.uniforms, count, recognition, fill,
    });
    const weight = Network.responsibilities(drawn.logWeight);
    const pictures = this.sharpened(stochastic, drawn.output);
    this.state = {
      ...drawn,
      x,
      y,
      known,
      weight,
      pictures,
      ess: Network.effectiveSampleSize(weight),
      nats: Network.logMeanExp(drawn.logWeight),
      chosen: Network.resample(weight, this.chances),
      mean: Network.weightedMean(pictures, weight, y.length),
      evidence: known.some(Boolean),
    };
    const other = this.deterministic ?? stochastic;
    this.state.deterministic = this.sharpened(other, Network.atMeans(other, x));
    return this.state;
  }

  /** Pictures of outputs; sharpness multiplies a Bernoulli's logits, or a grey's distance from 1/2. */
  sharpened(network, output) {
    const { sharpness } = this;
    if (network.likelihood === "bernoulli") {
      return Network.means(network, output.map((o) => sharpness * o));
    }
    return output.map((o) => 0.5 + sharpness * (o - 0.5));
  }

  draw() {
    const state = this.compute();
    const { x, y, known, weight, pictures, chosen } = state;
    const { columns } = this;
    const size = y.length;
    Pictures.drawPad(element("pad"), this.pad, element("pad").matches(":focus-visible"));
    const withEvidence = (picture) => picture.map((value, i) => (known[i] ? y[i] : value));
    this.canvases.forEach((canvas, s) => {
      const m = chosen[s];
      const picture = withEvidence(pictures.subarray(m * size, (m + 1) * size));
      Pictures.drawWhole(canvas, { x, y: picture, known, columns });
      const share = (100 * weight[m]).toFixed(1);
      canvas.setAttribute("aria-label", `Sample ${m + 1}, responsibility ${share} %`);
    });
    Pictures.drawWhole(element("deterministic"), { x, y: state.deterministic, columns });
    Pictures.drawWhole(element("mean"), { x, y: withEvidence(state.mean), known, columns });
    this.drawTruth(x);
    this.buttons.forEach((canvas, number) => {
      Pictures.drawWhole(canvas, { ...this.example(number), columns, tint: "line" });
    });
    this.drawWeights(state);
  }

  drawTruth(x) {
    const { origin } = this.pad;
    const truth = origin ?? new Float32Array(this.pad.known.length);
    Pictures.drawWhole(element("truth"), { x, y: truth, columns: this.columns, tint: "ink" });
    element("truth-note").textContent = origin
      ? "that you started from"
      : "nobody knows: this is your own drawing";
  }

  drawWeights({ weight, pictures, ess, nats, evidence }) {
    const { count, shape } = this;
    const across = Math.ceil(Math.sqrt((count * 1.9 * shape[0]) / shape[1]));
    Pictures.drawParticles(element("particles"), { pictures, weight, shape, across });
    element("count-value").textContent = count;
    element("sharpness-value").textContent = this.sharpness.toFixed(1);
    element("weights-count").textContent = count;
    element("ess").max = count;
    element("ess").value = ess;
    element("ess").textContent = ess.toFixed(1);
    element("ess-value").textContent = `${ess.toFixed(1)} of ${count}`;
    element("ess-note").textContent = this.note(ess, evidence);
    element("evidence-nats").textContent = evidence
      ? `Log-likelihood of your evidence, by equation 6: ${inWords(nats)} nats.`
      : "Draw below the line, and its log-likelihood stands here.";
    element("invitation").classList.toggle("answered", evidence);
    element("with-evidence").classList.toggle("active", evidence);
    element("without-evidence").classList.toggle("active", !evidence);
  }

  note(ess, evidence) {
    if (!evidence && !this.recognises) return "Nothing is known yet: all samples weigh the same.";
    if (!evidence) return "Nothing is known yet: weights differ only where R is not quite P.";
    if (ess < 3) return "Hardly any sample fits: the completions repeat the few that do. More samples help.";
    if (ess < 10) return "Few samples fit: some completions repeat one another.";
    return "Many samples fit: the completions are well told apart.";
  }

  speak() {
    const { ess, nats, evidence } = this.state;
    const known = evidence ? `, log-likelihood of the evidence ${inWords(nats)} nats` : "";
    element("live").textContent =
      `Twenty completions redrawn. Effective sample size ${ess.toFixed(1)} of ${this.count}${known}.`;
  }

  sayPlace({ row, column, down }) {
    const { pad } = this;
    const pixel = row * pad.columns + column;
    const below = row >= pad.xRows;
    const half = below ? "below the line" : "above the line";
    const unknown = below && !pad.known[pixel - pad.xSize];
    const what = unknown ? "unknown" : pad.ink[pixel] > 0.5 ? "ink" : "no ink";
    element("place").textContent =
      `Row ${row + 1}, column ${column + 1}, ${half}, ${what}, pen ${down ? "down" : "up"}.`;
    this.schedule();
  }
}

function fail(sentence) {
  element("main").hidden = true;
  const failure = element("failure");
  failure.textContent = sentence;
  failure.hidden = false;
}

let page = null;

async function open() {
  try {
    page = new Page(await Files.readExport());
  } catch (error) {
    const missing = error instanceof ReferenceError;
    if (!missing && !(error instanceof Files.FileError)) throw error;
    fail(missing ? "A file of this page is missing: export it again." : error.message);
  }
}

open().catch((error) => fail(`The export cannot be shown (${error.message}): export it again.`));
