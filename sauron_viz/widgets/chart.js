// Draws a plotly figure. The library reaches a page once, however many charts: a served page loads it by itself while
// its kernel starts; anywhere else it lives in one PlotlyLib widget.

// Plotly's own event and the browser's belong to one click when no more than this lies between them.
const CLICK = 50;
const NARROW = 560;
// So far out of sight a chart is drawn as if it were in sight: somebody scrolls.
const MARGIN = "250px";
const IDLE = 600;
// Figures are as high as is good with a legend of one line.
const LEGEND_LINE = 30;

async function unpack(model) {
  const id = model.get("library").replace("IPY_MODEL_", "");
  const library = await model.widget_manager.get_model(id);
  const packed = new Blob([bytes(library.get("packed"))]).stream();
  const source = await new Response(packed.pipeThrough(new DecompressionStream("gzip"))).text();
  const module = { exports: {} };
  // Called as a CommonJS module: neither a global of the page nor an AMD loader is touched.
  new Function("module", "exports", "define", source)(module, module.exports, undefined);
  return module.exports;
}

async function start(model) {
  // It keeps the page busy for a while: what has been drawn already is painted first.
  await new Promise((painted) => setTimeout(painted));
  return globalThis.__sauronFetchPlotly?.() ?? unpack(model);
}

function plotly(model) {
  globalThis.__sauronPlotly ??= start(model);
  // What did not arrive is asked for again by whoever needs it next.
  globalThis.__sauronPlotly.catch(() => (globalThis.__sauronPlotly = undefined));
  return globalThis.__sauronPlotly;
}

// One chart in a frame: a change of run brings many, and the page shows each as soon as it is there.
function onFrame(run) {
  const turn = () => new Promise(requestAnimationFrame).then(() => void run());
  globalThis.__sauronFrames = (globalThis.__sauronFrames ?? Promise.resolve()).then(turn, turn);
}

function whenIdle(run) {
  if (globalThis.requestIdleCallback) requestIdleCallback(run, { timeout: IDLE });
  else setTimeout(run, IDLE / 4);
}

// Figures come in the colours for a light page; the ones that need it name their colour for a dark page.
function themed(text, dark) {
  let figure = JSON.parse(text);
  const swap = figure.layout.meta?.dark ?? {};
  if (dark && Object.keys(swap).length) {
    figure = JSON.parse(text.replace(/#[0-9a-f]{6}\b/gi, (colour) => swap[colour.toLowerCase()] ?? colour));
  }
  const text_ = cssColour("--sauron-text", "#222");
  const soft = cssColour("--sauron-soft", "#666");
  const line = cssColour("--sauron-line", "#ddd");
  const { layout } = figure;
  layout.font = { ...layout.font, color: text_, family: cssColour("--sauron-font", "sans-serif") };
  layout.hoverlabel = { ...layout.hoverlabel, bgcolor: cssColour("--sauron-raised", "#fff"), bordercolor: line };
  layout.hoverlabel.font = { color: text_, family: layout.font.family, size: 12 };
  for (const [name, axis] of Object.entries(layout)) {
    if (!/^[xy]axis\d*$/.test(name)) continue;
    Object.assign(axis, { gridcolor: line, linecolor: soft, zerolinecolor: line, tickcolor: soft });
    axis.tickfont = { ...axis.tickfont, color: soft };
  }
  for (const annotation of layout.annotations ?? []) annotation.font = { color: soft, ...annotation.font };
  return figure;
}

// Headings that name the lines of a plot take a line more where the page is narrow.
function folded(layout, width) {
  for (const annotation of layout.annotations ?? []) {
    if (annotation.name !== "heading" || width > NARROW) continue;
    annotation.text = annotation.text.replace("&nbsp;&nbsp; ", "<br>");
    annotation.font.size = 11;
  }
}

function marked(layout, at) {
  const line = { color: cssColour("--sauron-select", "#d55e00"), width: 1.5, dash: "dot" };
  const lines = (layout.meta?.mark ?? []).map(({ xref, yref, layer }) => {
    return { type: "line", xref, yref, layer, x0: at, x1: at, y0: 0, y1: 1, line, name: "mark" };
  });
  const others = (layout.shapes ?? []).filter((shape) => shape.name !== "mark");
  return at ? [...others, ...lines] : others;
}

function csv(traces, layout) {
  const plain = (value) => (Number.isNaN(value) ? "" : value ?? "");
  const cell = (value) => (/[",\n]/.test(String(value ?? "")) ? `"${String(value).replaceAll('"', '""')}"` : plain(value));
  const named = (axis, otherwise) => layout[axis]?.title?.text || otherwise;
  const series = (trace) => (trace.meta ? `${trace.meta}: ${trace.name}` : trace.name);
  const rows = [["series", named("xaxis", "x"), named("yaxis", typeof traces[0]?.y?.[0] === "string" ? "layer" : "value")]];
  if (traces.some((trace) => trace.z)) rows[0].push("value");
  for (const trace of traces) {
    if (layout.meta?.dots === trace.name) continue;
    if (trace.z) {
      trace.z.forEach((line, i) => line.forEach((z, j) => rows.push([series(trace), trace.x[j], trace.y[i], z])));
    } else {
      const x = trace.x ?? [];
      Array.from(x).forEach((value, i) => rows.push([series(trace), value, trace.y[i]]));
    }
  }
  return rows.map((row) => row.map(cell).join(",")).join("\n") + "\n";
}

export default {
  render({ model, el: root }) {
    const title = el("h2", {});
    const note = el("p", { class: "sauron-note" });
    const actions = el("div", { class: "sauron-actions", hidden: true });
    const plot = el("div", { class: "sauron-plot", role: "group" });
    const empty = el("p", { class: "sauron-empty", hidden: true });
    const head = el("div", { class: "sauron-top" }, el("div", {}, title, note), actions);
    const card = el("section", { class: "sauron-card sauron-chart" }, head, plot, empty);
    root.append(card);
    let [alive, near, stale] = [true, false, false];
    let [library, met, width, more] = [null, -Infinity, 0, 0];

    const name = () => `${model.get("source")} ${model.get("title") || "chart"}`.trim().toLowerCase().replace(/[^a-z0-9]+/g, "-");
    const save = (format) =>
      library.downloadImage(plot, { format, filename: name(), width: plot.clientWidth, height: plot.clientHeight, scale: 2 });
    const act = (text, what, run) => el("button", { type: "button", text, "aria-label": `Save ${what}`, onclick: run });
    const named = (format) => `${model.get("title")} as ${format}`;

    function words() {
      title.textContent = model.get("title");
      title.title = model.get("hint");
      note.textContent = model.get("note");
      plot.setAttribute("aria-label", `${model.get("title")}. ${model.get("note")}`);
      actions.replaceChildren(
        act("PNG", named("PNG"), () => save("png")),
        act("SVG", named("SVG"), () => save("svg")),
        act("CSV", named("CSV"), () => download(`${name()}.csv`, new Blob([csv(plot._fullData, plot.layout)], { type: "text/csv" }))),
      );
    }

    // What is in sight comes first, and the rest as soon as the page has nothing else to do.
    function request() {
      stale = true;
      if (!model.get("figure")) draw();
      else (near ? onFrame : whenIdle)(() => stale && draw());
    }

    async function draw() {
      const blank = !model.get("figure");
      if (blank) {
        stale = false;
        say(model.get("empty"), "none");
        return;
      }
      try {
        library ??= await plotly(model);
      } catch (error) {
        console.error(error);
        say("plotly.js, which draws this chart, did not arrive. Reload the page.", "failed");
        return;
      }
      // Shown before it is measured, and measured before it is drawn.
      [empty.hidden, plot.hidden] = [true, false];
      if (!alive || !stale || !plot.clientWidth) return;
      [stale, width] = [false, plot.clientWidth];
      try {
        await paint();
      } catch (error) {
        console.error(error);
        say("This chart cannot be drawn; the console of the browser says why.", "failed");
      }
    }

    // Words in the place of the chart.
    function say(words_, ready) {
      empty.textContent = words_;
      [empty.hidden, plot.hidden, actions.hidden] = [false, true, true];
      card.dataset.ready = ready;
    }

    async function paint() {
      const figure = themed(model.get("figure"), isDark());
      const values = model.get("values");
      for (const trace of figure.data) if (values[trace.name]) [trace.x, trace.y, trace.text = trace.text] = values[trace.name];
      figure.layout.width = Math.max(plot.clientWidth, figure.layout.meta?.least ?? 0);
      folded(figure.layout, plot.clientWidth);
      figure.layout.shapes = marked(figure.layout, model.get("mark"));
      const known = plot.data !== undefined;
      const height = figure.layout.height ?? 320;
      // Plotly itself would give a legend half of the figure and let it scroll.
      if (figure.layout.legend) figure.layout.legend.maxheight = 10_000;
      await library.react(plot, figure.data, tall(figure.layout, height), { displayModeBar: false, responsive: false, doubleClick: "reset" });
      await makeRoom(height);
      if (!known) plot.on("plotly_click", (event) => clicked(event.points[0]));
      actions.hidden = false;
      card.dataset.traces = figure.data.length;
      card.dataset.version = Number(card.dataset.version ?? 0) + 1;
      card.dataset.ready = "yes";
    }

    function tall(layout, height) {
      plot.style.height = `${height + more}px`;
      return Object.assign(layout, { height: height + more });
    }

    // How many lines a legend takes is known when it is there; the chart grows by them, so that none is taken from the plot.
    async function makeRoom(height) {
      const needed = Math.max(0, Math.ceil(plot._fullLayout.legend?._height ?? 0) - LEGEND_LINE);
      if (needed === more) return;
      more = needed;
      await library.relayout(plot, { height: tall({}, height).height });
    }

    function clicked(point) {
      const { x, y, customdata, data } = point;
      met = performance.now();
      setTrait(model, "clicked", { x, y, customdata: customdata ?? null, name: data.name ?? "", at: Date.now() });
    }

    function remark() {
      if (card.dataset.ready === "yes") library.relayout(plot, { shapes: marked(plot.layout, model.get("mark")) });
    }

    // Plotly tells of clicks on points only; a click beside them still names a place on the axis.
    function clickedBeside(event) {
      const [, which] = /^(x\d*)y/.exec(event.target.closest?.(".draglayer > g")?.getAttribute("class") ?? "") ?? [];
      const axis = which && plot._fullLayout?.[which.replace("x", "xaxis")];
      if (!axis || performance.now() - met < CLICK) return;
      const x = axis.p2d(event.clientX - plot.getBoundingClientRect().left - axis._offset);
      if (Number.isFinite(x)) setTrait(model, "clicked", { x, at: Date.now() });
    }

    plot.addEventListener("click", clickedBeside);
    const observer = new ResizeObserver(() => {
      if (Math.abs(plot.clientWidth - width) < 2) return;
      width = plot.clientWidth;
      if (width) request();
    });
    observer.observe(card);
    const sight = new IntersectionObserver((seen) => {
      near = seen.at(-1).isIntersecting;
      if (near && stale) request();
    }, { rootMargin: MARGIN });
    sight.observe(card);
    const stops = [listen(model, ["figure", "values", "empty"], request), listen(model, ["mark"], remark), listen(model, ["title", "note", "hint"], words), onTheme(request)];
    words();
    request();
    return () => {
      alive = false;
      stops.forEach((stop) => stop());
      observer.disconnect();
      sight.disconnect();
      if (library && plot.data) library.purge(plot);
    };
  },
};
