import { el, link, ago, clock, exact } from "./draw.js";

const SHOWN = 300;
const TOGETHER = 10_000; // ms in which what happens to shards alike is one line
const KINDS = ["node", "gate", "leader", "cluster", "shards", "action"];
const BARS = 60;
const SHORTEST = 20; // ms of a bar that can be pressed

/** What happened, newest first, each with its reason; of all that is kept, or of a part of that time. */
export class Timeline {
  #filter = "";
  #kind = "";
  #span = null; // [from, to] in ms that one has zoomed to; null: all

  constructor(cluster, root) {
    this.cluster = cluster;
    this.root = root;
    const filter = el("input", { type: "search", placeholder: "filter: a node, a kind, a word", "aria-label": "Filter the timeline" });
    filter.addEventListener("input", () => { this.#filter = filter.value.toLowerCase(); this.draw(); });
    this.list = el("ul", { class: "changes" });
    this.note = el("p", { class: "soft" });
    const kind = el("select", { "aria-label": "Show one kind", onchange: () => { this.#kind = kind.value; this.draw(); } }, el("option", { value: "" }, "every kind"), KINDS.map((k) => el("option", { value: k }, k)));
    this.all = el("button", { type: "button", hidden: true, onclick: () => this.#zoom(null) }, "All of the time");
    this.bars = el("div", { class: "bars", role: "group", "aria-label": "How much happened when; press a bar to see that time only" });
    root.append(el("div", { class: "tools" }, filter, kind, this.all, this.note), this.bars, this.list);
  }

  draw() {
    if (this.root.hidden) return;
    const kept = this.cluster.changes.filter((c) => (!this.#kind || c.kind === this.#kind) && (!this.#filter || `${c.kind} ${c.text} ${c.reason ?? ""}`.toLowerCase().includes(this.#filter)));
    const found = this.#span ? kept.filter((c) => c.at >= this.#span[0] && c.at < this.#span[1]) : kept;
    this.#chart(found);
    const lines = together(found);
    const when = this.#span ? `${clock(this.#span[0])} to ${clock(this.#span[1])}` : "";
    this.note.textContent = [when, lines.length === 0 ? "nothing" : "", lines.length > SHOWN ? `the newest ${SHOWN} of ${lines.length}` : ""].filter(Boolean).join(", ");
    this.list.replaceChildren(...lines.slice(-SHOWN).reverse().map((c) => this.#item(c)));
  }

  #zoom(span) {
    this.#span = span;
    this.all.hidden = !span;
    this.draw();
  }

  /** A bar for each part of the time; one that has something in it can be pressed. */
  #chart(found) {
    const now = Date.now() + 1;
    const [from, to] = this.#span ?? [Math.min(this.cluster.changes[0]?.at ?? 0, now - BARS * SHORTEST), now]; // never so short that no bar can be pressed
    const part = Math.max(1, (to - from) / BARS);
    const counts = new Array(BARS).fill(0);
    for (const c of found) counts[Math.min(BARS - 1, Math.floor((c.at - from) / part))]++;
    const most = Math.max(...counts);
    this.bars.replaceChildren(...counts.map((n, i) => {
      const begins = from + i * part;
      const bar = el("button", { type: "button", disabled: n === 0 || part < SHORTEST, title: `${n} at ${clock(begins)}`, "aria-label": `${n} from ${clock(begins)} to ${clock(begins + part)}`, onclick: () => this.#zoom([begins, begins + part]) }, el("i"));
      bar.firstChild.style.height = n ? `${15 + (85 * Math.log(1 + n)) / Math.log(1 + most)}%` : "1px";
      return bar;
    }));
  }

  #item(c) {
    return el("li", {},
      el("time", { datetime: exact(c.at), title: `${exact(c.at)}, ${ago(c.at)}` }, clock(c.at)),
      el("span", { class: "tag", "data-kind": c.kind }, c.kind),
      el("span", {}, linked(c), c.reason ? el("span", { class: "reason" }, ` — ${c.reason}`) : "",
        c.shards?.length ? el("span", { class: "reason" }, " (", c.shards.slice(0, 4).flatMap((id, i) => [i ? ", " : "", el("a", { href: link("shard", id) }, String(id))]), c.count > 4 ? ` and ${c.count - 4} more)` : ")") : "",
        " ", el("a", { class: "then", href: `#/shards?at=${c.at}`, "aria-label": `the map of shards at ${clock(c.at)}` }, "map then")));
  }
}

/** The text, with links to the nodes and the gate that it is about. */
function linked({ kind, text, node, from }) {
  const gate = kind === "gate" && text.match(/\S+:\d+/)?.[0];
  const parts = [text];
  for (const [what, address] of [["node", node], ["node", from], ["gate", gate]]) {
    const i = parts.findIndex((p) => address && typeof p === "string" && p.includes(address));
    if (i < 0) continue;
    const at = parts[i].indexOf(address);
    parts.splice(i, 1, parts[i].slice(0, at), el("a", { href: link(what, address) }, address), parts[i].slice(at + address.length));
  }
  return parts;
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
