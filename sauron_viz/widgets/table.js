// A table that is sorted by its heads, searched, and ticked; long ones scroll under their heads.

const SHOWN = 400;

function duration(seconds) {
  if (seconds < 90) return `${seconds.toFixed(seconds < 10 ? 1 : 0)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 90) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours} h ${String(minutes % 60).padStart(2, "0")}` : `${(hours / 24).toFixed(1)} days`;
}

function signed(value) {
  if (value === "inf") return "+∞";
  if (value === "-inf") return "−∞";
  if (Math.abs(value) < 0.05) return "0.0 %";
  return `${value > 0 ? "+" : "−"}${Math.abs(value).toFixed(1)} %`;
}

function words(column, row) {
  const value = row[column.key];
  if (value === null || value === undefined || value === "") return "–";
  switch (column.kind) {
    case "spread":
    case "number":
      return Number(value).toFixed(column.digits).replace("-", "−");
    case "signed":
      return Math.abs(value) < 0.5 * 10 ** -column.digits ? (0).toFixed(column.digits) : `${value > 0 ? "+" : "−"}${Math.abs(value).toFixed(column.digits)}`;
    case "times":
      return `${Number(value).toFixed(1)}×`;
    case "percent":
      return `${(100 * value).toFixed(1)} %`;
    case "change":
      return signed(value);
    case "duration":
      return duration(value);
    case "time":
      return String(value).slice(0, 16).replace("T", " ");
    default:
      return String(value);
  }
}

// What stands small behind a value.
function beside(column, row) {
  const with_ = (end) => row[`${column.key}_${end}`];
  if (column.kind === "spread" && with_("low") != null) {
    return ` (${["low", "high"].map((end) => Number(with_(end)).toFixed(column.digits)).join("–")})`;
  }
  return column.kind === "count" && with_("of") != null ? ` of ${with_("of")}` : "";
}

const NUMERIC = new Set(["number", "signed", "spread", "times", "percent", "change", "duration", "count"]);

function rank(column, row) {
  const value = row[column.key];
  if (value === null || value === undefined || value === "") return null;
  if (value === "inf") return Infinity;
  if (value === "-inf") return -Infinity;
  return value;
}

function ordered(rows, columns, [key, way]) {
  const column = columns.find((c) => c.key === key);
  if (!column) return rows;
  const sign = way === "down" ? -1 : 1;
  return rows
    .map((row, place) => [rank(column, row), place, row])
    .sort(([a, i], [b, j]) => {
      if (a === null || b === null) return (a === null) - (b === null) || i - j;
      const by = typeof a === "number" ? a - b : String(a).localeCompare(String(b), undefined, { numeric: true });
      return sign * by || i - j;
    })
    .map(([, , row]) => row);
}

function csvOf(columns, rows) {
  const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
  const units = { percent: " (%)", change: " (%)", duration: " (s)" };
  const plain = (c, row) => (c.kind === "percent" && row[c.key] != null ? 100 * row[c.key] : (row[c.key] ?? ""));
  const lines = [columns.map((c) => c.label + (units[c.kind] ?? ""))];
  for (const row of rows) lines.push(columns.map((c) => String(plain(c, row))));
  return lines.map((line) => line.map(quoted).join(",")).join("\n") + "\n";
}

const IN_LATEX = {
  "\\": "\\textbackslash{}", "&": "\\&", "%": "\\%", $: "\\$", "#": "\\#", _: "\\_", "{": "\\{", "}": "\\}", "~": "\\textasciitilde{}",
  "^": "\\textasciicircum{}", "−": "$-$", "–": "--", "∞": "$\\infty$", "δ": "$\\delta$", "τ": "$\\tau$", "λ": "$\\lambda$", "→": "$\\to$", "×": "$\\times$",
};

// A tabular for booktabs and xcolor (option table); shaded rows in grey.
function latexOf(columns, rows) {
  const plain = (text) => text.replace(/[\\&%$#_{}~^−–∞δτλ→×]/g, (sign) => IN_LATEX[sign]);
  const line = (cells) => `${cells.map(plain).join(" & ")} \\\\`;
  const shown = (column, row) => words(column, row) + beside(column, row);
  return [
    "% needs \\usepackage{booktabs} and \\usepackage[table]{xcolor}",
    `\\begin{tabular}{${columns.map((column) => (NUMERIC.has(column.kind) ? "r" : "l")).join("")}}`,
    "\\toprule",
    line(columns.map((column) => column.label)),
    "\\midrule",
    ...rows.map((row) => (row.shade ? "\\rowcolor[gray]{0.85} " : "") + line(columns.map((column) => shown(column, row)))),
    "\\bottomrule",
    "\\end{tabular}",
    "",
  ].join("\n");
}

export default {
  render({ model, el: root }) {
    const id = uniqueId("table");
    const title = el("h2", { id });
    const note = el("p", { class: "sauron-note" });
    const search = el("input", { type: "search", autocomplete: "off", spellcheck: "false" });
    const field = el("label", { class: "sauron-search" }, search);
    const save = el("button", { type: "button", text: "CSV", onclick: () => takeAway() });
    const article = el("button", { type: "button", text: "LaTeX", onclick: () => download(`${name()}.tex`, new Blob([latexOf(columns(), sorted())], { type: "text/x-tex" })) });
    const actions = el("div", { class: "sauron-actions" }, save, article);
    const head = el("thead");
    const body = el("tbody");
    const table = el("table", { class: "sauron-table sauron-data", "aria-labelledby": id }, head, body);
    const scroller = el("div", { class: "sauron-scroll", tabindex: "0", role: "region", "aria-labelledby": id }, table);
    const more = el("p", { class: "sauron-note", role: "status" });
    const empty = el("p", { class: "sauron-empty" });
    const top = el("div", { class: "sauron-top" }, el("div", {}, title, note), field, actions);
    const card = el("section", { class: "sauron-card sauron-datatable" }, top, scroller, more, empty);
    root.append(card);
    let all = false;

    const columns = () => model.get("columns");
    const sorted = () => ordered(found(), columns(), model.get("sort"));

    function found() {
      const asked = search.value.toLowerCase().split(/\s+/).filter(Boolean);
      if (!asked.length) return model.get("rows");
      return model.get("rows").filter((row) => {
        const text = columns().map((column) => words(column, row)).join(" ").toLowerCase();
        return asked.every((word) => text.includes(word));
      });
    }

    const name = () => `${model.get("source")} ${model.get("title")}`.trim().toLowerCase().replace(/[^a-z0-9]+/g, "-");

    function takeAway() {
      download(`${name()}.csv`, new Blob([model.get("export") || csvOf(columns(), sorted())], { type: "text/csv" }));
    }

    function turn(key) {
      const [now, way] = model.get("sort");
      const first = NUMERIC.has(columns().find((c) => c.key === key).kind) ? "down" : "up";
      const other = first === "down" ? "up" : "down";
      setTrait(model, "sort", [key, now === key && way === first ? other : first]);
    }

    function heading(column) {
      const [key, way] = model.get("sort");
      const mine = key === column.key;
      const mark = el("span", { "aria-hidden": "true", class: "sauron-sort", text: mine ? (way === "down" ? "↓" : "↑") : "" });
      const button = el("button", { type: "button", title: column.hint, "data-key": column.key, onclick: () => turn(column.key) }, column.label, mark);
      const sort = mine ? (way === "down" ? "descending" : "ascending") : "none";
      return el("th", { scope: "col", class: NUMERIC.has(column.kind) ? "num" : "", "aria-sort": sort }, button);
    }

    function tick(row) {
      const box = el("input", { type: "checkbox", "aria-label": `${model.get("tickable")} ${row.label ?? row.id}`, "data-tick": row.id });
      box.checked = model.get("ticked").includes(row.id);
      box.addEventListener("change", () => {
        const others = model.get("ticked").filter((name) => name !== row.id);
        setTrait(model, "ticked", box.checked ? [...others, row.id] : others);
      });
      return el("td", { class: "tick" }, box);
    }

    function content(column, row, first) {
      const text = words(column, row);
      if (column.kind === "status") return [el("span", { class: `sauron-status ${row[column.key]}`, text: row[`${column.key}_word`] ?? text })];
      if (first && model.get("opens")) {
        const button = el("button", { type: "button", class: "sauron-link", text, "data-open": row.id, title: model.get("opens") });
        return [button];
      }
      if (first && column.kind === "text") return [el("span", { class: "sauron-name", text })];
      if (column.kind === "percent" && text !== "–") {
        const bar = el("span", { class: "sauron-share", "aria-hidden": "true" });
        bar.style.setProperty("--share", `${Math.min(100, 100 * row[column.key])}%`);
        return [text, bar];
      }
      const more = beside(column, row);
      return more ? [text, el("small", { text: more })] : [text];
    }

    function line(row) {
      const cells = columns().map((column, i) =>
        el("td", { class: NUMERIC.has(column.kind) ? "num" : column.kind }, ...content(column, row, i === 0)),
      );
      if (model.get("tickable")) cells.unshift(tick(row));
      const node = el("tr", { "data-id": row.id, class: row.shade ? "shade" : "", title: row.note || null }, ...cells);
      if (row.id === model.get("current")) node.setAttribute("aria-current", "true");
      return node;
    }

    // Rows are made anew when a run grows: whoever stands on one with the keyboard stays there.
    function focused() {
      const at = card.contains(document.activeElement) ? document.activeElement : null;
      for (const kind of ["key", "tick", "open"]) {
        const value = at?.dataset[kind];
        if (value !== undefined) return `[data-${kind}="${CSS.escape(value)}"]`;
      }
      return null;
    }

    function draw() {
      const stays = focused();
      const rows = sorted();
      const total = model.get("rows").length;
      const shown = all ? rows : rows.slice(0, SHOWN);
      const heads = columns().map(heading);
      if (model.get("tickable")) heads.unshift(el("th", { scope: "col", class: "tick" }, el("span", { class: "sauron-hidden", text: model.get("tickable") })));
      head.replaceChildren(el("tr", {}, ...heads));
      body.replaceChildren(...shown.map(line));
      scroller.hidden = !rows.length;
      actions.hidden = !total;
      field.hidden = !model.get("searchable") || !total;
      empty.hidden = rows.length > 0;
      empty.textContent = total ? `None of ${total} ${model.get("unit")} has "${search.value}" in it.` : model.get("empty");
      more.replaceChildren(...rest(rows.length, total));
      card.dataset.rows = rows.length;
      if (stays) card.querySelector(stays)?.focus({ preventScroll: true });
    }

    function rest(count, total) {
      if (!all && count > SHOWN) {
        const open = () => ((all = true), draw());
        return [`The first ${SHOWN} of ${count} ${model.get("unit")}. `, el("button", { type: "button", class: "sauron-link", text: "Show all", onclick: open })];
      }
      return search.value && count ? [`${count} of ${total} ${model.get("unit")}`] : [];
    }

    function say() {
      title.textContent = model.get("title");
      note.textContent = model.get("note");
      search.placeholder = `Find ${model.get("unit")}`;
      search.setAttribute("aria-label", `Find ${model.get("unit")}`);
      save.setAttribute("aria-label", `Save ${model.get("title")} as CSV`);
      article.setAttribute("aria-label", `Save ${model.get("title")} as LaTeX`);
    }

    body.addEventListener("click", (event) => {
      const row = event.target.closest("tr");
      if (!model.get("opens") || !row || event.target.closest("input")) return;
      model.send({ open: row.dataset.id });
    });
    search.addEventListener("input", draw);
    const stops = [
      fading(scroller),
      listen(model, ["columns", "rows", "sort", "ticked", "current", "tickable", "opens", "empty"], draw),
      listen(model, ["title", "note", "unit"], say),
    ];
    say();
    draw();
    return () => stops.forEach((stop) => stop());
  },
};
