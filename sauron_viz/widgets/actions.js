// Buttons in a row; a press is told to the kernel.

export default {
  render({ model, el: root }) {
    const row = el("div", { class: "sauron-actions sauron-buttons" });
    root.append(row);

    function draw() {
      const pressed = model.get("pressed");
      const off = model.get("disabled");
      row.replaceChildren(
        ...model.get("options").map(([value, text, hint]) =>
          el("button", {
            type: "button",
            text,
            title: hint ?? "",
            class: value === model.get("main") ? "sauron-main" : "",
            "data-value": value,
            "aria-pressed": pressed.includes(value) ? "true" : null,
            disabled: off.includes(value),
            onclick: () => model.send({ press: value }),
          }),
        ),
      );
    }

    const stop = listen(model, ["options", "pressed", "disabled", "main"], draw);
    draw();
    return stop;
  },
};
