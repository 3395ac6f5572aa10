// The colours of the graph, as strings and as mixtures.

/** The page's colours as they are now, light or dark. */
export function palette(root) {
  const probe = root.appendChild(document.createElement("i"));
  const read = (name) => {
    probe.style.color = `var(--${name})`;
    return getComputedStyle(probe).color.match(/[\d.]+/g).slice(0, 3).map(Number);
  };
  const p = { page: read("page"), panel: read("panel"), ink: read("ink"), soft: read("soft"), line: read("line"), alert: read("suffering"), accent: read("accent") };
  probe.remove();
  return p;
}

const parsed = new Map(); // of #rrggbb

function parse(colour) {
  if (Array.isArray(colour)) return colour;
  if (!parsed.has(colour)) parsed.set(colour, [1, 3, 5].map((i) => parseInt(colour.slice(i, i + 2), 16)));
  return parsed.get(colour);
}

/** A colour between two; much of the first. */
export function mix(a, b, much) {
  const [x, y] = [parse(a), parse(b)];
  return `#${x.map((v, i) => Math.round(v * much + y[i] * (1 - much)).toString(16).padStart(2, "0")).join("")}`;
}
