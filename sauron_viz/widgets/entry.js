// A line or several lines of text, with a hint and with what is wrong about it. What is typed is told after a pause.

const PAUSE = 350;

export default {
  render({ model, el: root }) {
    const id = uniqueId("entry");
    const lines = model.get("lines");
    const label = el("label", { for: id });
    const plain = { id, spellcheck: "false", autocomplete: "off", autocapitalize: "off" };
    const input = lines ? el("textarea", { ...plain, rows: lines }) : el("input", { type: "text", ...plain });
    const problem = el("p", { class: "sauron-wrong", id: `${id}-problem`, "aria-live": "polite" });
    const field = el("div", { class: "sauron-field sauron-text sauron-entry" }, label, input, problem);
    root.append(field);
    let timer = 0;

    function tell() {
      clearTimeout(timer);
      timer = 0;
      if (input.value !== model.get("value")) setTrait(model, "value", input.value);
    }

    function draw() {
      label.textContent = model.get("label");
      input.placeholder = model.get("placeholder");
      input.title = model.get("hint");
      const wrong = model.get("problem");
      problem.textContent = wrong;
      problem.hidden = !wrong;
      if (wrong) {
        input.setAttribute("aria-invalid", "true");
        input.setAttribute("aria-describedby", problem.id);
      } else {
        input.removeAttribute("aria-invalid");
        input.removeAttribute("aria-describedby");
      }
    }

    // What is being typed is not overwritten by an older word of the kernel's.
    function take() {
      if (!timer && input.value !== model.get("value")) input.value = model.get("value");
    }

    input.addEventListener("input", () => {
      clearTimeout(timer);
      timer = setTimeout(tell, PAUSE);
    });
    input.addEventListener("change", tell);
    const stops = [listen(model, ["label", "placeholder", "hint", "problem"], draw), listen(model, ["value"], take)];
    draw();
    take();
    return () => {
      clearTimeout(timer);
      stops.forEach((stop) => stop());
    };
  },
};
