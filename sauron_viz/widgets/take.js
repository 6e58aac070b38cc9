// What can be taken away of a grid: a picture with its caption, as pixels or as SVG.

const HEAD = 46;

function fileName(grid) {
  return grid.title.textContent.toLowerCase().replace(/[^a-z0-9_.]+/g, "-").replace(/^-|-$/g, "");
}

// All maps, also those scrolled out of sight, on the page's own background, under title and caption.
function takePng(grid) {
  const dpr = window.devicePixelRatio || 1;
  const maps = el("canvas");
  grid.paint(maps, grid.scroller.clientWidth - 4, grid.plan.height, 0);
  const canvas = el("canvas", { width: maps.width, height: maps.height + Math.round(HEAD * dpr) });
  const context = canvas.getContext("2d");
  context.fillStyle = cssColour("--sauron-raised", "#fff");
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.drawImage(maps, 0, canvas.height - maps.height);
  const font = cssColour("--sauron-font", "sans-serif");
  context.fillStyle = cssColour("--sauron-text", "#222");
  context.font = `650 ${14 * dpr}px ${font}`;
  context.fillText(grid.title.textContent, 2 * dpr, 17 * dpr);
  context.fillStyle = cssColour("--sauron-soft", "#666");
  context.font = `${11.5 * dpr}px ${font}`;
  context.fillText(grid.model.get("caption"), 2 * dpr, 34 * dpr, canvas.width - 4 * dpr);
  canvas.toBlob((blob) => download(`${fileName(grid)}.png`, blob));
}

const escaped = (text) => String(text).replace(/[&<>"]/g, (c) => ({ "&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;" })[c]);

// Each map is an image of its own at its own resolution, so that an editor can move it, and nothing is blurred.
function takeSvg(grid) {
  const { frame, plan, rows } = grid;
  const atlas = paintAtlas(frame, grid.table, grid.model.get("scale"));
  const tile = el("canvas", { width: frame.w, height: frame.h });
  const context = tile.getContext("2d");
  const tall = Math.round(plan.cell * grid.ratio());
  const [text, soft] = [cssColour("--sauron-text", "#222"), cssColour("--sauron-soft", "#666")];
  const parts = [
    `<text x="0" y="16" font-size="14" font-weight="650" fill="${text}">${escaped(grid.title.textContent)}</text>`,
    `<text x="0" y="33" font-size="11.5" fill="${soft}">${escaped(grid.model.get("caption"))}</text>`,
  ];
  rows.forEach((m, place) => {
    const x = (place % plan.columns) * (plan.cell + plan.gap);
    const y = HEAD + Math.floor(place / plan.columns) * plan.row;
    if (frame.seen[m]) {
      context.drawImage(atlas.canvas, (m % atlas.across) * frame.w, Math.floor(m / atlas.across) * frame.h, frame.w, frame.h, 0, 0, frame.w, frame.h);
      const faded = frame.alive[m] ? "" : ' opacity="0.35"';
      parts.push(
        `<image x="${x}" y="${y}" width="${plan.cell}" height="${tall}" preserveAspectRatio="none"${faded} style="image-rendering:pixelated" href="${tile.toDataURL()}"/>`,
      );
    }
    if (!frame.alive[m]) {
      parts.push(`<path d="M${x} ${y}l${plan.cell} ${tall}m0 ${-tall}l${-plan.cell} ${tall}" stroke="${soft}" fill="none"/>`);
    }
    if (plan.caption) {
      parts.push(
        `<text x="${x + plan.cell / 2}" y="${y + tall + 11}" font-size="${plan.cell < 40 ? 9.5 : 11}" text-anchor="middle" fill="${soft}">${frame.filter[m]}</text>`,
      );
    }
  });
  const width = plan.columns * (plan.cell + plan.gap);
  const height = HEAD + plan.height;
  const font = escaped(cssColour("--sauron-font", "sans-serif"));
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" font-family="${font}">${parts.join("")}</svg>`;
  download(`${fileName(grid)}.svg`, new Blob([svg], { type: "image/svg+xml" }));
}

// What the grid says of its maps as a table, in the order in which they stand.
function takeCsv(grid) {
  const { frame, rows } = grid;
  const names = ["filter", "low", "high", "variance", "toReference", "nearest", "nearestDistance", "deltaPrune", "gone", "threshold", "seen", "cluster"];
  const heads = ["filter", "low", "high", "variance", "distance_to_reference", "nearest", "nearest_distance", "delta_prune", "removed_at_epoch", "removed_at_threshold", "picture_of_epoch", "cluster"];
  // An epoch of 0 and a cluster of -1 stand for none; clusters are only known where they were asked for.
  const missing = { gone: (value) => value === 0, cluster: (value) => value < 0, nearest: (value) => value < 0 };
  const cell = (name, value) => (Number.isFinite(value) && !missing[name]?.(value) ? Number(value.toPrecision(7)) : "");
  const lines = rows.map((m) => names.map((name) => cell(name, frame[name][m])).join(","));
  download(`${fileName(grid)}.csv`, new Blob([`${heads.join(",")}\n${lines.join("\n")}\n`], { type: "text/csv" }));
}
