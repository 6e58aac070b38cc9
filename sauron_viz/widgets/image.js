// One image with its name; outlines of a label (solid) and of a prediction (dashed) can lie over it.

// Closed polygons around all pixels of a value. Whole polygons, because dashes start anew with every separate stroke.
function polygons(mask, value, h, w) {
  const inside = (y, x) => y >= 0 && y < h && x >= 0 && x < w && mask[y * w + x] === value;
  const next = new Map();
  const edge = (x0, y0, x1, y1) => {
    const start = y0 * (w + 1) + x0;
    next.set(start, [...(next.get(start) ?? []), y1 * (w + 1) + x1]);
  };
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < w; x++) {
      if (!inside(y, x)) continue;
      // Clockwise around the pixel, only where its neighbour lies outside.
      if (!inside(y - 1, x)) edge(x, y, x + 1, y);
      if (!inside(y, x + 1)) edge(x + 1, y, x + 1, y + 1);
      if (!inside(y + 1, x)) edge(x + 1, y + 1, x, y + 1);
      if (!inside(y, x - 1)) edge(x, y + 1, x, y);
    }
  }
  const found = [];
  while (next.size) {
    const polygon = [];
    for (let at = next.keys().next().value; next.has(at); ) {
      const ends = next.get(at);
      polygon.push([at % (w + 1), Math.floor(at / (w + 1))]);
      const to = ends.pop();
      if (!ends.length) next.delete(at);
      at = to;
    }
    found.push(polygon);
  }
  return found;
}

function outline(context, mask, value, h, w, sx, sy) {
  context.beginPath();
  for (const polygon of polygons(mask, value, h, w)) {
    polygon.forEach(([x, y], i) => (i ? context.lineTo(x * sx, y * sy) : context.moveTo(x * sx, y * sy)));
    context.closePath();
  }
  context.stroke();
}

export default {
  render({ model, el: root }) {
    const canvas = el("canvas", { class: "sauron-image-canvas", role: "img" });
    const caption = el("figcaption", {});
    const id = uniqueId("outlines");
    const drawn = el("input", { type: "checkbox", id, checked: true, onchange: () => draw() });
    const toggle = el("div", { class: "sauron-check", hidden: true }, drawn, el("label", { for: id, text: "Outlines" }));
    const slider = el("input", { type: "range", min: 0, max: 100, id: uniqueId("opacity"), oninput: () => mix() });
    const share = el("output", { for: slider.id });
    const mixer = el("div", { class: "sauron-mixer", hidden: true }, el("label", { for: slider.id, text: "Map over input" }), slider, share);
    const bar = el("canvas", { class: "sauron-bar", width: 256, height: 1, "aria-hidden": "true" });
    const [low, high] = [el("span", {}), el("span", {})];
    const scale = el("div", { class: "sauron-scale", hidden: true }, low, bar, high);
    const figure = el("figure", { class: "sauron-image" }, el("div", { class: "sauron-top" }, caption, toggle), canvas, scale, mixer);
    root.append(figure);

    function mix() {
      setTrait(model, "opacity", Number(slider.value));
      draw();
    }

    // The colours of what lies over the image, with the values at their ends.
    function drawScale(shown) {
      scale.hidden = !shown || !model.get("high");
      if (scale.hidden) return;
      [low.textContent, high.textContent] = [model.get("low"), model.get("high")];
      const context = bar.getContext("2d");
      const image = context.createImageData(256, 1);
      new Uint32Array(image.data.buffer).set(lookupTable(model.get("over_palette")));
      context.putImageData(image, 0, 0);
    }

    function picture(source, h, w, table) {
      const offscreen = new OffscreenCanvas(w, h);
      const context = offscreen.getContext("2d");
      const image = context.createImageData(w, h);
      const words = new Uint32Array(image.data.buffer);
      for (let i = 0; i < words.length; i++) words[i] = table[source[i]];
      context.putImageData(image, 0, 0);
      return offscreen;
    }

    function draw() {
      const [h, w] = [model.get("height"), model.get("width")];
      caption.textContent = model.get("caption");
      canvas.setAttribute("aria-label", model.get("alt") || model.get("caption"));
      const empty = !h || !w || model.get("pixels").byteLength !== h * w;
      figure.classList.toggle("sauron-image-none", empty);
      toggle.hidden = empty || !model.get("label").byteLength;
      if (empty) return;
      const side = figure.clientWidth;
      if (side < 20) return;
      const dpr = window.devicePixelRatio || 1;
      // Tall slices are made narrower, so that no image is higher than it may be wide.
      const shown = Math.min(1, (1.3 * w) / (h * model.get("aspect")));
      canvas.width = Math.round(side * dpr * shown);
      canvas.height = Math.round((canvas.width * h * model.get("aspect")) / w);
      canvas.style.width = `${canvas.width / dpr}px`;
      canvas.style.height = `${canvas.height / dpr}px`;
      const context = canvas.getContext("2d");
      context.imageSmoothingEnabled = canvas.width < w;
      const base = picture(bytes(model.get("pixels")), h, w, lookupTable(model.get("palette")));
      context.drawImage(base, 0, 0, canvas.width, canvas.height);
      const [oh, ow] = [model.get("over_height"), model.get("over_width")];
      const covered = oh > 0 && model.get("over").byteLength === oh * ow;
      mixer.hidden = !covered;
      drawScale(covered);
      if (covered) {
        slider.value = model.get("opacity");
        share.textContent = `${model.get("opacity")} %`;
        context.globalAlpha = model.get("opacity") / 100;
        context.imageSmoothingEnabled = canvas.width < ow;
        const over = picture(bytes(model.get("over")), oh, ow, lookupTable(model.get("over_palette")));
        context.drawImage(over, 0, 0, canvas.width, canvas.height);
        context.globalAlpha = 1;
      }
      const colours = model.get("class_colours");
      for (const [name, dash] of [["label", []], ["prediction", [4 * dpr, 3 * dpr]]]) {
        const mask = bytes(model.get(name));
        if (!drawn.checked || mask.length !== h * w) continue;
        for (const [value, colour] of Object.entries(colours)) {
          context.setLineDash(dash);
          context.lineWidth = (dash.length ? 1.6 : 2.2) * dpr;
          context.strokeStyle = dash.length ? "#ffffff" : colour;
          outline(context, mask, Number(value), h, w, canvas.width / w, canvas.height / h);
        }
      }
      figure.dataset.outlines = drawn.checked ? "yes" : "no";
      figure.dataset.ready = "yes";
    }

    const stop = listen(
      model,
      ["pixels", "label", "prediction", "palette", "over", "over_palette", "opacity", "low", "high", "caption", "alt", "height", "width", "class_colours"],
      () => requestAnimationFrame(draw),
    );
    const observer = new ResizeObserver(draw);
    observer.observe(figure);
    draw();
    return () => {
      stop();
      observer.disconnect();
    };
  },
};
