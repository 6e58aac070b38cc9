// Distances between all maps of a layer as a picture, in the order of the grid. A cell names two maps, a block many.

const KEPT = 6;
const ASK_AGAIN = 4000;
// Pixels that a cell needs for a number of up to three digits.
const LEAST_CELL = 16;

class Matrix {
  constructor(model, root) {
    this.model = model;
    this.frames = new Map();
    this.asked = "";
    this.cursor = [0, 0];
    this.table = lookupTable(model.get("palette"));
    this.canvas = el("canvas", { class: "sauron-matrix-canvas", tabindex: "0", role: "group", "aria-roledescription": "matrix" });
    this.tip = el("div", { class: "sauron-tip", hidden: true });
    this.live = el("p", { class: "sauron-live", "aria-live": "polite" });
    this.empty = el("p", { class: "sauron-empty" });
    const bar = el("canvas", { class: "sauron-bar", width: 256, height: 1, "aria-hidden": "true" });
    [this.low, this.high] = [el("span", { text: "0" }), el("span", {})];
    this.scale = el("div", { class: "sauron-scale" }, this.low, bar, this.high);
    this.paintBar(bar);
    const csv = el("button", { type: "button", text: "CSV", "aria-label": "Save all distances as CSV", onclick: () => model.send({ csv: true }) });
    this.root = el("div", { class: "sauron-matrix" }, el("div", { class: "sauron-actions" }, csv), this.empty, this.canvas, this.scale, this.live, this.tip);
    root.append(this.root);
    this.stops = [
      listen(model, ["base", "epoch", "active"], () => this.show()),
      listen(model, ["order", "filter", "marked"], () => this.draw()),
      listen(model, ["msg:custom"], (content, buffers) => this.receive(content, buffers)),
      onTheme(() => this.draw()),
    ];
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.root);
    this.canvas.addEventListener("pointerdown", (event) => this.press(event));
    this.canvas.addEventListener("pointermove", (event) => this.move(event));
    this.canvas.addEventListener("pointerup", (event) => this.release(event));
    this.canvas.addEventListener("pointerleave", () => (this.tip.hidden = true));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    // As in the grid: a question can get lost, and the kernel does not answer one about what it has left.
    this.again = setInterval(() => this.asked && this.show(), ASK_AGAIN);
    this.show();
  }

  stop() {
    clearInterval(this.again);
    this.stops.forEach((stop) => stop());
    this.observer.disconnect();
  }

  paintBar(bar) {
    const context = bar.getContext("2d");
    const image = context.createImageData(256, 1);
    new Uint32Array(image.data.buffer).set(this.table);
    context.putImageData(image, 0, 0);
  }

  wanted() {
    return `${this.model.get("base")}|${this.model.get("epoch")}`;
  }

  // Drawn only while it is seen: the distances of a wide layer are half a megabyte an epoch.
  show() {
    if (!this.model.get("active") || !this.model.get("base")) return;
    const key = this.wanted();
    if (this.frames.has(key)) return this.draw();
    if (this.asked === key && performance.now() - this.since < ASK_AGAIN) return;
    this.asked = key;
    this.since = performance.now();
    this.model.send({ want: this.model.get("epoch"), base: this.model.get("base") });
  }

  receive(content, buffers) {
    if (content.csv !== undefined) return download(content.name, new Blob([content.csv], { type: "text/csv" }));
    const key = `${content.base}|${content.epoch}`;
    if (this.asked === key) this.asked = "";
    if (content.note !== undefined) {
      this.frames.set(key, { note: content.note });
    } else {
      const { n } = content;
      const distances = new Uint16Array(bytes(buffers[0]).slice().buffer);
      const numbers = new Int32Array(bytes(buffers[1]).slice().buffer);
      const column = (i) => numbers.subarray(i * n, (i + 1) * n);
      const orders = Object.fromEntries(content.orders.map((name, i) => [name, column(2 + i)]));
      this.frames.set(key, { n, distances, filter: column(0), cluster: column(1), orders, most: content.most });
    }
    while (this.frames.size > KEPT) this.frames.delete(this.frames.keys().next().value);
    this.draw();
  }

  draw() {
    const frame = this.frames.get(this.wanted());
    if (!frame) return;
    const none = frame.note !== undefined;
    this.empty.hidden = !none;
    this.canvas.hidden = this.scale.hidden = none;
    if (none) {
      this.empty.textContent = frame.note;
      this.root.dataset.ready = "none";
      return;
    }
    const side = this.root.clientWidth;
    if (side < 40) return;
    this.frame = frame;
    this.order = frame.orders[this.model.get("order")] ?? frame.orders.number;
    const dpr = window.devicePixelRatio || 1;
    this.side = side;
    this.canvas.width = this.canvas.height = Math.round(side * dpr);
    Object.assign(this.canvas.style, { width: `${side}px`, height: `${side}px` });
    const context = this.canvas.getContext("2d");
    context.imageSmoothingEnabled = this.canvas.width < frame.n;
    context.drawImage(this.picture(), 0, 0, this.canvas.width, this.canvas.height);
    if (this.model.get("order") === "clusters") this.frameClusters(context, dpr);
    this.writeNumbers(context, dpr);
    this.markLines(context, dpr);
    if (this.block) this.frameBlock(context, dpr);
    this.high.textContent = number(frame.most);
    this.canvas.setAttribute("aria-label", `Distances between ${frame.n} maps; arrow keys move, Enter shows the two maps`);
    this.root.dataset.ready = this.wanted();
    this.root.dataset.order = this.model.get("order");
  }

  picture() {
    const { frame, order } = this;
    if (frame.painted?.order === order) return frame.painted.canvas;
    const canvas = new OffscreenCanvas(frame.n, frame.n);
    const context = canvas.getContext("2d");
    const image = context.createImageData(frame.n, frame.n);
    const words = new Uint32Array(image.data.buffer);
    for (let i = 0, to = 0; i < frame.n; i++) {
      const row = order[i] * frame.n;
      for (let j = 0; j < frame.n; j++) words[to++] = this.table[frame.distances[row + order[j]] >> 8];
    }
    context.putImageData(image, 0, 0);
    frame.painted = { order, canvas };
    return canvas;
  }

  frameClusters(context, dpr) {
    const { frame, order } = this;
    const cell = this.canvas.width / frame.n;
    context.strokeStyle = cssColour("--sauron-select", "#d55e00");
    context.lineWidth = Math.max(1, Math.round(1.5 * dpr));
    for (let start = 0, at = 1; at <= frame.n; at++) {
      if (at < frame.n && frame.cluster[order[at]] === frame.cluster[order[start]]) continue;
      if (at - start > 1) context.strokeRect(start * cell, start * cell, (at - start) * cell, (at - start) * cell);
      start = at;
    }
  }

  // On the diagonal, which is as bright as near maps are; where there are too many maps the pointer tells them.
  writeNumbers(context, dpr) {
    const { frame, order } = this;
    const cell = this.canvas.width / frame.n;
    if (cell < LEAST_CELL * dpr) return;
    context.font = `${Math.round(Math.min(12 * dpr, 0.5 * cell))}px ${cssColour("--sauron-font", "sans-serif")}`;
    context.textAlign = "center";
    context.textBaseline = "middle";
    context.fillStyle = "#000000";
    for (let i = 0; i < frame.n; i++) context.fillText(frame.filter[order[i]], (i + 0.5) * cell, (i + 0.5) * cell);
  }

  // The row and the column of the chosen filter.
  markLines(context, dpr) {
    const { frame, order } = this;
    const place = order.findIndex((row) => frame.filter[row] === this.model.get("filter"));
    if (place < 0) return;
    const cell = this.canvas.width / frame.n;
    context.strokeStyle = cssColour("--sauron-select", "#d55e00");
    context.lineWidth = Math.max(1, Math.round(dpr));
    context.strokeRect(0, place * cell, this.canvas.width, cell);
    context.strokeRect(place * cell, 0, cell, this.canvas.width);
  }

  frameBlock(context, dpr) {
    const [i0, j0, i1, j1] = this.bounds();
    const cell = this.canvas.width / this.frame.n;
    context.strokeStyle = "#ffffff";
    context.lineWidth = Math.max(2, Math.round(2 * dpr));
    context.setLineDash([4 * dpr, 3 * dpr]);
    context.strokeRect(j0 * cell, i0 * cell, (j1 - j0 + 1) * cell, (i1 - i0 + 1) * cell);
    context.setLineDash([]);
  }

  bounds() {
    const [[a, b], [c, d]] = this.block;
    return [Math.min(a, c), Math.min(b, d), Math.max(a, c), Math.max(b, d)];
  }

  // Row and column under the pointer.
  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const place = (offset) => Math.max(0, Math.min(this.frame.n - 1, Math.floor((offset / box.width) * this.frame.n)));
    return [place(event.clientY - box.top), place(event.clientX - box.left)];
  }

  names([i, j]) {
    const { frame, order } = this;
    return [frame.filter[order[i]], frame.filter[order[j]]];
  }

  words([i, j]) {
    const { frame, order } = this;
    const [a, b] = this.names([i, j]);
    if (a === b) return `Filter ${a}`;
    const stored = frame.distances[order[i] * frame.n + order[j]];
    return `Filters ${a} and ${b}: ${stored === 65535 ? "no number" : `${number((stored / 65534) * frame.most)} apart`}`;
  }

  press(event) {
    if (!this.frame) return;
    this.canvas.setPointerCapture(event.pointerId);
    this.start = this.at(event);
  }

  move(event) {
    if (!this.frame) return;
    const cell = this.at(event);
    if (this.start && (cell[0] !== this.start[0] || cell[1] !== this.start[1])) {
      this.block = [this.start, cell];
      this.draw();
    }
    this.tip.hidden = false;
    this.tip.textContent = this.words(cell);
    const box = this.root.getBoundingClientRect();
    this.tip.style.left = `${Math.max(0, Math.min(event.clientX - box.left + 14, box.width - this.tip.offsetWidth - 4))}px`;
    this.tip.style.top = `${event.clientY - box.top + 18}px`;
  }

  release(event) {
    if (!this.start) return;
    const cell = this.at(event);
    if (this.block && (cell[0] !== this.start[0] || cell[1] !== this.start[1])) this.mark();
    else this.pick(cell);
    this.start = null;
  }

  // All maps of a block, of its rows and of its columns.
  mark() {
    const [i0, j0, i1, j1] = this.bounds();
    const rows = new Set();
    for (let i = i0; i <= i1; i++) rows.add(this.order[i]);
    for (let j = j0; j <= j1; j++) rows.add(this.order[j]);
    const filters = [...rows].map((row) => this.frame.filter[row]);
    setTrait(this.model, "marked", filters);
    this.live.textContent = `${filters.length} maps are marked in the grid. A click on a cell ends that.`;
    this.root.dataset.marked = filters.length;
  }

  pick(cell) {
    this.cursor = cell;
    this.block = null;
    setTrait(this.model, "marked", []);
    this.root.dataset.marked = 0;
    const [a, b] = this.names(cell);
    this.model.send({ pick: [a, b] });
    this.live.textContent = this.words(cell);
    this.draw();
  }

  key(event) {
    if (!this.frame) return;
    const steps = { ArrowLeft: [0, -1], ArrowRight: [0, 1], ArrowUp: [-1, 0], ArrowDown: [1, 0] };
    const inside = (place) => Math.max(0, Math.min(this.frame.n - 1, place));
    if (event.key in steps) {
      const next = this.cursor.map((place, axis) => inside(place + steps[event.key][axis]));
      if (event.shiftKey) {
        this.block = [this.block ? this.block[0] : this.cursor, next];
        this.mark();
      } else {
        this.block = [next, next];
      }
      this.cursor = next;
      if (!event.shiftKey) this.live.textContent = this.words(next);
      this.draw();
    } else if (event.key === "Enter" || event.key === " ") {
      this.pick(this.cursor);
    } else {
      return;
    }
    event.preventDefault();
  }
}

export default {
  render({ model, el: root }) {
    const matrix = new Matrix(model, root);
    return () => matrix.stop();
  },
};
