import { el, link } from "../draw.js";
import { wordsOf } from "./orders.js";

const PAGE = 200;

/** The shards as a table, for keyboards and screen readers: those of a node, of a state, or all. */
export class Table {
  #which = "odd";
  #page = 0;

  constructor() {
    this.choice = el("select", { "aria-label": "Which shards", onchange: () => { this.#which = this.choice.value; this.#page = 0; this.draw(this.map); } });
    // What somebody may be using stays where it is: a list that is open closes if it is put in anew.
    this.title = el("h2", { class: "grow" });
    this.pages = el("span", { class: "tools" });
    this.rows = el("div", {});
    this.element = el("div", { hidden: true }, el("div", { class: "card" }, el("div", { class: "tools" }, this.title, this.choice, this.pages), this.rows));
  }

  /** map is {shards, name}. */
  draw(map) {
    this.map = map;
    const all = map.shards.map((row, id) => ({ id, row }));
    const list = all.filter(({ row: [, current, target, state, to] }) => this.#which === "all" || (this.#which === "odd" ? state !== "held" || to !== undefined : map.name(current) === this.#which || map.name(target) === this.#which));
    const pages = Math.max(1, Math.ceil(list.length / PAGE));
    this.#page = Math.min(this.#page, pages - 1);
    this.#offer(map);
    const turn = (by, text) => el("button", { type: "button", disabled: this.#page + by < 0 || this.#page + by >= pages, onclick: () => { this.#page += by; this.draw(this.map); } }, text);
    const title = { all: `All ${list.length} shards`, odd: list.length ? `${list.length} shards that are not simply held, or of which something is ordered` : "Every shard is held by the node that should hold it" }[this.#which] ?? `${list.length} shards of ${this.#which}`;
    this.title.textContent = title;
    this.pages.replaceChildren(...(pages > 1 ? [turn(-1, "Before"), el("span", { class: "soft" }, `${this.#page + 1} of ${pages}`), turn(1, "After")] : []));
    this.rows.replaceChildren(list.length === 0 ? "" : el("table", {},
      el("thead", {}, el("tr", {}, ["shard", "state", "holder", "should be", "epoch", "order"].map((h) => el("th", { scope: "col" }, h)))),
      el("tbody", {}, list.slice(this.#page * PAGE, (this.#page + 1) * PAGE).map(({ id, row: [epoch, current, target, state, to, how] }) => el("tr", {},
        el("td", {}, el("a", { href: link("shard", id) }, String(id))), el("td", {}, state),
        el("td", { class: "mono" }, map.name(current) || "–"), el("td", { class: "mono" }, map.name(target) || "–"), el("td", {}, String(epoch)), el("td", { class: "mono" }, how ? wordsOf({ to: map.name(to), how }) : ""))))));
  }

  #offer(map) {
    const names = [...new Set(map.shards.flatMap(([, current, target]) => [map.name(current), map.name(target)]))].filter(Boolean).sort();
    const values = ["odd", "all", ...names];
    if (values.join() !== [...this.choice.options].map((o) => o.value).join()) {
      this.choice.replaceChildren(...values.map((v) => el("option", { value: v }, { odd: "not simply held", all: "all" }[v] ?? v)));
    }
    this.choice.value = values.includes(this.#which) ? this.#which : "odd";
  }
}
