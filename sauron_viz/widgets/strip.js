// A row of small pictures with a caption each; a click chooses one.

export default {
  render({ model, el: root }) {
    const heading = el("h3", { class: "sauron-minor" });
    const list = el("div", { class: "sauron-strip", role: "group" });
    const box = el("div", {}, heading, list);
    root.append(box);

    function thumbnail(index, h, w, pixels, table) {
      const canvas = el("canvas", { width: w, height: h, "aria-hidden": "true" });
      const context = canvas.getContext("2d");
      const image = context.createImageData(w, h);
      const words = new Uint32Array(image.data.buffer);
      for (let i = 0; i < h * w; i++) words[i] = table[pixels[index * h * w + i]];
      context.putImageData(image, 0, 0);
      canvas.style.aspectRatio = `${w} / ${h * model.get("aspect")}`;
      return canvas;
    }

    function draw() {
      const [h, w] = [model.get("height"), model.get("width")];
      const [names, texts] = [model.get("names"), model.get("texts")];
      const pixels = bytes(model.get("pixels"));
      const table = lookupTable(model.get("palette"));
      heading.textContent = model.get("label");
      list.setAttribute("aria-label", model.get("label"));
      box.hidden = !names.length;
      list.replaceChildren(
        ...names.map((name, i) =>
          el(
            "button",
            { type: "button", "data-filter": name, title: `Choose filter ${name}`, onclick: () => model.send({ choose: name }) },
            thumbnail(i, h, w, pixels, table),
            el("b", { text: name }),
            el("span", { text: texts[i] ?? "" }),
          ),
        ),
      );
      box.dataset.ready = "yes";
    }

    const stop = listen(model, ["pixels", "names", "texts", "label", "palette", "aspect"], () => requestAnimationFrame(draw));
    draw();
    return stop;
  },
};
