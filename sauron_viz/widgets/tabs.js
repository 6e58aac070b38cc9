// A row of tabs after the ARIA pattern: arrow keys move, one tab stop for the whole row.

export default {
  render({ model, el: root }) {
    const list = el("div", { class: "sauron-tabs", role: "tablist", "aria-label": model.get("label") });
    root.append(list);

    function choose(value, focus) {
      setTrait(model, "value", value);
      update();
      if (focus) list.querySelector("[aria-selected=true]").focus();
    }

    function key(event) {
      const values = model.get("options").map(([value]) => value);
      const now = values.indexOf(model.get("value"));
      const steps = { ArrowRight: now + 1, ArrowLeft: now - 1, Home: 0, End: values.length - 1 };
      if (!(event.key in steps)) return;
      event.preventDefault();
      choose(values[(steps[event.key] + values.length) % values.length], true);
    }

    function draw() {
      const tabs = model.get("options").map(([value, text]) =>
        el("button", { type: "button", role: "tab", text, "data-value": value, onclick: () => choose(value, false) }),
      );
      list.replaceChildren(...tabs);
      update();
    }

    function update() {
      for (const tab of list.children) {
        const chosen = tab.dataset.value === model.get("value");
        tab.setAttribute("aria-selected", chosen);
        tab.tabIndex = chosen ? 0 : -1;
      }
      list.dataset.value = model.get("value");
    }

    list.addEventListener("keydown", key);
    const stops = [listen(model, ["options"], draw), listen(model, ["value"], update)];
    draw();
    return () => stops.forEach((stop) => stop());
  },
};
