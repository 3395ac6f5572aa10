import { el, link, ago, clock, exact } from "./draw.js";

const SHOWN = 300;
const TOGETHER = 10_000; // ms in which what happens to shards alike is one line

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
    const lines = together(found);
    this.note.textContent = lines.length > SHOWN ? `the newest ${SHOWN} of ${lines.length}` : "";
    this.list.replaceChildren(...lines.slice(-SHOWN).reverse().map((c) => this.#item(c)));
  }

  #item(c) {
    return el("li", {},
      el("time", { datetime: exact(c.at), title: `${exact(c.at)}, ${ago(c.at)}` }, clock(c.at)),
      el("span", { class: "tag", "data-kind": c.kind }, c.kind),
      el("span", {}, c.node ? el("a", { href: link("node", c.node) }, c.text) : c.text, c.reason ? el("span", { class: "reason" }, ` — ${c.reason}`) : "",
        c.shards?.length ? el("span", { class: "reason" }, " (", c.shards.slice(0, 4).flatMap((id, i) => [i ? ", " : "", el("a", { href: link("shard", id) }, String(id))]), c.count > 4 ? ` and ${c.count - 4} more)` : ")") : ""));
  }
}

/** Changes with those of shards that went the same way for the same reason made one. */
export function together(changes) {
  const lines = [];
  const open = new Map();
  for (const c of changes) {
    const way = c.kind === "shards" ? `${c.text.replace(/\d+ shards?/, "")} ${c.reason}` : "";
    const line = way && open.get(way);
    if (line && c.at - line.at < TOGETHER) {
      line.count += c.count;
      line.at = c.at;
      line.text = line.text.replace(/\d+ shards?/, `${line.count} shards`);
      continue;
    }
    const fresh = { ...c };
    lines.push(fresh);
    if (way) open.set(way, fresh);
    else open.clear(); // what follows may have another cause
  }
  return lines.sort((a, b) => a.at - b.at);
}
