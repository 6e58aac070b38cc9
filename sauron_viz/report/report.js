// What widgets expect of a notebook, without one: a model that holds their state and tells of changes.

class Model {
  constructor(state, library) {
    this.state = state;
    this.listeners = new Map();
    this.widget_manager = { get_model: async () => library };
  }

  get(name) {
    return name === "library" ? "IPY_MODEL_plotly" : this.state[name];
  }

  set(name, value) {
    if (this.state[name] === value) return;
    this.state[name] = value;
    for (const listener of this.listeners.get(`change:${name}`) ?? []) listener();
  }

  on(event, listener) {
    this.listeners.set(event, [...(this.listeners.get(event) ?? []), listener]);
  }

  off(event, listener) {
    this.listeners.set(event, (this.listeners.get(event) ?? []).filter((other) => other !== listener));
  }

  save_changes() {}

  send() {}
}

function unpacked(id) {
  const text = atob(document.getElementById(id).textContent);
  return new DataView(Uint8Array.from(text, (sign) => sign.charCodeAt(0)).buffer);
}

const library = { get: () => unpacked("plotly") };
const read = (id) => JSON.parse(document.getElementById(id).textContent);
const models = read("widgets").map(([kind, state]) => [kind, new Model(state, library)]);

for (const [from, trait, to, other] of read("links")) {
  models[from][1].on(`change:${trait}`, () => models[to][1].set(other, models[from][1].get(trait)));
}

function draw(place) {
  if (place.dataset.drawn) return;
  place.dataset.drawn = "yes";
  const [kind, model] = models[Number(place.dataset.widget)];
  KINDS[kind].render({ model, el: place });
}

// Many runs have many charts: each is drawn when it is nearly in sight, and all of them for a print.
const places = [...document.querySelectorAll("[data-widget]")];
const watcher = new IntersectionObserver(
  (seen) => {
    for (const { target, isIntersecting } of seen) {
      if (!isIntersecting) continue;
      watcher.unobserve(target);
      draw(target);
    }
  },
  { rootMargin: "900px" },
);
// Paper has nothing to click on.
function whole() {
  places.forEach(draw);
  document.querySelectorAll("details").forEach((one) => (one.open = true));
}

if (location.hash === "#print") whole();
else places.forEach((place) => watcher.observe(place));
addEventListener("beforeprint", whole);
