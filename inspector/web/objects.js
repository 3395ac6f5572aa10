import { ago, el, link, swatch } from "./draw.js";
import { ask } from "./feed.js";
import { table } from "./overview.js";

const PAGE = 100;
const FILTERS = ["type", "node", "prefix"];

/** The objects that live on the nodes: a page after the other, filtered. */
export class Objects {
  #asked = 0;
  #before = []; // the places before the pages that were left
  #after = "";
  #drawn = "";
  #query = "";

  constructor(cluster, root, say) {
    Object.assign(this, { cluster, root, say });
    const field = (name, label) => el("input", { type: "search", name, "aria-label": label, placeholder: label, autocomplete: "off", spellcheck: "false" });
    this.type = field("type", "type");
    this.node = field("node", "node");
    this.prefix = field("prefix", "the id begins with");
    this.form = el("form", { class: "tools", role: "search", "aria-label": "Filter the objects" }, this.type, this.node, this.prefix, el("button", { type: "submit" }, "Show"));
    this.form.addEventListener("submit", (e) => { e.preventDefault(); this.#name(); });
    this.body = el("div", {});
    root.append(this.form, this.body);
  }

  /** The address has the filter: so it can be shared, and one can go back to it. */
  draw() {
    const query = location.hash.split("?")[1] ?? "";
    if (query === this.#query && this.#drawn) return;
    this.#query = query;
    const given = new URLSearchParams(query);
    for (const name of FILTERS) this[name].value = given.get(name) ?? "";
    if (this.#filter() !== this.#drawn) this.#first();
  }

  /** Puts the filter into the address; the same again asks the nodes again. */
  #name() {
    const given = FILTERS.map((name) => [name, name === "prefix" ? this[name].value : this[name].value.trim()]).filter(([, value]) => value);
    const to = `#/objects${given.length ? `?${given.map(([name, value]) => `${name}=${encodeURIComponent(value)}`).join("&")}` : ""}`;
    this.#drawn = "";
    if (to === location.hash) this.draw();
    else location.hash = to;
  }

  #filter() {
    return new URLSearchParams({ type: this.type.value.trim(), node: this.node.value.trim(), prefix: this.prefix.value, limit: PAGE }).toString();
  }

  #first() {
    [this.#before, this.#after] = [[], ""];
    this.#load();
  }

  async #load() {
    const asked = ++this.#asked;
    this.#drawn = this.#filter();
    const slow = setTimeout(() => { if (asked === this.#asked) this.body.replaceChildren(el("p", { class: "soft" }, "The nodes are asked…")); }, 200);
    let body;
    try {
      const page = await ask(`/api/objects?${this.#drawn}&after=${encodeURIComponent(this.#after)}`);
      body = this.#page(page);
    } catch (e) {
      body = [el("p", { "data-level": "troubled" }, e.message)];
    }
    clearTimeout(slow);
    if (asked === this.#asked) this.body.replaceChildren(...body);
  }

  #page({ objects, next, silent }) {
    const from = this.#before.length * PAGE;
    this.say(`${objects.length} objects`);
    const turn = (text, id, go) => el("button", { type: "button", id, onclick: () => { go(); this.#load(); } }, text);
    return [
      ...(silent ?? []).map((s) => el("p", { "data-level": "troubled" }, `${s.address} does not say what lives on it: ${s.error}`)),
      el("div", { class: "card" },
        objects.length === 0 ? el("p", { class: "soft" }, "No such object is in memory. One that is not called for a while is stored, if its type is, and lives again with its next call.") :
          table(["object", "node", "#shard", "last used", "#queue"], objects.map((o) => el("tr", { "data-object": `${o.type}/${o.id}` },
            el("td", {}, el("a", { href: link("object", `${o.type}/${o.id}`), class: "mono" }, `${o.type}/${o.id}`)),
            el("td", {}, swatch(this.cluster, o.node), el("span", { class: "mono" }, o.node)),
            el("td", { class: "n" }, String(o.shard)), el("td", { title: new Date(o.lastUsed).toISOString() }, ago(o.lastUsed)), el("td", { class: "n" }, String(o.queued)))))),
      el("div", { class: "tools" },
        this.#before.length ? turn("Back", "back", () => { this.#after = this.#before.pop(); }) : "",
        el("span", { class: "soft grow" }, objects.length ? `${from + 1} to ${from + objects.length}` : ""),
        next ? turn("More", "more", () => { this.#before.push(this.#after); this.#after = next; }) : ""),
    ].filter(Boolean);
  }
}
