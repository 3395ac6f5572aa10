import { el, link, ago, clock, exact } from "./draw.js";

const SHOWN = 300;

/** What happened, newest first, each with its reason. */
export class Timeline {
  #filter = "";

  constructor(cluster, root) {
    this.cluster = cluster;
    this.root = root;
    const filter = el("input", { type: "search", placeholder: "filter: a node, a kind, a word", "aria-label": "Filter the timeline" });
    filter.addEventListener("input", () => { this.#filter = filter.value.toLowerCase(); this.draw(); });
    this.list = el("ul", { class: "changes" });
    this.note = el("p", { class: "soft" });
    root.append(el("div", { class: "tools" }, filter, this.note), this.list);
  }

  draw() {
    if (this.root.hidden) return;
    const found = this.cluster.changes.filter((c) => !this.#filter || `${c.kind} ${c.text} ${c.reason ?? ""}`.toLowerCase().includes(this.#filter));
    this.note.textContent = found.length > SHOWN ? `the newest ${SHOWN} of ${found.length}` : `${found.length} of the last ${this.cluster.changes.length}`;
    this.list.replaceChildren(...found.slice(-SHOWN).reverse().map((c) => this.#item(c)));
  }

  #item(c) {
    return el("li", {},
      el("time", { datetime: exact(c.at), title: `${exact(c.at)}, ${ago(c.at)}` }, clock(c.at)),
      el("span", { class: "tag", "data-kind": c.kind }, c.kind),
      el("span", {}, c.node ? el("a", { href: link("node", c.node) }, c.text) : c.text, c.reason ? el("span", { class: "reason" }, ` — ${c.reason}`) : "",
        c.shards?.length ? el("span", { class: "reason" }, " (", c.shards.slice(0, 4).flatMap((id, i) => [i ? ", " : "", el("a", { href: link("shard", id) }, String(id))]), c.count > 4 ? ` and ${c.count - 4} more)` : ")") : ""));
  }
}
