// All maps of a layer on one canvas. Frames (one per epoch) are kept in the browser, so that moving through epochs that
// were seen, or fetched ahead, asks the kernel for nothing.

const WIDE_LAYER = 150;
const CAPTION = 15;
const LARGEST_CELL = 208;
const SMALLEST_CELL = 22;
const ASK_AGAIN = 4000;
const PREPARED = 5;

const whenIdle = globalThis.requestIdleCallback ?? ((run) => setTimeout(run, 50));
const cancelIdle = globalThis.cancelIdleCallback ?? clearTimeout;

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

class Grid {
  constructor(model, root) {
    this.model = model;
    this.cache = new FrameCache();
    this.asked = new Map();
    // Epochs of which there is nothing but a sentence; they are asked for when they are looked at, and not ahead.
    this.noted = new Set();
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
    this.title = el("h2", {});
    const take = (text, what, run) => el("button", { type: "button", text, "aria-label": `Save ${what} as ${text}`, onclick: () => run(this) });
    const actions = [take("PNG", "all maps", takePng), take("SVG", "all maps", takeSvg), take("CSV", "the numbers of all maps", takeCsv)];
    this.head = el("div", { class: "sauron-top" }, this.title, el("div", { class: "sauron-actions" }, ...actions));
    this.root = el("div", { class: "sauron-grid" }, this.head, this.scroller, this.empty, this.tip, this.live);
    root.append(this.root);
    this.stops = [
      listen(model, ["base", "epoch", "note", "order"], () => {
        this.dismiss();
        this.show();
      }),
      listen(model, ["filter", "scale", "size", "label", "removed", "marked", "going", "tau"], () => this.draw()),
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
    cancelIdle(this.idle);
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
    if (!this.fits(frame)) this.ask(this.model.get("epoch"));
    if (!frame) return;
    if (frame !== this.frame) this.dismiss();
    this.frame = frame;
    this.shown = key;
    this.draw();
    this.fetchAhead();
    this.prepareSoon();
  }

  prepareSoon() {
    cancelIdle(this.idle);
    this.idle = whenIdle(() => this.prepare());
  }

  // Gives the neighbours their colours while nothing else happens, so that a step has only to draw them. No others keep
  // theirs: they take four times the room of the maps.
  prepare() {
    const now = this.model.get("epoch");
    const near = [...this.model.get("epochs")].sort((a, b) => Math.abs(a - now) - Math.abs(b - now)).slice(0, PREPARED);
    const keep = new Set(near.map((epoch) => this.cache.peek(this.key_of(epoch))));
    for (const frame of this.cache.frames.values()) if (!keep.has(frame) && frame !== this.frame) frame.atlas = null;
    const scale = this.model.get("scale");
    const next = [...keep].find((frame) => frame && !(frame.atlas?.scale === scale && frame.atlas.table === this.table));
    if (!next) return;
    paintAtlas(next, this.table, scale);
    this.prepareSoon();
  }

  // Clusters take the kernel longer than all else, so a frame has them only if they were wanted.
  fits(frame) {
    return frame && (this.model.get("order") !== "clusters" || "clusters" in frame.orders);
  }

  ask(epoch) {
    const key = this.key_of(epoch);
    const now = performance.now();
    if (now - (this.asked.get(key) ?? -Infinity) < ASK_AGAIN) return;
    this.asked.set(key, now);
    this.model.send({ want: epoch, base: this.model.get("base"), clusters: this.model.get("order") === "clusters" });
  }

  receive(content, buffers) {
    const key = `${content.base}|${content.epoch}`;
    this.asked.delete(key);
    const current = key === this.key_of(this.model.get("epoch"));
    if (content.note !== undefined) {
      this.noted.add(key);
      if (current) this.blank(content.note);
      else this.fetchAhead();
      return;
    }
    this.noted.delete(key);
    this.cache.put(key, readFrame(content, buffers));
    if (current) this.show();
    else {
      this.fetchAhead();
      this.prepareSoon();
    }
  }

  // One at a time, nearest epoch first, and only when nothing else is asked for: the reader's own wishes come first.
  fetchAhead() {
    const size = this.frame?.size ?? 0;
    for (const [key, since] of this.asked) if (performance.now() - since > ASK_AGAIN) this.asked.delete(key);
    if (this.asked.size || this.cache.bytes + 2 * size > CACHE_BYTES) return;
    const now = this.model.get("epoch");
    const lacks = (key) => !this.noted.has(key) && !this.fits(this.cache.peek(key));
    const missing = this.model.get("epochs").filter((epoch) => lacks(this.key_of(epoch)));
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
    this.rows = rowsShown(frame, this.model.get("order"), this.model.get("removed") !== "hidden");
    // The whole layer should be seen at once, below the controls, without scrolling the page.
    const visible = Math.max(360, Math.min(this.model.get("height"), window.innerHeight - 310));
    this.plan = layOut(this.rows.length, this.ratio(), width - 4, visible, this.model.get("size"));
    const total = this.plan.height;
    const height = Math.min(total, visible);
    this.scroller.style.height = `${height}px`;
    this.spacer.style.height = `${total}px`;
    this.paint(this.canvas, width, height, this.scroller.scrollTop);
    const words = `${this.model.get("label")}, epoch ${this.model.get("epoch")}`;
    const count = frame.left < frame.n ? `${frame.left} of ${frame.n} maps` : `${frame.n} ${frame.n === 1 ? "map" : "maps"}`;
    this.title.textContent = `${words} – ${count}`;
    this.canvas.setAttribute("aria-label", `${words}, ${count}; arrow keys choose a map`);
    this.say();
    Object.assign(this.root.dataset, { ready: this.shown, maps: frame.left, cells: this.rows.length, columns: this.plan.columns, cell: this.plan.cell });
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
    const last = Math.min(this.rows.length, Math.ceil((top + height) / plan.row) * plan.columns);
    const marks = this.marks();
    for (let place = first; place < last; place++) {
      const m = this.rows[place];
      const x = Math.round((place % plan.columns) * (plan.cell + plan.gap) * dpr) + Math.round(2 * dpr);
      const y = Math.round((Math.floor(place / plan.columns) * plan.row - top) * dpr) + Math.round(2 * dpr);
      if (marks.clusters) this.band(context, place, x, y, cell, dpr);
      const from = [(m % atlas.across) * frame.w, Math.floor(m / atlas.across) * frame.h];
      const going = marks.going(m);
      context.globalAlpha = going ? 0.22 : frame.alive[m] ? 1 : 0.35;
      if (frame.seen[m]) context.drawImage(atlas.canvas, ...from, frame.w, frame.h, x, y, cell, tall);
      context.globalAlpha = 1;
      if (!frame.alive[m]) this.cross(context, x, y, cell, tall, dpr, "--sauron-soft", frame.seen[m] === 0);
      else if (going) this.strike(context, x, y, cell, tall, dpr);
      this.mark(context, m, place, x, y, cell, tall, dpr, marks.marked.has(frame.filter[m]));
    }
  }

  // What is drawn over the maps for all of them alike.
  marks() {
    const { frame } = this;
    const going = bytes(this.model.get("going"));
    const start = this.model.get("tau") * frame.left;
    const known = this.model.get("tau") >= 0 && going.length >= start + frame.left && this.model.get("goingOf") === this.shown;
    const place = new Map();
    frame.alive.forEach((alive, m) => alive && place.set(m, place.size));
    return {
      clusters: this.model.get("order") === "clusters",
      going: (m) => known && frame.alive[m] && going[start + place.get(m)] === 1,
      marked: new Set(this.model.get("marked")),
    };
  }

  // A band behind maps of one cluster, in two shades by turns; maps that stand alone have none.
  band(context, place, x, y, cell, dpr) {
    const { frame, plan, rows } = this;
    const own = this.cluster(place);
    const before = place % plan.columns > 0 && this.cluster(place - 1) === own;
    const after = (place + 1) % plan.columns > 0 && place + 1 < rows.length && this.cluster(place + 1) === own;
    const joined = this.cluster(place - 1) === own || this.cluster(place + 1) === own;
    if (!joined || own < 0) return;
    const pad = Math.max(1, Math.round((plan.gap * dpr) / 2));
    const left = before ? x - Math.round(plan.gap * dpr) : x - pad;
    const right = after ? x + cell : x + cell + pad;
    context.fillStyle = cssColour(own % 2 ? "--sauron-band" : "--sauron-band-other", "#d0d4da");
    context.fillRect(left, y - pad, right - left, Math.round(plan.row * dpr) - Math.max(1, Math.round(dpr)));
  }

  // The cluster at a place; what went belongs to the survivor that it stands beside.
  cluster(place) {
    const { frame, rows } = this;
    for (let at = place; at >= 0 && at < rows.length; at--) if (frame.cluster[rows[at]] >= 0) return frame.cluster[rows[at]];
    return -1;
  }

  cross(context, x, y, cell, tall, dpr, colour, empty) {
    context.save();
    context.strokeStyle = cssColour(colour, "#888");
    context.lineWidth = Math.max(1, Math.round(dpr));
    context.beginPath();
    context.moveTo(x, y);
    context.lineTo(x + cell, y + tall);
    context.moveTo(x + cell, y);
    context.lineTo(x, y + tall);
    context.stroke();
    if (empty) context.setLineDash([3 * dpr, 3 * dpr]);
    context.strokeRect(x + 0.5, y + 0.5, cell - 1, tall - 1);
    context.restore();
  }

  strike(context, x, y, cell, tall, dpr) {
    context.strokeStyle = cssColour("--sauron-select", "#d55e00");
    context.lineWidth = Math.max(1, Math.round(1.5 * dpr));
    context.beginPath();
    context.moveTo(x, y + tall);
    context.lineTo(x + cell, y);
    context.stroke();
  }

  mark(context, m, place, x, y, cell, tall, dpr, marked) {
    const { frame, plan } = this;
    const selected = frame.filter[m] === this.model.get("filter");
    if (selected || marked || place === this.hovered) {
      context.lineWidth = Math.round((selected ? 3 : 2) * dpr);
      const colour = selected ? "--sauron-select" : marked ? "--sauron-accent" : "--sauron-text";
      context.strokeStyle = cssColour(colour, "#d55e00");
      const half = context.lineWidth / 2;
      context.strokeRect(x - half, y - half, cell + 2 * half, tall + 2 * half);
    }
    if (!plan.caption) return;
    const size = plan.cell < 40 ? 9.5 : 11;
    context.font = `${selected ? 700 : 400} ${size * dpr}px ${cssColour("--sauron-font", "sans-serif")}`;
    context.fillStyle = cssColour(selected ? "--sauron-text" : "--sauron-soft", "#666");
    const name = m === frame.reference && plan.cell >= 56 ? `${frame.filter[m]} · ref` : `${frame.filter[m]}`;
    context.fillText(name, x + cell / 2, y + tall + (plan.caption * dpr) / 2 + dpr);
  }

  // Where the chosen map is shown, -1 if it is not.
  selectedPlace() {
    const m = this.frame ? this.frame.filter.indexOf(this.model.get("filter")) : -1;
    return m < 0 ? -1 : this.rows.indexOf(m);
  }

  say() {
    const filter = this.model.get("filter");
    const place = this.selectedPlace();
    let text = "Click a map, or use the arrow keys, to read its numbers.";
    if (place >= 0) text = describe(this.frame, this.rows[place]).join(" · ");
    else if (filter >= 0) text = `Filter ${filter} is not among the maps that are shown.`;
    if (this.live.textContent !== text) this.live.textContent = text;
    this.root.dataset.selected = place >= 0 ? filter : "";
  }

  at(event) {
    const box = this.canvas.getBoundingClientRect();
    const { cell, gap, row, columns } = this.plan;
    const column = Math.floor((event.clientX - box.left) / (cell + gap));
    const line = Math.floor((event.clientY - box.top + this.scroller.scrollTop) / row);
    const place = line * columns + column;
    return column >= 0 && column < columns && place >= 0 && place < this.rows.length ? place : -1;
  }

  hover(event) {
    if (!this.frame) return;
    const place = this.at(event);
    if (place !== this.hovered) {
      this.hovered = place;
      this.draw();
      this.tip.replaceChildren(...(place < 0 ? [] : describe(this.frame, this.rows[place]).map((text) => el("span", { text }))));
    }
    this.tip.hidden = place < 0;
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
    const place = this.frame ? this.at(event) : -1;
    if (place >= 0) this.select(place);
  }

  select(place) {
    setTrait(this.model, "filter", this.frame.filter[this.rows[place]]);
    this.draw();
  }

  key(event) {
    if (!this.frame) return;
    const { columns } = this.plan;
    const now = this.selectedPlace();
    const steps = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -columns, ArrowDown: columns };
    let next = null;
    if (event.key in steps) next = now < 0 ? 0 : now + steps[event.key];
    else if (event.key === "Home") next = 0;
    else if (event.key === "End") next = this.rows.length - 1;
    if (next === null) return;
    event.preventDefault();
    this.dismiss();
    if (next < 0 || next >= this.rows.length) return;
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
