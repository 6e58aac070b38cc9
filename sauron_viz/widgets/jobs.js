// Trainings, one under the other, each changed in its place: a button that is about to be pressed must not go away.

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function entry(press) {
  const parts = {
    name: el("h3", {}),
    status: el("span", { class: "sauron-status" }),
    buttons: el("div", { class: "sauron-actions sauron-buttons" }),
    bar: el("progress", { max: 1 }),
    numbers: el("dl", { class: "sauron-numbers" }),
    note: el("p", {}),
  };
  const head = el("div", { class: "sauron-job-head" }, parts.name, parts.status, parts.buttons);
  parts.item = el("li", { class: "sauron-job" }, head, parts.bar, parts.numbers, parts.note);
  parts.shown = {};
  parts.press = press;
  return parts;
}

// Draws a part only when what it shows has changed.
function once(parts, key, value, paint) {
  const text = JSON.stringify(value);
  if (parts.shown[key] === text) return;
  parts.shown[key] = text;
  paint(value);
}

function update(parts, job) {
  setText(parts.name, job.name);
  parts.item.dataset.id = job.id;
  parts.item.dataset.status = job.status;
  parts.status.className = `sauron-status ${job.status}`;
  setText(parts.status, job.word);
  once(parts, "buttons", job.actions, (actions) => {
    const focused = parts.buttons.contains(document.activeElement);
    parts.buttons.replaceChildren(
      ...actions.map(([value, text, hint, state]) =>
        el("button", {
          type: "button",
          text,
          title: hint,
          class: state === "main" ? "sauron-main" : "",
          "aria-pressed": state === "pressed" ? "true" : null,
          "aria-label": `${text}: ${job.name}`,
          "data-value": value,
          onclick: () => parts.press(value, job.id),
        }),
      ),
    );
    if (focused) parts.buttons.querySelector("button")?.focus();
  });
  once(parts, "bar", [job.share, job.name], ([share]) => {
    parts.bar.hidden = share === null;
    parts.bar.setAttribute("aria-label", `Progress of ${job.name}`);
    if (share < 0) parts.bar.removeAttribute("value");
    else if (share !== null) parts.bar.value = share;
  });
  once(parts, "numbers", job.numbers, (numbers) => {
    parts.numbers.hidden = !numbers.length;
    parts.numbers.replaceChildren(
      ...numbers.map(([name, value, small]) =>
        el("div", {}, el("dt", { text: name }), el("dd", {}, value, small ? el("small", { text: ` ${small}` }) : null)),
      ),
    );
  });
  once(parts, "note", [job.note, job.wrong], ([note, wrong]) => {
    parts.note.hidden = !note;
    parts.note.className = wrong ? "sauron-alert" : "sauron-note";
    parts.note.textContent = note;
  });
}

export default {
  render({ model, el: root }) {
    const id = uniqueId("jobs");
    const title = el("h2", { id, text: "Trainings" });
    const list = el("ul", { class: "sauron-jobs", "aria-labelledby": id });
    const empty = el("p", { class: "sauron-note" });
    const problem = el("p", { class: "sauron-alert", role: "alert" });
    const said = el("p", { class: "sauron-hidden", "aria-live": "polite" });
    const card = el("div", { class: "sauron-card" }, title, problem, empty, list, said);
    root.append(card);
    const known = new Map();
    const press = (value, job) => model.send({ press: value, id: job });
    // The log of one of them stands under it.
    const text = el("pre", { tabindex: 0, role: "region" });
    const whole = el("button", { type: "button", text: "Whole log", title: "Download the log from its beginning" });
    const log = el("div", { class: "sauron-log" }, text, el("div", { class: "sauron-actions sauron-buttons" }, whole));
    whole.addEventListener("click", () => press("download", model.get("opened")));

    function drawLog() {
      const parts = known.get(model.get("opened"));
      if (!parts) {
        log.remove();
        return;
      }
      if (log.parentNode !== parts.item) parts.item.append(log);
      text.setAttribute("aria-label", `Log of ${parts.name.textContent}`);
      whole.setAttribute("aria-label", `Whole log of ${parts.name.textContent}`);
      const follows = text.scrollHeight - text.scrollTop - text.clientHeight < 24;
      setText(text, model.get("tail") || "Nothing has been written yet.");
      if (follows) text.scrollTop = text.scrollHeight;
    }

    function draw() {
      const jobs = model.get("jobs");
      const words = [];
      for (const job of jobs) {
        const parts = known.get(job.id) ?? entry(press);
        if (known.has(job.id) && parts.item.dataset.status !== job.status) words.push(`${job.name}: ${job.word}`);
        known.set(job.id, parts);
        update(parts, job);
      }
      for (const gone of [...known.keys()].filter((key) => !jobs.some((job) => job.id === key))) {
        known.get(gone).item.remove();
        known.delete(gone);
      }
      // Moving one that stands right already would take the focus from it.
      jobs.forEach((job, place) => {
        const item = known.get(job.id).item;
        if (list.children[place] !== item) list.insertBefore(item, list.children[place] ?? null);
      });
      if (words.length) said.textContent = words.join("; ");
      setText(problem, model.get("problem"));
      problem.hidden = !model.get("problem");
      empty.textContent = model.get("empty");
      empty.hidden = jobs.length > 0;
      list.hidden = jobs.length < 1;
      drawLog();
    }

    function take(message, buffers) {
      if (message.save) download(message.save, new Blob([buffers[0]], { type: "text/plain" }));
    }

    model.on("msg:custom", take);
    const stops = [listen(model, ["jobs", "empty", "problem"], draw), listen(model, ["opened", "tail"], drawLog)];
    draw();
    return () => {
      model.off("msg:custom", take);
      stops.forEach((stop) => stop());
    };
  },
};
