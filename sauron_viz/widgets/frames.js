// Frames of maps (one per epoch) as they come from the kernel, kept in the browser, and painted in their colours.

const CACHE_BYTES = 96e6;
// As `MapStats` in frames.py has them, then the cluster; after these come the orders, by the names in the message.
const STATS = [
  "filter", "low", "high", "variance", "toReference", "nearest", "nearestDistance", "deltaPrune", "gone", "threshold",
  "seen", "cluster",
];

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
  peek(key) {
    return this.frames.get(key);
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
  const numbers = new Float32Array(bytes(buffers[1]).slice().buffer);
  const column = (i) => numbers.subarray(i * n, (i + 1) * n);
  const stats = Object.fromEntries(STATS.map((name, i) => [name, column(i)]));
  const orders = Object.fromEntries(content.orders.map((name, i) => [name, column(STATS.length + i)]));
  const alive = Array.from(stats.gone).map((epoch) => epoch === 0);
  const left = alive.filter(Boolean).length;
  return { n, h, w, pixels, ...stats, orders, alive, left, reference: alive.indexOf(true), size: pixels.length + numbers.byteLength, atlas: null };
}

// Rows in the order in which they are shown.
function rowsShown(frame, order, withRemoved) {
  const rows = Array.from(frame.orders[order] ?? frame.orders.number);
  return withRemoved ? rows : rows.filter((row) => frame.alive[row]);
}

// Per map, which of the 256 colours each stored byte gets when all maps share one scale.
function commonScale(frame) {
  let low = Infinity;
  let high = -Infinity;
  for (let m = 0; m < frame.n; m++) {
    if (!frame.alive[m] || !Number.isFinite(frame.low[m])) continue;
    low = Math.min(low, frame.low[m]);
    high = Math.max(high, frame.high[m]);
  }
  const span = high - low || 1;
  return (m, q) => {
    const share = (frame.low[m] + (q / 255) * (frame.high[m] - frame.low[m]) - low) / span;
    return Math.round(255 * Math.min(1, Math.max(0, share || 0)));
  };
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

// What is known of a map, in words.
function describe(frame, m) {
  const went = frame.gone[m];
  if (went) return describeRemoved(frame, m, went);
  const parts = [`Filter ${frame.filter[m]}${m === frame.reference ? " (the reference)" : ""}`];
  if (!Number.isFinite(frame.low[m])) return [...parts, "not all of its values are numbers"];
  parts.push(`values ${number(frame.low[m])} to ${number(frame.high[m])}`);
  if (m !== frame.reference) parts.push(`δ to the reference ${number(frame.toReference[m])}`);
  if (frame.nearest[m] >= 0) parts.push(`nearest filter ${frame.nearest[m]} at ${number(frame.nearestDistance[m])}`);
  if (Number.isFinite(frame.deltaPrune[m])) parts.push(`δ_prune ${number(frame.deltaPrune[m])}`);
  return parts;
}

function describeRemoved(frame, m, went) {
  const parts = [`Filter ${frame.filter[m]}`];
  if (went < 0) return [...parts, "removed before this run began"];
  parts.push(`removed at epoch ${went}: δ_prune ${number(frame.deltaPrune[m])} below τ ${number(frame.threshold[m])}`);
  if (frame.nearest[m] >= 0) parts.push(`nearest survivor ${frame.nearest[m]} at ${number(frame.nearestDistance[m])}`);
  parts.push(frame.seen[m] ? `picture of epoch ${frame.seen[m]}` : "it went before maps were stored");
  return parts;
}
