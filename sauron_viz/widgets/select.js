// A native drop-down list with its label. Options are [value, text] or [value, text, group].

export default {
  render({ model, el: root }) {
    const id = uniqueId("select");
    const select = el("select", { id });
    const label = el("label", { for: id });
    const box = el("div", { class: "sauron-field sauron-select" }, label, select);
    root.append(box);

    function items() {
      const groups = new Map();
      const nodes = [];
      for (const [value, text, group] of model.get("options")) {
        const option = el("option", { value, text });
        if (!group) nodes.push(option);
        else if (groups.has(group)) groups.get(group).append(option);
        else {
          groups.set(group, el("optgroup", { label: group }, option));
          nodes.push(groups.get(group));
        }
      }
      return nodes;
    }

    function draw() {
      label.textContent = model.get("label");
      select.replaceChildren(...items());
      select.value = model.get("value");
      select.title = model.get("hint");
      select.disabled = model.get("options").length < 1;
      box.dataset.value = model.get("value");
    }

    select.addEventListener("change", () => setTrait(model, "value", select.value));
    const stop = listen(model, ["options", "value", "label", "hint"], draw);
    draw();
    return stop;
  },
};
