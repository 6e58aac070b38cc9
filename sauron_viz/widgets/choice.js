// A few exclusive choices side by side: native radio buttons drawn as one segmented control.

export default {
  render({ model, el: root }) {
    const name = uniqueId("choice");
    const legend = el("legend", {});
    const row = el("div", { class: "sauron-segments" });
    const box = el("fieldset", { class: "sauron-field sauron-choice" }, legend, row);
    root.append(box);

    function segment([value, text]) {
      const id = `${name}-${value}`;
      const input = el("input", { type: "radio", id, name, value });
      input.checked = value === model.get("value");
      input.addEventListener("change", () => setTrait(model, "value", value));
      return [input, el("label", { for: id, text })];
    }

    function draw() {
      legend.textContent = model.get("label");
      row.replaceChildren(...model.get("options").flatMap(segment));
      update();
    }

    // The inputs stay when only the value changes, or the keyboard would lose its place.
    function update() {
      for (const input of row.querySelectorAll("input")) input.checked = input.value === model.get("value");
      box.dataset.value = model.get("value");
    }

    const stops = [listen(model, ["options", "label"], draw), listen(model, ["value"], update)];
    draw();
    return () => stops.forEach((stop) => stop());
  },
};
