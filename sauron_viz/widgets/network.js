// The network as a U: the encoder grows to the left and down, the decoder to the right and up. A bar is as long as its
// layer has filters; what it began with stays behind it as a ghost.

const ROW = 25;
const BAR = 16;
const BAND_GAP = 22;
const TOP = 30;
const SVG = "http://www.w3.org/2000/svg";

function svg(tag, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "text") node.textContent = value;
    else if (value !== null && value !== undefined) node.setAttribute(key, value);
  }
  node.append(...children.filter(Boolean));
  return node;
}

// Where everything lies at a width; all that does not change with the epoch.
function geometry(layers, width, heads) {
  const small = width < 620;
  const label = small ? 88 : 100;
  // There is no room for numbers on a telephone: those of the chosen layer stand below.
  const number = width < 480 ? 4 : small ? 50 : 84;
  const head = heads ? (small ? 18 : 74) : 4;
  const centre = Math.max(small ? 14 : 60, Math.min(150, width * 0.11));
  const bars = Math.max(24, (width - 2 * (label + number) - centre - head) / 2);
  const widest = Math.max(1, ...layers.map((layer) => layer.filters));
  const left = number + bars;
  const right = left + 2 * label + centre;
  const levels = [...new Set(layers.map((layer) => layer.level))].sort((a, b) => a - b);
  const places = new Map();
  const bands = new Map();
  let y = TOP;
  for (const level of levels) {
    const down = layers.filter((layer) => layer.level === level && layer.part === "encoder");
    const up = layers.filter((layer) => layer.level === level && layer.part !== "encoder");
    const rows = Math.max(down.length, up.length);
    down.forEach((layer, i) => places.set(layer.name, { side: -1, x: left, y: y + i * ROW, layer }));
    // The decoder is read upwards, as the image travels.
    up.forEach((layer, i) => places.set(layer.name, { side: 1, x: right, y: y + (rows - 1 - i) * ROW, layer }));
    bands.set(level, { top: y, bottom: y + rows * ROW - (ROW - BAR), down, up });
    y += rows * ROW + BAND_GAP;
  }
  return { small, silent: width < 480, label, left, right, bars, widest, places, bands, levels, width, height: y - BAND_GAP + 6, head };
}

const colourOf = (palette, share) => palette[Math.max(0, Math.min(palette.length - 1, Math.round(share * (palette.length - 1))))];

export default {
  render({ model, el: root }) {
    const id = uniqueId("network");
    const title = el("h2", { id });
    const note = el("p", { class: "sauron-note" });
    const act = (text, what, run) => el("button", { type: "button", text, "aria-label": `Save the network as ${what}`, onclick: run });
    const actions = el(
      "div",
      { class: "sauron-actions" },
      act("PNG", "PNG", () => savePicture()),
      act("SVG", "SVG", () => download(`${name()}.svg`, new Blob([picture()], { type: "image/svg+xml" }))),
      act("CSV", "CSV", () => download(`${name()}.csv`, new Blob([csv()], { type: "text/csv" }))),
    );
    const drawing = svg("svg", { role: "listbox", "aria-labelledby": id, class: "sauron-network-drawing" });
    const tip = el("div", { class: "sauron-tip", hidden: true });
    const told = el("p", { class: "sauron-note", hidden: true });
    const scale = el("div", { class: "sauron-scale" });
    const empty = el("p", { class: "sauron-empty" });
    const top = el("div", { class: "sauron-top" }, el("div", {}, title, note), actions);
    const card = el("section", { class: "sauron-network" }, top, drawing, told, scale, empty, tip);
    root.append(card);
    let width = 0;
    let plan = null;
    let blocks = new Map();

    const at = () => {
      const place = model.get("epochs").indexOf(model.get("epoch"));
      return place < 0 ? Math.max(0, model.get("epochs").length - 1) : place;
    };
    const filtersOf = (layer) => model.get("filters")[layer.name]?.[at()] ?? layer.filters;
    const goneOf = (layer) => (at() > 0 ? model.get("filters")[layer.name]?.[at() - 1] ?? layer.filters : layer.filters) - filtersOf(layer);
    const valueOf = (layer) => model.get("values")[layer.name]?.[at()] ?? null;
    const name = () => `${model.get("source")} network epoch ${model.get("epoch")}`.trim().toLowerCase().replace(/[^a-z0-9]+/g, "-");

    function shown(value) {
      if (value === null) return "not measured";
      return model.get("percent") ? `${Math.round(value)} %` : number(value);
    }

    function colours() {
      return {
        text: cssColour("--sauron-text", "#16191d"),
        soft: cssColour("--sauron-soft", "#4d545c"),
        line: cssColour("--sauron-line", "#d9dde1"),
        accent: cssColour("--sauron-accent", "#1565c0"),
        gone: isDark() ? "#ff9a5c" : "#b34700",
        page: cssColour("--sauron-raised", "#ffffff"),
        head: isDark() ? "#4cb56f" : "#2a8a4a",
      };
    }

    function arrow(path, ink, extra = {}) {
      return svg("path", { d: path, fill: "none", stroke: ink, "stroke-width": 1.5, "marker-end": `url(#${id}-tip)`, ...extra });
    }

    function wires(ink) {
      const { places, bands, left, right, label, levels, small } = plan;
      const nodes = [];
      const middle = (place) => place.y + BAR / 2;
      levels.forEach((level, i) => {
        const { down, up, top: from } = bands.get(level);
        const below = bands.get(levels[i + 1]);
        const last = down[down.length - 1] && places.get(down[down.length - 1].name);
        if (last && below?.down.length) {
          nodes.push(arrow(`M${left - 5} ${last.y + BAR + 2}V${places.get(below.down[0].name).y - 4}`, ink.soft));
        }
        if (up.length && below) {
          const source = below.up.length ? places.get(below.up[below.up.length - 1].name) : null;
          const target = places.get(up[0].name);
          if (source) nodes.push(arrow(`M${right + 5} ${source.y - 2}V${target.y + BAR + 4}`, ink.soft));
          else if (below.down.length) {
            const bottom = places.get(below.down[below.down.length - 1].name);
            nodes.push(arrow(`M${left + label} ${middle(bottom)}H${right - 5}Q${right + 5} ${middle(bottom)} ${right + 5} ${middle(bottom) - 10}V${target.y + BAR + 4}`, ink.soft));
          }
        }
        // What the encoder saw is laid beside what comes from below, before the first convolution of the decoder.
        const meets = up.find((layer) => layer.kind !== "trans");
        if (last && meets) {
          nodes.push(arrow(`M${left + label} ${middle(last)}H${right - label - 3}`, ink.soft, { "stroke-dasharray": "5 4" }));
        }
        const size = model.get("sizes")[level - 1];
        if (size && !small) {
          nodes.push(svg("text", { x: (left + right) / 2, y: from + 8, "text-anchor": "middle", "font-size": 12, fill: ink.soft, text: size }));
        }
      });
      return svg("g", { "aria-hidden": "true" }, ...nodes);
    }

    function headings(ink) {
      const { left, right, small } = plan;
      const put = (x, anchor, text) => svg("text", { x, y: 12, "text-anchor": anchor, "font-size": 12, "font-weight": 600, fill: ink.soft, text });
      return svg("g", { "aria-hidden": "true" }, put(left, "end", small ? "encoder" : "image → encoder ↓"), put(right, "start", small ? "decoder" : "↑ decoder → segmentation"));
    }

    function heads(ink) {
      const { places, width: all, head, small } = plan;
      const nodes = [];
      for (const [headName, layer] of model.get("heads")) {
        const place = places.get(layer);
        if (!place) continue;
        const y = place.y + BAR / 2;
        const box = svg("rect", { x: all - head + 6, y: place.y, width: 12, height: BAR, rx: 3, fill: ink.head });
        const start = svg("line", { x1: 0, x2: all - head + 4, y1: y, y2: y, stroke: ink.head, "stroke-width": 1.2, "stroke-dasharray": "1 3", "data-lead": layer });
        const words = small ? null : svg("text", { x: all - head + 23, y: place.y + BAR - 4, "font-size": 12, fill: ink.soft, text: headName });
        nodes.push(start, box, words);
      }
      return svg("g", { "aria-hidden": "true" }, ...nodes);
    }

    // The ends of the scale that vanish on the page are left out.
    function shades() {
      const palette = model.get("palette");
      return isDark() ? palette.slice(Math.round(0.27 * palette.length)) : palette.slice(0, Math.round(0.92 * palette.length));
    }

    function block(place, ink) {
      const { layer, side, x, y } = place;
      const length = (plan.bars * layer.filters) / plan.widest;
      const ghost = svg("rect", { x: side < 0 ? x - length : x, y, width: length, height: BAR, rx: 2, fill: ink.text, "fill-opacity": 0.08, stroke: ink.soft, "stroke-width": 1, "stroke-opacity": 0.55 });
      const bar = svg("rect", { y, height: BAR, rx: 2, class: "sauron-network-bar" });
      const label = svg("text", { x: x - side * 7, y: y + BAR - 3, "text-anchor": side < 0 ? "start" : "end", "font-size": plan.small ? 11.5 : 12.5, fill: ink.text, text: layer.name });
      const count = svg("text", { x: x + side * (length + 6), y: y + BAR - 3, "text-anchor": side < 0 ? "end" : "start", "font-size": 12, fill: ink.text });
      const area = svg("rect", { x: side < 0 ? 0 : x - plan.label, y: y - 3, width: side < 0 ? x + plan.label : plan.width - x + plan.label - plan.head, height: ROW - 2, rx: 4, fill: "transparent", class: "sauron-network-area" });
      const group = svg("g", { role: "option", "data-layer": layer.name, class: "sauron-network-block" }, area, ghost, bar, label, count);
      return { group, bar, label, count, area, length, ...place };
    }

    function layout() {
      const layers = model.get("layers");
      empty.hidden = layers.length > 0;
      empty.textContent = model.get("empty");
      for (const part of [drawing, scale, actions]) part.toggleAttribute("hidden", !layers.length);
      if (!layers.length || !width) return;
      const ink = colours();
      plan = geometry(layers, width, model.get("heads").length > 0);
      blocks = new Map([...plan.places].map(([key, place]) => [key, block(place, ink)]));
      const tipMark = svg("marker", { id: `${id}-tip`, viewBox: "0 0 8 8", refX: 5, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" }, svg("path", { d: "M0 0L8 4L0 8z", fill: ink.soft }));
      drawing.setAttribute("viewBox", `0 0 ${plan.width} ${plan.height}`);
      drawing.setAttribute("width", plan.width);
      drawing.setAttribute("height", plan.height);
      drawing.setAttribute("font-family", cssColour("--sauron-font", "sans-serif"));
      const order = layers.map((layer) => blocks.get(layer.name).group);
      drawing.replaceChildren(svg("defs", { "aria-hidden": "true" }, tipMark), headings(ink), wires(ink), heads(ink), ...order);
      step();
    }

    function paint(part, ink, palette, low, high) {
      const { layer, side, x, bar, count, label, group, length } = part;
      const left = filtersOf(layer);
      const gone = goneOf(layer);
      const value = valueOf(layer);
      const now = Math.max(2, (length * left) / layer.filters);
      const chosen = layer.name === model.get("layer");
      bar.setAttribute("width", now);
      bar.setAttribute("x", side < 0 ? x - now : x);
      bar.setAttribute("fill", value === null ? ink.soft : colourOf(palette, high > low ? (value - low) / (high - low) : 1));
      bar.setAttribute("fill-opacity", value === null ? 0.35 : 1);
      const lost = svg("tspan", { fill: ink.gone, "font-weight": 700, text: gone > 0 ? ` −${gone}` : "" });
      const words = plan.silent ? "" : `${left}${left < layer.filters ? `/${layer.filters}` : ""}`;
      const parts = side < 0 ? [lost, gone > 0 ? " " : "", words] : [words, lost];
      count.replaceChildren(...(plan.small ? [words] : parts));
      label.setAttribute("font-weight", chosen ? 700 : 400);
      group.setAttribute("aria-selected", chosen);
      group.setAttribute("tabindex", chosen ? 0 : -1);
      group.setAttribute("aria-label", `${layer.name}, ${left} of ${layer.filters} filters, ${model.get("measure")} ${shown(value)}`);
    }

    function tell() {
      const part = blocks.get(model.get("layer"));
      told.hidden = !plan.silent || !part;
      if (part) told.textContent = facts(part.layer).join(" · ");
    }

    function facts(layer) {
      const gone = goneOf(layer);
      const left = `${filtersOf(layer)} of ${layer.filters} filters left`;
      return [layer.name, left, `${model.get("measure")}: ${shown(valueOf(layer))}`, ...(gone > 0 ? [`${gone} removed in this epoch`] : [])];
    }

    function step() {
      if (!plan) return;
      const ink = colours();
      const [low, high] = model.get("span");
      const palette = shades();
      for (const part of blocks.values()) paint(part, ink, palette, low, high);
      if (![...blocks.values()].some(({ group }) => group.tabIndex === 0)) blocks.values().next().value?.group.setAttribute("tabindex", 0);
      for (const lead of drawing.querySelectorAll("[data-lead]")) {
        const { count } = blocks.get(lead.dataset.lead);
        const box = count.getBBox();
        const { x, length } = blocks.get(lead.dataset.lead);
        lead.setAttribute("x1", plan.silent ? x + length + 5 : box.x + box.width + 5);
      }
      drawing.style.setProperty("--ring", ink.accent);
      tell();
      card.dataset.epoch = model.get("epoch");
      card.dataset.ready = "yes";
    }

    function words() {
      title.textContent = model.get("title");
      note.textContent = model.get("note");
      const [low, high] = model.get("span");
      const strip = el("i", { "aria-hidden": "true" });
      strip.style.setProperty("--scale", `linear-gradient(90deg, ${shades().join(", ")})`);
      scale.replaceChildren(el("span", { text: `${model.get("measure")}:` }), el("span", { text: shown(low) }), strip, el("span", { text: shown(high) }));
    }

    function choose(layer, focus) {
      setTrait(model, "layer", layer);
      step();
      if (focus) blocks.get(layer)?.group.focus();
    }

    function key(event) {
      const names = model.get("layers").map((layer) => layer.name);
      const here = names.indexOf(model.get("layer"));
      const steps = { ArrowDown: here + 1, ArrowRight: here + 1, ArrowUp: here - 1, ArrowLeft: here - 1, Home: 0, End: names.length - 1 };
      if (!(event.key in steps)) return;
      event.preventDefault();
      choose(names[Math.max(0, Math.min(names.length - 1, steps[event.key]))], true);
    }

    function hover(event) {
      const group = event.target.closest?.("[data-layer]");
      const part = group && blocks.get(group.dataset.layer);
      tip.hidden = !part;
      if (!part) return;
      tip.replaceChildren(...facts(part.layer).map((text) => el("span", { text })));
      const frame = card.getBoundingClientRect();
      const left = Math.min(event.clientX - frame.left + 14, frame.width - tip.offsetWidth - 4);
      tip.style.left = `${Math.max(4, left)}px`;
      tip.style.top = `${event.clientY - frame.top + 16}px`;
    }

    function picture() {
      const copy = drawing.cloneNode(true);
      const ink = colours();
      copy.setAttribute("xmlns", SVG);
      for (const node of [copy, ...copy.querySelectorAll("*")]) {
        for (const extra of ["role", "tabindex", "class", "style", "aria-selected", "aria-label", "aria-labelledby", "aria-hidden"]) node.removeAttribute(extra);
      }
      for (const area of copy.querySelectorAll("rect[fill=transparent]")) area.remove();
      copy.prepend(svg("title", { text: `${model.get("source")}, epoch ${model.get("epoch")}` }), svg("rect", { width: "100%", height: "100%", fill: ink.page }));
      return new XMLSerializer().serializeToString(copy);
    }

    async function savePicture() {
      const image = new Image();
      image.src = `data:image/svg+xml;charset=utf-8,${encodeURIComponent(picture())}`;
      await image.decode();
      const canvas = el("canvas", { width: 2 * plan.width, height: 2 * plan.height });
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob((blob) => download(`${name()}.png`, blob));
    }

    function csv() {
      const lines = [`layer,level,filters_at_start,filters,"${model.get("measure").replaceAll('"', '""')}"`];
      for (const layer of model.get("layers")) lines.push([layer.name, layer.level, layer.filters, filtersOf(layer), valueOf(layer) ?? ""].join(","));
      return `${lines.join("\n")}\n`;
    }

    drawing.addEventListener("click", (event) => {
      const group = event.target.closest("[data-layer]");
      if (group) choose(group.dataset.layer, false);
    });
    drawing.addEventListener("keydown", key);
    drawing.addEventListener("pointermove", hover);
    drawing.addEventListener("pointerleave", () => (tip.hidden = true));
    const observer = new ResizeObserver(() => {
      const now = Math.floor(card.clientWidth);
      if (Math.abs(now - width) < 2) return;
      width = now;
      layout();
    });
    observer.observe(card);
    const stops = [
      listen(model, ["layers", "heads", "sizes", "empty"], atOnce(layout)),
      listen(model, ["epoch", "epochs", "filters", "values", "layer", "span", "palette"], atOnce(step)),
      listen(model, ["title", "note", "measure", "span", "palette", "percent"], atOnce(words)),
      onTheme(() => (words(), layout())),
    ];
    words();
    layout();
    return () => {
      observer.disconnect();
      stops.forEach((stop) => stop());
    };
  },
};
