"use strict";

/**
 * The drawing area: x above, and below it what is known of y.
 *
 * `ink` holds a value for every pixel of x and y, `known` says of each of y's whether it is evidence.
 * Whatever draws (mouse, pen, finger, keys) ends in `paint`; `onChange` is called after each change.
 */
class Pad {
  static MEMORY = 200;

  constructor(canvas, { xShape, yShape, onChange, onMove }) {
    this.canvas = canvas;
    [this.xRows, this.columns] = xShape;
    this.rows = this.xRows + yShape[0];
    this.xSize = this.xRows * this.columns;
    this.onChange = onChange;
    this.onMove = onMove;
    this.ink = new Float32Array(this.rows * this.columns);
    this.known = new Uint8Array(yShape[0] * this.columns);
    this.origin = null;
    this.brush = 1;
    this.radius = Math.max(0.5, this.columns / 27);
    this.earlier = [];
    this.cursor = { row: this.xRows >> 1, column: this.columns >> 1, down: false };
    this.last = null;
    canvas.addEventListener("pointerdown", (event) => this.begin(event));
    canvas.addEventListener("pointermove", (event) => this.move(event));
    for (const end of ["pointerup", "pointercancel"]) {
      canvas.addEventListener(end, () => (this.last = null));
    }
    canvas.addEventListener("keydown", (event) => this.key(event));
    canvas.addEventListener("blur", () => (this.cursor.down = false));
  }

  get x() {
    return this.ink.slice(0, this.xSize);
  }

  get y() {
    return this.ink.slice(this.xSize);
  }

  /** Forgets the drawing for a given x, with nothing known of y; `origin` is the real y, if any. */
  start(x, origin) {
    this.remember();
    this.ink.fill(0);
    this.ink.set(x);
    this.known.fill(0);
    this.origin = origin;
    this.onChange();
  }

  clearEvidence() {
    this.remember();
    this.ink.fill(0, this.xSize);
    this.known.fill(0);
    this.onChange();
  }

  remember() {
    const { ink, known, origin } = this;
    this.earlier.push({ ink: ink.slice(), known: known.slice(), origin });
    if (this.earlier.length > Pad.MEMORY) this.earlier.shift();
  }

  undo() {
    const state = this.earlier.pop();
    if (!state) return false;
    this.ink.set(state.ink);
    this.known.set(state.known);
    this.origin = state.origin;
    this.onChange();
    return true;
  }

  begin(event) {
    if (event.button > 0 && !(event.buttons & 32)) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.remember();
    this.last = this.place(event);
    this.paint(this.last, this.last, event.buttons & 32 ? 0 : this.brush);
  }

  move(event) {
    if (!this.last) return;
    const events = event.getCoalescedEvents?.() ?? [];
    for (const one of events.length ? events : [event]) {
      const here = this.place(one);
      this.paint(this.last, here, event.buttons & 32 ? 0 : this.brush);
      this.last = here;
    }
  }

  /** Where an event is, in pixels of the picture. */
  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return {
      column: ((event.clientX - box.left) / box.width) * this.columns,
      row: ((event.clientY - box.top) / box.height) * this.rows,
    };
  }

  /** Sets every pixel whose middle is near the line from one place to another. */
  paint(from, to, value) {
    const across = to.column - from.column;
    const along = to.row - from.row;
    const length = across * across + along * along;
    for (let row = 0; row < this.rows; row++) {
      for (let column = 0; column < this.columns; column++) {
        const right = column + 0.5 - from.column;
        const down = row + 0.5 - from.row;
        const part = length ? Math.min(Math.max((right * across + down * along) / length, 0), 1) : 0;
        const distance = Math.hypot(right - part * across, down - part * along);
        const under = Math.floor(to.row) === row && Math.floor(to.column) === column;
        if (distance <= this.radius || under) this.set(row * this.columns + column, value);
      }
    }
    this.onChange();
  }

  set(pixel, value) {
    this.ink[pixel] = value;
    if (pixel >= this.xSize) this.known[pixel - this.xSize] = 1;
  }

  key(event) {
    const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    const { cursor } = this;
    if (event.key === " " || event.key === "Enter") {
      cursor.down = !cursor.down;
      if (cursor.down) {
        this.remember();
        this.paintAtCursor(cursor);
      }
    } else if (event.key in steps && !event.ctrlKey && !event.metaKey && !event.altKey) {
      const before = { ...cursor };
      const [down, right] = steps[event.key];
      cursor.row = Math.min(Math.max(cursor.row + down, 0), this.rows - 1);
      cursor.column = Math.min(Math.max(cursor.column + right, 0), this.columns - 1);
      if (cursor.down) this.paintAtCursor(before);
    } else {
      return;
    }
    event.preventDefault();
    this.onMove(cursor);
  }

  paintAtCursor(before) {
    const middle = ({ row, column }) => ({ row: row + 0.5, column: column + 0.5 });
    this.paint(middle(before), middle(this.cursor), this.brush);
  }
}
