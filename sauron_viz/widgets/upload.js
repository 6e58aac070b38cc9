// Chooses files and sends them to the kernel piece by piece, each when the one before it has arrived.

const PIECE = 2 ** 20;

export default {
  render({ model, el: root }) {
    const id = uniqueId("upload");
    const label = el("label", { for: id });
    const input = el("input", { type: "file", id, onchange: () => send([...input.files]) });
    const hint = el("p", { class: "sauron-note", id: `${id}-hint` });
    input.setAttribute("aria-describedby", hint.id);
    const bar = el("progress", { max: 1, value: 0 });
    const told = el("span", {});
    const stop = el("button", { type: "button", text: "Cancel", onclick: () => end({ drop: turn }) });
    const sending = el("div", { class: "sauron-sending", hidden: true }, el("label", { class: "sauron-note" }, told, bar), el("div", { class: "sauron-actions sauron-buttons" }, stop));
    const zone = el("div", { class: "sauron-field sauron-upload" }, label, input, hint, sending);
    root.append(zone);
    // Answers to files that were given up are not meant for those that came after them.
    let turn = 0;
    let files = [];

    function send(chosen) {
      if (!chosen.length || model.get("disabled") || files.length) return;
      // Several views may show this field, and all of them hear the kernel.
      turn = Math.random();
      files = chosen;
      zone.dataset.state = "sending";
      show();
      model.send({ begin: turn, files: files.map((file) => [file.name, file.size]) });
    }

    function end(word) {
      files = [];
      input.value = "";
      zone.dataset.state = "idle";
      if (word) model.send(word);
      show();
    }

    function show(done = 0) {
      sending.hidden = !files.length;
      input.disabled = model.get("disabled") || files.length > 0;
      const total = files.reduce((sum, file) => sum + file.size, 0);
      bar.value = total ? done / total : 0;
      told.textContent = `Sending ${(done / 2 ** 20).toFixed(1)} of ${(total / 2 ** 20).toFixed(1)} MB`;
    }

    async function answer(message) {
      if (message.turn !== turn || !files.length) return;
      if (!message.wanted) return end();
      const [place, offset] = message.wanted;
      show(files.slice(0, place).reduce((sum, file) => sum + file.size, 0) + offset);
      const mine = turn;
      try {
        const piece = await files[place].slice(offset, offset + PIECE).arrayBuffer();
        if (mine === turn && files.length) model.send({ piece: turn, place, offset }, undefined, [piece]);
      } catch {
        end({ drop: turn, unreadable: files[place]?.name ?? "" });
      }
    }

    function draw() {
      label.textContent = model.get("label");
      hint.textContent = model.get("hint");
      input.accept = model.get("accept");
      input.multiple = model.get("multiple");
      input.disabled = model.get("disabled") || files.length > 0;
    }

    zone.addEventListener("dragover", (event) => {
      event.preventDefault();
      zone.dataset.over = "yes";
    });
    zone.addEventListener("dragleave", () => delete zone.dataset.over);
    zone.addEventListener("drop", (event) => {
      event.preventDefault();
      delete zone.dataset.over;
      send([...event.dataTransfer.files]);
    });
    model.on("msg:custom", answer);
    const still = listen(model, ["label", "hint", "accept", "multiple", "disabled"], draw);
    draw();
    return () => {
      still();
      if (files.length) model.send({ drop: turn });
      model.off("msg:custom", answer);
    };
  },
};
