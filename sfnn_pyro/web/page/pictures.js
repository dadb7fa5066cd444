"use strict";

// Numbers between 0 and 1 as pictures, in the colours of the style sheet.
const Pictures = (() => {
  let colours = null;

  /** Reads the colours anew, as the reader may change between light and dark. */
  function readColours(element) {
    const style = getComputedStyle(element);
    const probe = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const read = (name) => {
      probe.fillStyle = style.getPropertyValue(name).trim();
      probe.fillRect(0, 0, 1, 1);
      return Array.from(probe.getImageData(0, 0, 1, 1).data.slice(0, 3));
    };
    const names = ["paper", "ink", "imagined", "evidence", "unknown", "line", "cursor"];
    colours = Object.fromEntries(names.map((name) => [name, read(`--${name}`)]));
  }

  function put(data, pixel, from, to, part) {
    const t = Math.min(Math.max(part, 0), 1);
    for (let c = 0; c < 3; c++) data[4 * pixel + c] = from[c] + (to[c] - from[c]) * t;
    data[4 * pixel + 3] = 255;
  }

  /** x in ink above y in the colour of what is imagined; evidence in a colour of its own. */
  function drawWhole(canvas, { x, y, known, columns, tint = "imagined" }) {
    const rows = (x.length + y.length) / columns;
    resize(canvas, columns, rows);
    const context = canvas.getContext("2d");
    const image = context.createImageData(columns, rows);
    x.forEach((value, i) => put(image.data, i, colours.paper, colours.ink, value));
    y.forEach((value, i) => {
      const ink = known && known[i] ? colours.evidence : colours[tint];
      put(image.data, x.length + i, colours.paper, ink, value);
    });
    context.putImageData(image, 0, 0);
  }

  /** What is drawn: x, and of y the evidence; where nothing is known stands a colour of its own. */
  function drawPad(canvas, pad, showCursor) {
    const scale = canvas.width / pad.columns;
    const context = canvas.getContext("2d");
    const fill = (colour) => (context.fillStyle = `rgb(${colour.map(Math.round).join(" ")})`);
    const pixel = [0, 0, 0, 0];
    for (let i = 0; i < pad.ink.length; i++) {
      const below = i >= pad.xSize;
      if (below && !pad.known[i - pad.xSize]) fill(colours.unknown);
      else {
        put(pixel, 0, colours.paper, below ? colours.evidence : colours.ink, pad.ink[i]);
        fill(pixel.slice(0, 3));
      }
      const column = i % pad.columns;
      const row = (i - column) / pad.columns;
      context.fillRect(column * scale, row * scale, scale, scale);
      if (below && pad.known[i - pad.xSize] && pad.ink[i] < 0.5) {
        fill(colours.evidence); // a dot: known to be without ink
        const dot = Math.max(2, scale / 5);
        context.fillRect((column + 0.5) * scale - dot / 2, (row + 0.5) * scale - dot / 2, dot, dot);
      }
    }
    fill(colours.line);
    context.fillRect(0, pad.xRows * scale - 1, canvas.width, 2);
    if (showCursor) {
      const { row, column } = pad.cursor;
      const thickness = pad.cursor.down ? 6 : 3;
      for (const [colour, width] of [[colours.paper, thickness + 4], [colours.cursor, thickness]]) {
        context.lineWidth = width; // a rim of paper, so that it is seen on ink too
        context.strokeStyle = `rgb(${colour.map(Math.round).join(" ")})`;
        context.strokeRect(column * scale + 1, row * scale + 1, scale - 2, scale - 2);
      }
    }
  }

  /** All particles' pictures of y side by side, each as bright as its share of the largest weight. */
  function drawParticles(canvas, { pictures, weight, shape, across }) {
    const [rows, columns] = shape;
    const gap = Math.max(1, Math.round(columns / 14));
    const width = columns + gap;
    const height = rows + gap;
    resize(canvas, across * width + gap, Math.ceil(weight.length / across) * height + gap);
    const context = canvas.getContext("2d");
    const image = context.createImageData(canvas.width, canvas.height);
    const largest = weight.reduce((a, b) => Math.max(a, b), 0);
    weight.forEach((w, m) => {
      const left = gap + (m % across) * width;
      const top = gap + Math.floor(m / across) * height;
      for (let row = 0; row < rows; row++) {
        for (let column = 0; column < columns; column++) {
          const value = pictures[m * rows * columns + row * columns + column];
          const pixel = (top + row) * canvas.width + left + column;
          put(image.data, pixel, colours.paper, colours.imagined, value);
          image.data[4 * pixel + 3] = 255 * (0.06 + 0.94 * (w / largest));
        }
      }
    });
    context.putImageData(image, 0, 0);
  }

  function resize(canvas, width, height) {
    if (canvas.width !== width) canvas.width = width;
    if (canvas.height !== height) canvas.height = height;
  }

  return { drawPad, drawParticles, drawWhole, readColours };
})();
