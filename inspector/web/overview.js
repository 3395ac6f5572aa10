import { el, link, swatch, colour } from "./draw.js";

const TROUBLE = { draining: 1, ready: 0 };

/** The overview: how the cluster is, a row for each node, the gates. */
export class Overview {
  constructor(cluster, root) {
    this.cluster = cluster;
    this.root = root;
  }

  draw() {
    const { scene } = this.cluster;
    if (!scene) return;
    this.root.replaceChildren(this.#health(scene), this.#nodes(scene), this.#gates(scene));
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
    const rows = [...scene.nodes].sort((a, b) => (TROUBLE[b.state] ?? 2) - (TROUBLE[a.state] ?? 2) || b.in + b.out - (a.in + a.out) || (a.address < b.address ? -1 : 1));
    const ready = scene.nodes.filter((n) => n.state === "ready").length;
    const ideal = ready ? this.cluster.shards.length / ready : 0;
    const most = Math.max(1, ideal, ...scene.nodes.map((n) => Math.max(n.held, n.target)));
    const heads = ["node", "state", "shards", "", "to come", "to leave", "version", "types"];
    return el("div", { class: "card" },
      el("h2", {}, `Nodes (${scene.nodes.length})`),
      scene.nodes.length === 0 ? el("p", { class: "soft" }, "None. Start one with this etcd and prefix, and it appears here.") :
        el("table", {},
          el("thead", {}, el("tr", {}, heads.map((h, i) => el("th", { class: [2, 4, 5].includes(i) ? "n" : "" }, h)))),
          el("tbody", {}, rows.map((n) => this.#row(n, ideal, most)))),
    );
  }

  #row(n, ideal, most) {
    const bar = el("div", { class: "bar", title: `${n.held} held, ${n.target} should be; ${Math.round(ideal)} would be even` }, el("i"), el("b"));
    bar.children[0].style.cssText = `width:${(100 * n.held) / most}%;background:${colour(this.cluster, n.address)}`;
    bar.children[1].style.left = `${(100 * ideal) / most}%`;
    const row = el("tr", { class: "row", "data-node": n.address },
      el("td", {}, swatch(this.cluster, n.address), el("a", { href: link("node", n.address), class: "mono" }, n.address), n.leader ? " ★ leads" : ""),
      el("td", {}, n.state + (n.by_operator ? " (by an operator)" : "")),
      el("td", { class: "n" }, String(n.held)), el("td", {}, bar),
      el("td", { class: "n" }, String(n.in)), el("td", { class: "n" }, String(n.out)),
      el("td", { class: "mono" }, n.version || "–"), el("td", {}, n.types.join(", ") || "–"));
    row.addEventListener("click", () => { location.hash = link("node", n.address); });
    return row;
  }

  #gates(scene) {
    return el("div", { class: "card" },
      el("h2", {}, `Gates (${scene.gates.length})`),
      scene.gates.length ? el("ul", {}, scene.gates.map((g) => el("li", { class: "mono" }, g))) :
        el("p", { class: "soft" }, "No gate has a process of its own. Programs that run a gate beside their node are among the nodes."));
  }
}

export const words = { well: "All is well", working: "At work", troubled: "Something is in the way", suffering: "Calls wait" };
