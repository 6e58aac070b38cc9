// What would be left at the threshold that the slider stands at: numbers that were told for all thresholds at once.

export default {
  render({ model, el: root }) {
    const list = el("div", { class: "sauron-outlook", "aria-live": "polite" });
    root.append(list);

    function line({ name, values, now, start, unit }) {
      const step = Math.max(0, model.get("step"));
      const then = values[step] ?? now;
      const share = (value) => `${Math.max(0.5, (100 * value) / start)}%`;
      const percent = (value) => `${((100 * value) / start).toFixed(1)} %`;
      const bar = el("div", { class: "sauron-meter", "aria-hidden": "true" }, el("i", { class: "now" }), el("i", { class: "then" }));
      bar.children[0].style.width = share(now);
      bar.children[1].style.width = share(then);
      const figures = unit === "count" ? [`${then}`, `of ${now} now, ${start} at the start`] : [percent(then), `now ${percent(now)}`];
      return el("div", { "data-name": name, "data-value": then }, el("span", { text: name }), bar, el("b", { text: figures[0] }), el("small", { text: figures[1] }));
    }

    function draw() {
      list.replaceChildren(...model.get("rows").map(line));
      list.dataset.step = model.get("step");
    }

    const stop = listen(model, ["rows", "step"], draw);
    draw();
    return stop;
  },
};
