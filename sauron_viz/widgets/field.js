// One line of text with a label.

export default {
  render({ model, el: root }) {
    const id = uniqueId("field");
    const label = el("label", { for: id });
    const input = el("input", { type: "text", id, spellcheck: "false", autocomplete: "off" });
    root.append(el("div", { class: "sauron-field sauron-text" }, label, input));
    function draw() {
      label.textContent = model.get("label");
      if (input.value !== model.get("value")) input.value = model.get("value");
    }
    input.addEventListener("input", () => setTrait(model, "value", input.value));
    const stop = listen(model, ["label", "value"], draw);
    draw();
    return stop;
  },
};
