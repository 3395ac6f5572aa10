import { become, el, link, swatch, colour } from "./draw.js";
import { Load, count, span } from "./load.js";

const TROUBLE = { draining: 1, ready: 0 };
const TYPES = 30; // that are shown

/** The overview: how the cluster is, a row for each node, types, and gates. */
export class Overview {
  constructor(cluster, root) {
    this.cluster = cluster;
    this.root = root;
    this.load = new Load(cluster);
    cluster.addEventListener("rates", () => { if (!root.hidden) this.draw(); });
  }

  draw() {
    const { scene } = this.cluster;
    if (!scene) return;
    become(this.root, [this.#health(scene), this.#nodes(scene), this.#types(), this.#gates(scene)]);
  }

  #health(scene) {
    const { level, reasons } = scene.health;
    const list = reasons.length ? reasons : [`All ${this.cluster.shards.length} shards are held by the nodes that should hold them.`];
    return el("div", { class: "card" },
      el("h2", { "data-level": level }, words[level] ?? level),
      el("ul", { class: "reasons" }, list.map((r) => el("li", {}, r))),
    );
  }

  #nodes(scene) {
    const rate = (n) => this.load.node(n.address) ?? {};
    const trouble = (n) => [TROUBLE[n.state] ?? 2, rate(n).silent ? 1 : 0, rate(n).errors ?? 0, rate(n).queued ?? 0, n.in + n.out];
    const rows = scene.nodes.map((n) => ({ n, t: trouble(n) })).sort((a, b) => first(a.t, b.t) || (a.n.address < b.n.address ? -1 : 1));
    const ready = scene.nodes.filter((n) => n.state === "ready").length;
    const ideal = ready ? this.cluster.shards.length / ready : 0;
    const most = Math.max(1, ideal, ...scene.nodes.map((n) => Math.max(n.held, n.target)));
    const heads = ["node", "state", "#shards", "", "#to come", "#to leave", "#objects", "#calls/s", "5 minutes", "#errors/s", "#p50", "#p99", "#queue", "#commits/s", "version", "types"];
    return el("div", { class: "card" },
      el("h2", {}, `Nodes (${scene.nodes.length})`),
      scene.nodes.length === 0 ? el("p", { class: "soft" }, "None. Start one with this etcd and prefix, and it appears here.") :
        table(heads, rows.map(({ n }) => this.#row(n, rate(n), ideal, most))));
  }

  #row(n, r, ideal, most) {
    const bar = el("div", { class: "bar", title: `${n.held} held, ${n.target} should be; ${Math.round(ideal)} would be even` }, el("i"), el("b"));
    bar.children[0].style.cssText = `width:${(100 * n.held) / most}%;background:${colour(this.cluster, n.address)}`;
    bar.children[1].style.left = `${(100 * ideal) / most}%`;
    const number = (text, name) => el("td", { class: "n", "data-rate": name }, r.silent ? "–" : text);
    const row = el("tr", { class: "row", "data-node": n.address },
      el("td", {}, swatch(this.cluster, n.address), el("a", { href: link("node", n.address), class: "mono" }, n.address), n.leader ? " ★ leads" : ""),
      el("td", { "data-level": r.silent ? "troubled" : undefined, title: r.silent }, n.state + (n.by_operator ? " (by an operator)" : "") + (r.silent ? ", silent" : "")),
      el("td", { class: "n" }, String(n.held)), el("td", {}, bar),
      el("td", { class: "n" }, String(n.in)), el("td", { class: "n" }, String(n.out)),
      number(count(r.objects ?? 0), "objects"), number(count(r.calls ?? 0), "calls"), el("td", {}, this.load.line(n.address)),
      number(count(r.errors ?? 0), "errors"), number(span(r.p50), "p50"), number(span(r.p99), "p99"), number(count(r.queued ?? 0), "queued"), number(count(r.commits ?? 0), "commits"),
      el("td", { class: "mono" }, n.version || "–"), el("td", {}, n.types.join(", ") || "–"));
    row.addEventListener("click", () => { location.hash = link("node", n.address); });
    return row;
  }

  #types() {
    const types = new Map();
    for (const [name, , objects, calls, errors] of this.cluster.rates?.types ?? []) {
      const t = types.get(name) ?? { name, nodes: 0, objects: 0, calls: 0, errors: 0 };
      types.set(name, { name, nodes: t.nodes + 1, objects: t.objects + objects, calls: t.calls + calls, errors: t.errors + errors });
    }
    const rows = [...types.values()].sort((a, b) => b.errors - a.errors || b.calls - a.calls || b.objects - a.objects || (a.name < b.name ? -1 : 1));
    return el("div", { class: "card" }, el("h2", {}, `Types (${rows.length})`),
      rows.length === 0 ? el("p", { class: "soft" }, this.cluster.rates ? "No object lives, and none is called." : "The nodes are asked…") :
        table(["type", "#nodes", "#objects", "#calls/s", "#errors/s"], rows.slice(0, TYPES).map((t) => el("tr", { "data-type": t.name },
          el("td", {}, el("a", { href: `#/objects?type=${encodeURIComponent(t.name)}` }, t.name)),
          ...[t.nodes, t.objects, t.calls, t.errors].map((n) => el("td", { class: "n" }, count(n)))))),
      rows.length > TYPES ? el("p", { class: "soft" }, `and ${rows.length - TYPES} more, with less to do`) : "");
  }

  #gates(scene) {
    const told = this.cluster.rates?.gates ?? [];
    const rows = [...told, ...scene.gates.filter((g) => !told.some((t) => t.address === g)).map((address) => ({ address, silent: "it is asked" }))];
    return el("div", { class: "card" },
      el("h2", {}, `Gates (${rows.length})`),
      rows.length === 0 ? el("p", { class: "soft" }, "None is known yet. A gate is seen some seconds after it has begun.") :
        table(["gate", "#clients", "#calls/s", "#pushes/s"], rows.map((g) => el("tr", { "data-gate": g.address, title: g.silent },
          el("td", { class: "mono" }, g.address, scene.gates.includes(g.address) ? "" : el("span", { class: "soft" }, " beside a node")),
          ...[g.clients, g.calls, g.pushes].map((n) => el("td", { class: "n" }, g.silent ? "–" : count(n)))))));
  }
}

/** A table; the columns whose heads begin with # are numbers. */
export function table(heads, rows) {
  return el("table", {},
    el("thead", {}, el("tr", {}, heads.map((h) => el("th", { class: h.startsWith("#") ? "n" : "", scope: "col" }, h.replace("#", ""))))),
    el("tbody", {}, rows));
}

/** Which of two lists of numbers is first: the one that is larger where they first differ. */
function first(a, b) {
  const i = a.findIndex((v, at) => v !== b[at]);
  return i < 0 ? 0 : b[i] - a[i];
}

export const words = { well: "All is well", working: "At work", troubled: "Something is in the way", suffering: "Calls wait" };
