// The field that finds things: nodes, gates, types, shards and objects, as one types.

import { el } from "./draw.js";
import { ask } from "./feed.js";

const MOST = 12; // results
const OBJECTS = 5; // of them objects
const WAIT = 150; // ms without a key before the nodes are asked for objects

/** What a text may mean of what the page knows: [{kind, id, words}], the likeliest first. */
export function found(cluster, text) {
  const q = text.trim().toLowerCase();
  if (!q || !cluster.scene) return [];
  const list = [];
  const shard = q.match(/^(?:shard\s*#?\s*)?(\d{1,5})$/);
  if (shard && Number(shard[1]) < cluster.shards.length) list.push({ kind: "shard", id: String(Number(shard[1])), words: cluster.shards[Number(shard[1])][3] });
  const has = (id) => id.toLowerCase().includes(q);
  for (const n of cluster.scene.nodes) if (has(n.address)) list.push({ kind: "node", id: n.address, words: n.state });
  const gates = new Set([...cluster.scene.gates, ...(cluster.rates?.gates ?? []).map((g) => g.address)]);
  for (const g of gates) if (has(g) || "gate".startsWith(q)) list.push({ kind: "gate", id: g, words: "" });
  const types = new Set([...cluster.scene.nodes.flatMap((n) => n.types ?? []), ...(cluster.rates?.types ?? []).map(([name]) => name)]);
  for (const t of [...types].sort()) if (has(t)) list.push({ kind: "type", id: t, words: "" });
  const exact = (r) => (r.id.toLowerCase() === q ? 0 : r.id.toLowerCase().startsWith(q) ? 1 : 2);
  return list.sort((a, b) => exact(a) - exact(b)).slice(0, MOST);
}

/** Where an object may be looked for: Type/beginning, or the beginning of an id. */
export function objectsLike(text) {
  const q = text.trim();
  const slash = q.indexOf("/");
  return slash > 0 ? { type: q.slice(0, slash), prefix: q.slice(slash + 1), limit: OBJECTS } : { prefix: q, limit: OBJECTS };
}

/** A combobox: the field, and the list of what was found. */
export class Search {
  #results = [];
  #at = -1;
  #asked = 0;
  #wait = 0;

  constructor(cluster, form, field) {
    Object.assign(this, { cluster, form, field });
    this.list = el("ul", { id: "results", role: "listbox", "aria-label": "What was found", hidden: true });
    form.append(this.list);
    for (const [name, value] of Object.entries({ role: "combobox", "aria-autocomplete": "list", "aria-controls": "results", "aria-expanded": "false" })) field.setAttribute(name, value);
    field.addEventListener("input", () => this.#look());
    field.addEventListener("focus", () => this.#look());
    field.addEventListener("keydown", (e) => this.#key(e));
    field.addEventListener("blur", () => this.#close());
    form.addEventListener("submit", (e) => { e.preventDefault(); this.#open(this.#results[Math.max(0, this.#at)]); });
    this.list.addEventListener("mousedown", (e) => e.preventDefault()); // the field keeps the focus until the click
  }

  #look() {
    clearTimeout(this.#wait);
    const asked = ++this.#asked;
    const text = this.field.value;
    const known = found(this.cluster, text);
    this.#show(known);
    if (text.trim().length < 2) return;
    this.#wait = setTimeout(async () => {
      const page = await ask(`/api/objects?${new URLSearchParams(objectsLike(text))}`).catch(() => null); // who cannot say has no results
      if (asked !== this.#asked || !page) return;
      const objects = page.objects.slice(0, OBJECTS).map((o) => ({ kind: "object", id: `${o.type}/${o.id}`, words: o.node }));
      this.#show([...known.slice(0, MOST - objects.length), ...objects]);
    }, WAIT);
  }

  #show(results) {
    const chosen = this.#results[this.#at];
    this.#results = results;
    this.#at = chosen ? results.findIndex((r) => r.kind === chosen.kind && r.id === chosen.id) : -1;
    this.list.replaceChildren(...results.map((r, i) => el("li", { id: `result-${i}`, role: "option", onclick: () => this.#open(r) }, el("span", { class: "soft" }, r.kind), el("span", { class: "mono" }, r.id), el("span", { class: "soft" }, r.words))));
    this.list.hidden = results.length === 0 || document.activeElement !== this.field;
    this.#mark();
  }

  #mark() {
    [...this.list.children].forEach((li, i) => li.setAttribute("aria-selected", String(i === this.#at)));
    this.field.setAttribute("aria-expanded", String(!this.list.hidden));
    if (this.#at < 0) this.field.removeAttribute("aria-activedescendant");
    else this.field.setAttribute("aria-activedescendant", `result-${this.#at}`);
    this.list.children[this.#at]?.scrollIntoView({ block: "nearest" });
  }

  #key(e) {
    const many = this.#results.length;
    if (e.key === "Escape") { // first of the results, then of the field; the sidebar stays
      e.stopPropagation();
      e.preventDefault();
      if (this.list.hidden) this.field.blur();
      this.#close();
    }
    const step = { ArrowDown: 1, ArrowUp: -1 }[e.key];
    if (!step || !many) return;
    e.preventDefault();
    this.list.hidden = false;
    this.#at = this.#at < 0 ? (step > 0 ? 0 : many - 1) : (this.#at + step + many) % many;
    this.#mark();
  }

  #close() {
    clearTimeout(this.#wait);
    this.#asked++;
    this.list.hidden = true;
    this.#at = -1;
    this.#mark();
  }

  /** Goes to a result; without one, to what the text itself names. */
  #open(result) {
    const q = this.field.value.trim();
    this.#close();
    this.field.blur();
    const view = location.hash.slice(2).split("?")[0] || "overview";
    const to = { node: "overview", gate: "graph", type: "graph", shard: "shards", object: "objects" };
    if (result) location.hash = `#/${result.kind === "node" ? view : to[result.kind]}?sel=${result.kind}:${encodeURIComponent(result.id)}`;
    else if (q.includes("/")) location.hash = `#/objects?sel=object:${encodeURIComponent(q)}`;
    else if (/:\d+$/.test(q)) location.hash = `#/${view}?sel=node:${encodeURIComponent(q)}`;
    else if (q) location.hash = `#/objects?prefix=${encodeURIComponent(q)}`;
  }
}
