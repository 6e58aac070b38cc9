// A native range input that steps through a list of numbers, such as the epochs whose maps are stored.

// Slow enough to see each step where they are few, and over in half a minute where they are many.
const SLOWEST = 700;
const FASTEST = 80;
const WHOLE = 24000;

export default {
  render({ model, el: root }) {
    const id = uniqueId("slider");
    const input = el("input", { type: "range", id, min: 0, step: 1 });
    const output = el("output", { for: id });
    const label = el("label", { for: id });
    const marks = el("div", { class: "sauron-ticks", "aria-hidden": "true" });
    const track = el("div", { class: "sauron-track" }, input, marks);
    const play = el("button", { type: "button", class: "sauron-play", hidden: true, onclick: () => (timer ? pause() : start()) });
    const box = el("div", { class: "sauron-field sauron-slider" }, label, play, track, output);
    let timer = 0;
    let stride = 1;
    root.append(box);

    function start() {
      const options = model.get("options");
      if (model.get("value") === options[options.length - 1]) choose(options[0]);
      const every = Math.max(FASTEST, Math.min(SLOWEST, WHOLE / options.length));
      stride = Math.max(1, Math.ceil((options.length * every) / WHOLE - 0.01));
      timer = setInterval(step, every);
      face();
    }

    function pause() {
      clearInterval(timer);
      timer = 0;
      face();
    }

    function step() {
      const options = model.get("options");
      const next = Math.min(options.length - 1, options.indexOf(model.get("value")) + stride);
      choose(options[next]);
      if (next === options.length - 1) pause();
    }

    function choose(value) {
      setTrait(model, "value", value);
      draw();
    }

    function face() {
      play.textContent = timer ? "❚❚" : "▶";
      play.setAttribute("aria-label", timer ? "Stop playing" : `Play through ${model.get("label").toLowerCase()}s`);
      box.dataset.playing = timer ? "yes" : "no";
    }

    function tick(option, index, count, chosen) {
      const share = count > 1 ? index / (count - 1) : 0.5;
      const node = el("span", { class: chosen ? "sauron-tick sauron-tick-now" : "sauron-tick" });
      node.style.left = `calc(8px + ${share} * (100% - 16px))`;
      return node;
    }

    function draw() {
      const options = model.get("options");
      const index = Math.max(0, options.indexOf(model.get("value")));
      label.textContent = model.get("label");
      input.max = Math.max(0, options.length - 1);
      input.value = index;
      input.disabled = options.length < 2;
      play.hidden = !model.get("playable") || options.length < 2;
      const texts = model.get("texts");
      const called = (at) => texts[at] ?? options[at] ?? "";
      output.textContent = options.length ? `${called(index)}${model.get("suffix")}` : "–";
      input.setAttribute("aria-valuetext", options.length ? `${called(index)} of ${called(options.length - 1)}` : "none");
      label.title = model.get("hint");
      const few = options.length > 1 && options.length <= 60;
      marks.replaceChildren(...(few ? options.map((o, i) => tick(o, i, options.length, i === index)) : []));
      box.dataset.value = options[index] ?? "";
    }

    input.addEventListener("pointerdown", pause);
    input.addEventListener("input", () => setTrait(model, "value", model.get("options")[Number(input.value)]));
    const stop = listen(model, ["options", "value", "label", "suffix", "texts", "hint", "playable"], draw);
    draw();
    face();
    return () => {
      clearInterval(timer);
      stop();
    };
  },
};
