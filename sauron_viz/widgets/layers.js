// Which layers to draw: one chip per layer in its colour, and buttons that choose many at once.

export default {
  render({ model, el: root }) {
    const name = uniqueId("layers");
    const quick = el("div", { class: "sauron-quick", role: "group", "aria-label": "Choose many layers at once" });
    const chips = el("div", { class: "sauron-chips" });
    const legend = el("legend", { text: "Layers, input to output" });
    const box = el("fieldset", { class: "sauron-field sauron-layers" }, legend, quick, chips);
    root.append(box);
    const PICKS = [
      ["All", () => true],
      ["Encoder", (layer) => layer.part === "encoder"],
      ["Decoder", (layer) => layer.part === "decoder"],
      ["Transposed", (layer) => layer.kind === "trans"],
      ["None", () => false],
    ];

    function chip(layer) {
      const id = `${name}-${layer.name}`;
      const input = el("input", { type: "checkbox", id, value: layer.name });
      input.addEventListener("change", () => {
        const chosen = [...chips.querySelectorAll("input:checked")].map((node) => node.value);
        setTrait(model, "value", chosen);
      });
      const label = el("label", { for: id }, el("span", { class: "sauron-swatch" }), layer.name);
      label.style.setProperty("--swatch", isDark() ? layer.dark : layer.light);
      return [input, label];
    }

    function draw() {
      const layers = model.get("layers");
      quick.replaceChildren(
        ...PICKS.map(([text, wanted]) =>
          el("button", {
            type: "button",
            text,
            onclick: () => setTrait(model, "value", layers.filter(wanted).map((layer) => layer.name)),
          }),
        ),
      );
      chips.replaceChildren(...layers.flatMap(chip));
      update();
    }

    function update() {
      const chosen = new Set(model.get("value"));
      for (const input of chips.querySelectorAll("input")) input.checked = chosen.has(input.value);
      box.dataset.count = chosen.size;
    }

    const stops = [listen(model, ["layers"], draw), listen(model, ["value"], update), onTheme(draw)];
    draw();
    return () => stops.forEach((stop) => stop());
  },
};
