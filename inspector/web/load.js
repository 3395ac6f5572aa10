// How busy the cluster was in the last minutes: what the feed's rates say, kept for each
// node, and drawn as small lines.

const KEPT = 300; // frames: five minutes
const SVG = "http://www.w3.org/2000/svg";

/** What each node did lately. */
export class Load {
  #history = new Map(); // address → [calls per second], oldest first

  constructor(cluster) {
    this.cluster = cluster;
    cluster.addEventListener("rates", () => this.#take(cluster.rates));
  }

  #take(rates) {
    const kept = new Map();
    for (const n of rates.nodes) {
      const list = this.#history.get(n.address) ?? [];
      list.push(n.silent ? null : n.calls);
      list.splice(0, list.length - KEPT);
      kept.set(n.address, list);
    }
    this.#history = kept;
  }

  node(address) {
    return this.cluster.rates?.nodes.find((n) => n.address === address);
  }

  /** The calls of the last five minutes as a line; where the node was silent there is none. */
  line(address) {
    const values = this.#history.get(address) ?? [];
    const most = Math.max(1, ...values.filter((v) => v !== null));
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("class", "line");
    svg.setAttribute("viewBox", `0 0 ${KEPT} 20`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("role", "img");
    svg.setAttribute("aria-label", `calls per second in the last ${Math.max(1, Math.round(values.length / 60))} minutes: at most ${count(most)}`);
    let pen = "M";
    const path = values.map((v, i) => {
      if (v === null) { pen = "M"; return ""; }
      const point = `${pen}${KEPT - values.length + i} ${(19 - (18 * v) / most).toFixed(1)}`;
      pen = "L";
      return point;
    }).join("");
    const stroke = document.createElementNS(SVG, "path");
    stroke.setAttribute("d", path);
    svg.append(stroke);
    return svg;
  }
}

/** A number that fits a column. */
export function count(n) {
  if (n >= 1e6) return `${(n / 1e6).toFixed(1)}M`;
  if (n >= 1e4) return `${(n / 1e3).toFixed(1)}k`;
  return n >= 10 || Number.isInteger(n) ? String(Math.round(n)) : n.toFixed(1);
}

/** Microseconds in a unit that fits. */
export function span(micros) {
  if (!micros) return "–";
  if (micros < 1000) return `${micros} µs`;
  return micros < 1e6 ? `${(micros / 1e3).toFixed(micros < 1e4 ? 1 : 0)} ms` : `${(micros / 1e6).toFixed(1)} s`;
}
