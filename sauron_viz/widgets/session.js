// Asks the kernel once a second whether it is there (the kernel looks at the run folder when asked), says so when it is
// not, and keeps the state of the view in the page's address.

const EVERY = 1000;
const PATIENCE = 8000;

export default {
  render({ model, el: root }) {
    // In JupyterLab a new page would not bring the kernel back, running the cell again does.
    const served = document.body.dataset.voila !== undefined;
    const notice = el("div", { class: "sauron-lost", role: "alert", hidden: true });
    const said = el("span", {});
    const again = el("button", { type: "button", text: "Reload the page", onclick: () => location.reload() });
    notice.append(said, el("div", { class: "sauron-actions sauron-buttons", hidden: !served }, again));
    root.append(notice);
    // Voila's page has no landmark of its own; in JupyterLab there is no such element.
    document.getElementById("rendered_cells")?.setAttribute("role", "main");
    let unanswered = 0;

    function lost(yes) {
      if (notice.hidden !== yes) return;
      said.textContent = yes ? (served ? "Session lost" : "Session lost – run the cell again") : "";
      notice.hidden = !yes;
    }

    function ping() {
      const now = performance.now();
      if (unanswered && now - unanswered > PATIENCE) lost(true);
      if (!unanswered) unanswered = now;
      try {
        model.send({ ping: 1 });
      } catch {
        lost(true);
      }
    }

    function pong() {
      unanswered = 0;
      lost(false);
      // What is live beats with it. An animation of the style sheet would be painted sixty times a second.
      root.closest(".sauron")?.classList.toggle("sauron-beat");
    }

    function address() {
      const query = model.get("query");
      if (!served || !query) return;
      history.replaceState(null, "", `${location.pathname}?${query}`);
    }

    const stops = [listen(model, ["msg:custom"], pong), listen(model, ["query"], address)];
    const timer = setInterval(ping, EVERY);
    ping();
    address();
    return () => {
      clearInterval(timer);
      stops.forEach((stop) => stop());
    };
  },
};
