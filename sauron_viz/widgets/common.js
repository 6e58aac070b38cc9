// Helpers that every widget of Sauron shares; put in front of each widget's own file when it is loaded.

function el(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "text") node.textContent = value;
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value != null) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

// Listens to traits and returns one function that stops listening to all of them.
function listen(model, names, callback) {
  const events = names.map((name) => (name.startsWith("msg:") ? name : `change:${name}`));
  events.forEach((event) => model.on(event, callback));
  return () => events.forEach((event) => model.off(event, callback));
}

// Runs once for all that one message changes.
function atOnce(run) {
  let waiting = false;
  return () => {
    if (waiting) return;
    waiting = true;
    queueMicrotask(() => {
      waiting = false;
      run();
    });
  };
}

// Shows whether a table that scrolls goes on to the right. Returns what ends it.
function fading(scroller) {
  const look = () => scroller.classList.toggle("more", scroller.scrollLeft + scroller.clientWidth < scroller.scrollWidth - 2);
  const watcher = new ResizeObserver(look);
  watcher.observe(scroller);
  watcher.observe(scroller.firstElementChild);
  scroller.addEventListener("scroll", look, { passive: true });
  return () => watcher.disconnect();
}

function setTrait(model, name, value) {
  model.set(name, value);
  model.save_changes();
}

function uniqueId(prefix) {
  globalThis.__sauronIds = (globalThis.__sauronIds ?? 0) + 1;
  return `sauron-${prefix}-${globalThis.__sauronIds}`;
}

function cssColour(name, fallback) {
  return getComputedStyle(document.body).getPropertyValue(name).trim() || fallback;
}

// Dark or light is read from the page's own background, so Jupyter's themes and the system's choice both count.
function isDark() {
  const context = document.createElement("canvas").getContext("2d");
  context.fillStyle = cssColour("--jp-layout-color0", "#fff");
  const [, r, g, b] = /#(..)(..)(..)/.exec(context.fillStyle) ?? [0, "ff", "ff", "ff"];
  return 0.3 * parseInt(r, 16) + 0.6 * parseInt(g, 16) + 0.1 * parseInt(b, 16) < 128;
}

function onTheme(callback) {
  const media = matchMedia("(prefers-color-scheme: dark)");
  const observer = new MutationObserver(callback);
  media.addEventListener("change", callback);
  observer.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light", "data-jp-theme-name"] });
  return () => {
    media.removeEventListener("change", callback);
    observer.disconnect();
  };
}

function bytes(view) {
  return view && view.byteLength ? new Uint8Array(view.buffer, view.byteOffset, view.byteLength) : new Uint8Array(0);
}

// 256 colours (RGB bytes) as the 32-bit words a canvas wants.
function lookupTable(palette) {
  const rgb = bytes(palette);
  const table = new Uint32Array(256);
  for (let i = 0; i < 256; i++) {
    const [r, g, b] = rgb.length ? [rgb[3 * i], rgb[3 * i + 1], rgb[3 * i + 2]] : [i, i, i];
    table[i] = (255 << 24) | (b << 16) | (g << 8) | r;
  }
  return table;
}

function number(value) {
  if (!Number.isFinite(value)) return "not measured";
  const size = Math.abs(value);
  if (size !== 0 && (size < 0.001 || size >= 10000)) return value.toExponential(1).replace("-", "−");
  return value.toFixed(size < 10 ? 3 : 1).replace("-", "−");
}

function download(name, blob) {
  const link = el("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}
