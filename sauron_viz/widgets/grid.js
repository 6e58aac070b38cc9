// All maps of a layer on one canvas. Frames (one per epoch) are kept in the browser, so that moving through epochs that
// were seen, or fetched ahead, asks the kernel for nothing.

const WIDE_LAYER = 150;
const CAPTION = 15;
const LARGEST_CELL = 208;
const SMALLEST_CELL = 22;
const CACHE_BYTES = 96e6;
const ASK_AGAIN = 4000;
const STATS = ["filter", "low", "high", "toReference", "nearest", "nearestDistance", "deltaPrune"];

class FrameCache {
  constructor() {
    this.frames = new Map();
    this.bytes = 0;
  }
  get(key) {
    const frame = this.frames.get(key);
    if (frame) {
      this.frames.delete(key);
      this.frames.set(key, frame);
    }
    return frame;
  }
  has(key) {
    return this.frames.has(key);
  }
  put(key, frame) {
    this.drop(key);
    this.frames.set(key, frame);
    this.bytes += frame.size;
    while (this.bytes > CACHE_BYTES && this.frames.size > 1) this.drop(this.frames.keys().next().value);
  }
  drop(key) {
    this.bytes -= this.frames.get(key)?.size ?? 0;
    this.frames.delete(key);
  }
}

function readFrame(content, buffers) {
  const { n, h, w } = content;
  const pixels = bytes(buffers[0]);
  const stats = new Float32Array(bytes(buffers[1]).slice().buffer);
  const column = Object.fromEntries(STATS.map((name, i) => [name, stats.subarray(i * n, (i + 1) * n)]));
  return { n, h, w, pixels, ...column, size: pixels.length + 28 * n, atlas: null };
}

// Per map, which of the 256 colours each stored byte gets when all maps share one scale.
function commonScale(frame) {
  let low = Infinity;
  let high = -Infinity;
  for (let m = 0; m < frame.n; m++) {
    low = Math.min(low, frame.low[m]);
    high = Math.max(high, frame.high[m]);
  }
  const span = high - low || 1;
  return (m, q) => Math.round((255 * (frame.low[m] + (q / 255) * (frame.high[m] - frame.low[m]) - low)) / span);
}

// One offscreen picture with every map at its own resolution.
function paintAtlas(frame, table, scale) {
  if (frame.atlas?.scale === scale && frame.atlas.table === table) return frame.atlas;
  const { n, h, w } = frame;
  const across = Math.max(1, Math.min(n, Math.floor(4096 / w)));
  const canvas = new OffscreenCanvas(across * w, Math.ceil(n / across) * h);
  const context = canvas.getContext("2d");
  const image = context.createImageData(canvas.width, canvas.height);
  const words = new Uint32Array(image.data.buffer);
  const shared = scale === "layer" ? commonScale(frame) : null;
  const own = new Uint32Array(256);
  for (let m = 0; m < n; m++) {
    if (shared) for (let q = 0; q < 256; q++) own[q] = table[shared(m, q)];
    const colours = shared ? own : table;
    const left = (m % across) * w;
    const top = Math.floor(m / across) * h;
    for (let y = 0, from = m * h * w; y < h; y++) {
      let to = (top + y) * canvas.width + left;
      for (let x = 0; x < w; x++) words[to++] = colours[frame.pixels[from++]];
    }
  }
  context.putImageData(image, 0, 0);
  frame.atlas = { canvas, across, scale, table };
  return frame.atlas;
}

// Cell size in CSS pixels: as large as lets all maps be seen at once, or the size that was chosen.
function layOut(n, ratio, width, height, chosen) {
  const gap = n > WIDE_LAYER ? 3 : 6;
  const fits = (cell) => {
    const columns = Math.max(1, Math.floor((width + gap) / (cell + gap)));
    const caption = cell >= 26 ? CAPTION : 0;
    const row = Math.round(cell * ratio) + caption + gap;
    return { cell, gap, columns, caption, row, rows: Math.ceil(n / columns), height: Math.ceil(n / columns) * row };
  };
  if (chosen) return fits(Math.min(chosen, width));
  for (let cell = LARGEST_CELL; cell > SMALLEST_CELL; cell--) {
    const plan = fits(cell);
    if (plan.height <= height && plan.columns * (cell + gap) - gap <= width) return plan;
  }
  return fits(SMALLEST_CELL);
}

function describe(frame, m) {
  const parts = [
    `Filter ${frame.filter[m]}${m === 0 ? " (the reference)" : ""}`,
    `values ${number(frame.low[m])} to ${number(frame.high[m])}`,
  ];
  if (m > 0) parts.push(`δ to the reference ${number(frame.toReference[m])}`);
  if (frame.nearest[m] >= 0) parts.push(`nearest filter ${frame.nearest[m]} at ${number(frame.nearestDistance[m])}`);
  if (Number.isFinite(frame.deltaPrune[m])) parts.push(`δ_prune ${number(frame.deltaPrune[m])}`);
  return parts;
}

class Grid {
  constructor(model, root) {
    this.model = model;
    this.cache = new FrameCache();
    this.asked = new Map();
    this.hovered = -1;
    this.table = lookupTable(model.get("palette"));
    this.canvas = el("canvas", {
      class: "sauron-grid-canvas",
      tabindex: "0",
      role: "group",
      "aria-roledescription": "grid of feature maps",
    });
    this.spacer = el("div", { class: "sauron-grid-spacer" }, this.canvas);
    this.scroller = el("div", { class: "sauron-grid-scroller" }, this.spacer);
    this.tip = el("div", { class: "sauron-tip", hidden: true });
    this.live = el("p", { class: "sauron-live", "aria-live": "polite" });
    this.empty = el("p", { class: "sauron-empty", hidden: true });
    this.title = el("h3", {});
    const save = el("button", { type: "button", text: "PNG", "aria-label": "Save all maps as PNG", onclick: () => this.save() });
    this.head = el("header", {}, this.title, el("div", { class: "sauron-actions" }, save));
    this.root = el("div", { class: "sauron-grid" }, this.head, this.scroller, this.empty, this.tip, this.live);
    root.append(this.root);
    this.stops = [
      listen(model, ["base", "epoch"], () => {
        this.dismiss();
        this.show();
      }),
      listen(model, ["filter", "scale", "size", "label"], () => this.draw()),
      listen(model, ["msg:custom"], (content, buffers) => this.receive(content, buffers)),
      onTheme(() => this.draw()),
    ];
    this.observer = new ResizeObserver(() => this.draw());
    this.observer.observe(this.scroller);
    this.scroller.addEventListener("scroll", () => {
      this.dismiss();
      this.draw();
    });
    this.canvas.addEventListener("pointermove", (event) => this.hover(event));
    this.canvas.addEventListener("pointerleave", () => this.leave());
    this.canvas.addEventListener("click", (event) => this.click(event));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    // A question can get lost while a page and its kernel find each other; without this the grid would stay empty.
    this.again = setInterval(() => this.asked.size && this.show(), ASK_AGAIN);
    this.show();
  }

  stop() {
    clearInterval(this.again);
    this.stops.forEach((stop) => stop());
    this.observer.disconnect();
  }

  key_of(epoch) {
    return `${this.model.get("base")}|${epoch}`;
  }

  // Draw the epoch that is asked for, or ask the kernel for it and keep the old picture until it comes.
  show() {
    if (!this.model.get("base")) return this.blank(this.model.get("note"));
    const key = this.key_of(this.model.get("epoch"));
    const frame = this.cache.get(key);
    if (!frame) return this.ask(this.model.get("epoch"));
    if (frame !== this.frame) this.dismiss();
    this.frame = frame;
    this.shown = key;
    this.draw();
    this.fetchAhead();
  }

  ask(epoch) {
    const key = this.key_of(epoch);
    const now = performance.now();
    if (now - (this.asked.get(key) ?? -Infinity) < ASK_AGAIN) return;
    this.asked.set(key, now);
    this.model.send({ want: epoch, base: this.model.get("base") });
  }

  receive(content, buffers) {
    const key = `${content.base}|${content.epoch}`;
    this.asked.delete(key);
    const current = key === this.key_of(this.model.get("epoch"));
    if (content.note !== undefined) {
      if (current) this.blank(content.note);
      return;
    }
    this.cache.put(key, readFrame(content, buffers));
    if (current) this.show();
    else this.fetchAhead();
  }

  // One at a time, nearest epoch first, and only when nothing else is asked for: the reader's own wishes come first.
  fetchAhead() {
    const size = this.frame?.size ?? 0;
    for (const [key, since] of this.asked) if (performance.now() - since > ASK_AGAIN) this.asked.delete(key);
    if (this.asked.size || this.cache.bytes + 2 * size > CACHE_BYTES) return;
    const now = this.model.get("epoch");
    const missing = this.model.get("epochs").filter((epoch) => !this.cache.has(this.key_of(epoch)));
    missing.sort((a, b) => Math.abs(a - now) - Math.abs(b - now));
    if (missing.length) this.ask(missing[0]);
  }

  blank(note) {
    this.dismiss();
    this.frame = null;
    this.shown = "";
    this.empty.textContent = note || "No maps to show.";
    this.live.textContent = "";
    this.draw();
  }

  draw() {
    const blank = !this.frame;
    this.empty.hidden = !blank;
    this.scroller.hidden = this.head.hidden = blank;
    if (blank) {
      this.root.dataset.ready = "none";
      return;
    }
    const width = this.scroller.clientWidth - 4;
    if (width < 40) return;
    const { frame } = this;
    // The whole layer should be seen at once, below the controls, without scrolling the page.
    const visible = Math.max(360, Math.min(this.model.get("height"), window.innerHeight - 310));
    this.plan = layOut(frame.n, this.ratio(), width, visible, this.model.get("size"));
    const total = this.plan.height;
    const height = Math.min(total, visible);
    this.scroller.style.height = `${height}px`;
    this.spacer.style.height = `${total}px`;
    this.paint(this.canvas, width, height, this.scroller.scrollTop);
    const words = `${this.model.get("label")}, epoch ${this.model.get("epoch")}`;
    this.title.textContent = `${words} – ${frame.n} ${frame.n === 1 ? "map" : "maps"}`;
    this.canvas.setAttribute("aria-label", `${words}, ${frame.n} maps; arrow keys choose a map`);
    this.say();
    Object.assign(this.root.dataset, { ready: this.shown, maps: frame.n, columns: this.plan.columns, cell: this.plan.cell });
  }

  // Height over width of a map as it is shown: voxels need not be square.
  ratio() {
    return (this.frame.h / this.frame.w) * this.model.get("aspect");
  }

  paint(canvas, width, height, top) {
    const dpr = window.devicePixelRatio || 1;
    const { frame, plan } = this;
    const device = [Math.round(width * dpr), Math.round(height * dpr)];
    if (canvas.width !== device[0] || canvas.height !== device[1]) [canvas.width, canvas.height] = device;
    if (canvas === this.canvas) Object.assign(canvas.style, { width: `${width}px`, height: `${height}px` });
    const context = canvas.getContext("2d");
    context.clearRect(0, 0, ...device);
    const atlas = paintAtlas(frame, this.table, this.model.get("scale"));
    const cell = Math.round(plan.cell * dpr);
    const tall = Math.round(cell * this.ratio());
    // Enlarged pixels stay square and sharp; reduced maps are averaged, or thin structures would flicker.
    context.imageSmoothingEnabled = cell < frame.w;
    context.imageSmoothingQuality = "medium";
    context.textAlign = "center";
    context.textBaseline = "middle";
    const first = Math.floor(top / plan.row) * plan.columns;
    const last = Math.min(frame.n, Math.ceil((top + height) / plan.row) * plan.columns);
    for (let m = first; m < last; m++) {
      const x = Math.round((m % plan.columns) * (plan.cell + plan.gap) * dpr) + Math.round(2 * dpr);
      const y = Math.round((Math.floor(m / plan.columns) * plan.row - top) * dpr) + Math.round(2 * dpr);
      const from = [(m % atlas.across) * frame.w, Math.floor(m / atlas.across) * frame.h];
      context.drawImage(atlas.canvas, ...from, frame.w, frame.h, x, y, cell, tall);
      this.mark(context, m, x, y, cell, tall, dpr);
    }
  }

  // All maps, also those scrolled out of sight, on the page's own background.
  save() {
    const canvas = el("canvas");
    this.paint(canvas, this.scroller.clientWidth - 4, this.plan.height, 0);
    const context = canvas.getContext("2d");
    context.globalCompositeOperation = "destination-over";
    context.fillStyle = cssColour("--sauron-raised", "#fff");
    context.fillRect(0, 0, canvas.width, canvas.height);
    const name = this.title.textContent.toLowerCase().replace(/[^a-z0-9_]+/g, "-");
    canvas.toBlob((blob) => download(`${name}.png`, blob));
  }

  mark(context, m, x, y, cell, tall, dpr) {
    const { frame, plan } = this;
    const selected = frame.filter[m] === this.model.get("filter");
    if (selected || m === this.hovered) {
      context.lineWidth = Math.round((selected ? 3 : 2) * dpr);
      context.strokeStyle = cssColour(selected ? "--sauron-select" : "--sauron-text", "#d55e00");
      const half = context.lineWidth / 2;
      context.strokeRect(x - half, y - half, cell + 2 * half, tall + 2 * half);
    }
    if (!plan.caption) return;
    const size = plan.cell < 40 ? 9.5 : 11;
    context.font = `${selected ? 700 : 400} ${size * dpr}px ${cssColour("--sauron-font", "sans-serif")}`;
    context.fillStyle = cssColour(selected ? "--sauron-text" : "--sauron-soft", "#666");
    const name = m === 0 && plan.cell >= 56 ? `${frame.filter[m]} · ref` : `${frame.filter[m]}`;
    context.fillText(name, x + cell / 2, y + tall + (plan.caption * dpr) / 2 + dpr);
  }

  selectedIndex() {
    return this.frame ? this.frame.filter.indexOf(this.model.get("filter")) : -1;
  }

  say() {
    const filter = this.model.get("filter");
    const m = this.selectedIndex();
    let text = "Click a map, or use the arrow keys, to read its numbers.";
    if (m >= 0) text = describe(this.frame, m).join(" · ");
    else if (filter >= 0) text = `Filter ${filter} is not among the maps of this epoch.`;
    if (this.live.textContent !== text) this.live.textContent = text;
    this.root.dataset.selected = m >= 0 ? filter : "";
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const { cell, gap, row, columns } = this.plan;
    const column = Math.floor((event.clientX - box.left) / (cell + gap));
    const line = Math.floor((event.clientY - box.top + this.scroller.scrollTop) / row);
    const m = line * columns + column;
    return column >= 0 && column < columns && m >= 0 && m < this.frame.n ? m : -1;
  }

  hover(event) {
    if (!this.frame) return;
    const m = this.at(event);
    if (m !== this.hovered) {
      this.hovered = m;
      this.draw();
      this.tip.replaceChildren(...(m < 0 ? [] : describe(this.frame, m).map((text) => el("span", { text }))));
    }
    this.tip.hidden = m < 0;
    const box = this.root.getBoundingClientRect();
    const left = event.clientX - box.left;
    this.tip.style.left = `${Math.max(0, Math.min(left + 14, box.width - this.tip.offsetWidth - 4))}px`;
    this.tip.style.top = `${event.clientY - box.top + 18}px`;
  }

  // The pointer may rest where another map has come to lie: what the tip says holds until the next move only.
  dismiss() {
    this.hovered = -1;
    this.tip.hidden = true;
  }

  leave() {
    this.dismiss();
    this.draw();
  }

  click(event) {
    const m = this.frame ? this.at(event) : -1;
    if (m >= 0) this.select(m);
  }

  select(m) {
    setTrait(this.model, "filter", this.frame.filter[m]);
    this.draw();
  }

  key(event) {
    if (!this.frame) return;
    const { columns } = this.plan;
    const now = this.selectedIndex();
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
    let next = null;
    if (event.key in steps) next = now < 0 ? 0 : now + steps[event.key];
    else if (event.key === "Home") next = 0;
    else if (event.key === "End") next = this.frame.n - 1;
    if (next === null) return;
    event.preventDefault();
    this.dismiss();
    if (next < 0 || next >= this.frame.n) return;
    this.select(next);
    const top = Math.floor(next / columns) * this.plan.row;
    if (top < this.scroller.scrollTop) this.scroller.scrollTop = top;
    const bottom = top + this.plan.row - this.scroller.clientHeight;
    if (bottom > this.scroller.scrollTop) this.scroller.scrollTop = bottom;
  }
}

export default {
  render({ model, el: root }) {
    const grid = new Grid(model, root);
    return () => grid.stop();
  },
};
