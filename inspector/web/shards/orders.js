// What an operator can order of shards: that they move, that they are pinned, and that
// this is taken back. An order says first what it will do, and then how far it is.

import { confirm, el } from "../draw.js";
import { ask } from "../feed.js";
import { asText } from "./several.js";

const AT_ONCE = 100; // shards of one order: those are ordered together, or none is
const STAYS = [["10 minutes", 600], ["1 hour", 3600], ["1 day", 86_400], ["30 days", 2_592_000]];
const plural = (n, what) => `${n} ${what}${n === 1 ? "" : "s"}`;

/** What is ordered of a shard, from its row: {to, how}, or null. */
export function orderOf(cluster, row) {
  return row[5] ? { to: cluster.name(row[4]), how: row[5] } : null;
}

/** An order in words. */
export const wordsOf = (order) => (order ? `${order.how === "pin" ? "pinned" : "moved"} to ${order.to}` : "");

/** The sidebar's part for some shards. It stays the same element for as long as they are selected. */
export class Orders {
  #watch = new AbortController();
  #goal = null; // {node, how, began} of what was ordered here
  #busy = false;

  constructor(cluster, ids) {
    Object.assign(this, { cluster, ids: [...ids].sort((a, b) => a - b) });
    const button = (id, text, onclick) => el("button", { type: "button", id, onclick }, text);
    this.node = el("select", { id: "order-node", "aria-label": `The node for ${this.#what}`, onchange: () => this.#draw() }, el("option", { value: "" }, "choose a node"));
    this.stay = el("select", { id: "order-stay", "aria-label": "For how long a move stays" }, STAYS.map(([text, seconds]) => el("option", { value: seconds, selected: seconds === 3600 }, `for ${text}`)));
    this.move = button("move", "Move…", () => this.#order("move"));
    this.pin = button("pin", "Pin…", () => this.#order("pin"));
    this.unpin = button("unpin", "Take back…", () => this.#takeBack());
    this.undo = button("undo", "Undo", () => this.#undo());
    this.now = el("p", { class: "soft" });
    this.bar = el("progress", { "aria-label": "Shards that are where they were ordered", hidden: true, max: this.ids.length });
    this.result = el("p", { role: "status", id: "ordered" });
    this.element = el("section", { "aria-label": `Order where ${this.#what} shall be` }, el("h3", {}, "Move or pin"), this.now,
      el("div", { class: "tools" }, this.node, this.stay), el("div", { class: "tools" }, this.move, this.pin, this.unpin), this.bar, this.result, this.undo);
    this.undo.hidden = true;
    cluster.addEventListener("change", () => this.#draw(), { signal: this.#watch.signal });
    this.#draw();
  }

  /** Nobody looks any more. */
  end() {
    this.#watch.abort();
  }

  get #what() {
    return this.ids.length === 1 ? `shard ${this.ids[0]}` : `${this.ids.length} shards`;
  }

  #draw() {
    const { cluster } = this;
    if (!cluster.scene) return;
    const ready = cluster.scene.nodes.filter((n) => n.state === "ready").map((n) => n.address).sort();
    if (ready.join() !== [...this.node.options].slice(1).map((o) => o.value).join()) { // a list that is open closes if it is put in anew
      const chosen = this.node.value;
      this.node.replaceChildren(this.node.options[0], ...ready.map((a) => el("option", { value: a }, a)));
      this.node.value = ready.includes(chosen) ? chosen : "";
    }
    const ordered = [...Map.groupBy(this.#orders(), ([, order]) => wordsOf(order))].filter(([words]) => words).map(([words, list]) => `${list.length === this.ids.length ? "" : `${list.length} `}${words}`);
    this.now.textContent = ordered.length ? `By order: ${ordered.join(", ")}.` : "No order stands: the leader evens out.";
    this.move.disabled = this.pin.disabled = this.#busy || !this.node.value;
    this.unpin.disabled = this.#busy || ordered.length === 0;
    this.undo.disabled = this.#busy;
    this.#progress();
  }

  #orders() {
    return this.ids.map((id) => [id, orderOf(this.cluster, this.cluster.shards[id])]);
  }

  #at(node) {
    return this.ids.filter((id) => this.cluster.name(this.cluster.shards[id][1]) === node && this.cluster.shards[id][3] === "held");
  }

  #progress() {
    const goal = this.#goal;
    this.bar.hidden = !goal;
    if (!goal || this.#busy || goal.done) return;
    const there = this.#at(goal.node).length;
    this.bar.value = there;
    goal.done = there === this.ids.length;
    const text = goal.done ? `${this.ids.length === 1 ? "It is" : `All ${there} are`} at ${goal.node}, after ${((performance.now() - goal.began) / 1000).toFixed(1)} s.` : `${there} of ${this.ids.length} ${there === 1 ? "is" : "are"} at ${goal.node}.`;
    if (text !== this.result.textContent) this.result.textContent = text;
  }

  /** What an order will do, in numbers. */
  #consequences(how, node) {
    const { cluster } = this;
    const going = this.ids.filter((id) => cluster.name(cluster.shards[id][1]) !== node);
    const from = [...Map.groupBy(going, (id) => cluster.name(cluster.shards[id][1]) || "nobody")].map(([holder, list]) => `${list.length} from ${holder}`);
    const { held } = cluster.node(node);
    const ready = cluster.scene.nodes.filter((n) => n.state === "ready").length;
    const there = this.ids.length - going.length;
    return [
      going.length === 0 ? `${there === 1 ? "It is" : `All ${there} are`} there already, and ${there === 1 ? "stays" : "stay"} there.` :
        `${plural(going.length, "shard")} ${going.length === 1 ? "goes" : "go"} there with all live objects: ${from.slice(0, 6).join(", ")}${from.length > 6 ? ` and ${from.length - 6} more nodes` : ""}.${there ? ` ${there} ${there === 1 ? "is" : "are"} there already.` : ""}`,
      `${node} holds ${held} shards and will hold ${held + going.length}; ${Math.round(cluster.shards.length / Math.max(1, ready))} would be even. The others are evened out around them.`,
      "Callers wait some milliseconds while a shard moves, and notice nothing else.",
      how === "pin" ? `It stands until it is taken back: they are there whenever ${node} lives and does not drain.` : `They stay there ${this.stay.selectedOptions[0].textContent}, or as long as that process lives. Then they are like any other.`,
    ];
  }

  async #order(how) {
    const node = this.node.value;
    const title = `${how === "pin" ? "Pin" : "Move"} ${this.#what} to ${node}?`;
    if (!this.cluster.node(node) || !(await confirm(title, this.#consequences(how, node), how === "pin" ? "Pin" : "Move"))) return;
    const before = this.#orders();
    const body = how === "pin" ? { node, pin: true } : { node, seconds: Number(this.stay.value) };
    const given = await this.#give([[body, this.ids]]);
    if (!given.length) return;
    this.before = before.filter(([id]) => given.includes(id));
    this.undo.hidden = false;
    if (given.length === this.ids.length) this.#goal = { node, how, began: performance.now(), done: false };
    this.#draw();
  }

  async #takeBack() {
    const ordered = this.#orders().filter(([, order]) => order).map(([id]) => id);
    const words = [`What was ordered of ${plural(ordered.length, "shard")} counts no more.`, "They stay where they are until the leader evens out, and running calls are not disturbed."];
    if (!(await confirm("Take the order back?", words, "Take it back"))) return;
    this.before = this.#orders().filter(([id]) => ordered.includes(id));
    const given = await this.#give([[{ unpin: true }, ordered]]);
    if (given.length === ordered.length) this.#told(`Taken back of ${plural(given.length, "shard")}.`);
    this.undo.hidden = given.length === 0 || !this.before.some(([, order]) => order?.how === "pin");
  }

  /** Has the orders stand that stood before; a move's, whose time went on, does not. */
  async #undo() {
    const pins = Map.groupBy(this.before, ([, order]) => (order?.how === "pin" ? order.to : ""));
    const words = [...pins].map(([to, list]) => (to ? `${plural(list.length, "shard")} ${list.length === 1 ? "is" : "are"} pinned to ${to} again.` : `Nothing is ordered any more of ${plural(list.length, "shard")}: where they are by then they stay until the leader evens out.`));
    if (!(await confirm("Undo?", words, "Undo"))) return;
    const all = this.before.length;
    const given = await this.#give([...pins].map(([to, list]) => [to ? { node: to, pin: true } : { unpin: true }, list.map(([id]) => id)]));
    if (given.length === all) this.#told("It is undone.");
    this.undo.hidden = given.length === all;
  }

  #told(text) {
    this.#goal = null;
    this.result.textContent = text;
    this.#draw();
  }

  /** Gives orders, so many shards at once, and is the shards of which they were given. */
  async #give(orders) {
    const all = orders.reduce((n, [, ids]) => n + ids.length, 0);
    const given = [];
    this.#busy = true;
    this.#goal = null;
    this.result.textContent = "";
    this.#draw();
    try {
      for (const [body, ids] of orders) {
        for (let i = 0; i < ids.length; i += AT_ONCE) {
          const part = ids.slice(i, i + AT_ONCE);
          await ask(`/api/v1/shards/${asText(part)}/move`, body);
          given.push(...part);
          if (given.length < all) this.result.textContent = `Ordered: ${given.length} of ${all}.`;
        }
      }
    } catch (e) {
      this.result.textContent = `${e.message}${given.length ? ` (ordered before that: ${given.length} of ${all})` : ""}`;
    }
    this.#busy = false;
    this.#draw();
    return given;
  }
}
