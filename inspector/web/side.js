import { confirmed } from "./actions.js";
import { away, copyable, el, renew, swatch } from "./draw.js";
import { ask } from "./feed.js";
import { look } from "./look.js";
import { told } from "./graph/told.js";
import { Orders } from "./shards/orders.js";
import { fromText, severalTold } from "./shards/several.js";

/** The sidebar: why the selected shard, object or node is where it is, and what can be done. */
export class Side {
  #asked = 0;
  #shown = ""; // the selection
  #orders = null; // for the shards that are selected

  constructor(cluster, root) {
    Object.assign(this, { cluster, root });
    this.body = el("div", {});
  }

  async show(selection) {
    const asked = ++this.#asked;
    this.root.hidden = !selection;
    if (!selection) return;
    const [kind, id] = [selection.slice(0, selection.indexOf(":")), selection.slice(selection.indexOf(":") + 1)];
    const path = kind === "object" ? id.split("/").map(encodeURIComponent).join("/") : encodeURIComponent(id);
    let body;
    try {
      body = told(this.cluster, kind, id) ?? severalTold(this.cluster, kind, id) ?? this.#explained(kind, id, await ask(`/api/v1/explain/${kind}/${path}`));
    } catch (e) {
      body = [el("p", {}, e.message)];
    }
    if (asked !== this.#asked) return; // something else was selected meanwhile
    if (selection !== this.#shown || !this.body.isConnected) this.#begin(selection, kind, id);
    renew(this.body, body);
  }

  /** What stays for as long as this is selected: somebody may be using it. */
  #begin(selection, kind, id) {
    this.#shown = selection;
    this.#orders?.end();
    const ids = kind === "shard" || kind === "shards" ? fromText(id, this.cluster.shards.length) : [];
    this.#orders = ids.length ? new Orders(this.cluster, ids) : null;
    this.root.replaceChildren(el("div", { class: "side-head" }, el("h2", {}, kind === "node" ? swatch(this.cluster, id) : "", `${kind} `, copyable(id)),
      el("a", { href: away(), "aria-label": "Close", id: "close" }, "✕")), this.body, this.#orders?.element ?? "");
  }

  /** Whether what is selected is among what has changed. */
  touched(selection, { shards, changes }) {
    const [kind, id] = [selection.slice(0, selection.indexOf(":")), selection.slice(selection.indexOf(":") + 1)];
    if (kind === "node") return changes.some((c) => c.node === id || c.from === id);
    if (kind !== "shard" && kind !== "shards") return false;
    const ids = new Set(fromText(id, this.cluster.shards.length));
    return shards.some((shard) => ids.has(shard));
  }

  #explained(kind, id, e) {
    return [
      el("p", {}, e.summary + "."),
      el("h3", {}, "What is next"),
      el("p", {}, e.acts === "nobody" ? "Nobody has to act." : `${e.acts} ${e.how}.`),
      ...e.waits_for.map((w) => el("p", { "data-level": "troubled" }, `In the way: ${w}`)),
      ...e.notes.map((n) => el("p", { class: "soft" }, n)),
      el("h3", {}, "Facts"),
      el("dl", { class: "facts" }, e.order.flatMap((name) => [el("dt", {}, name), el("dd", { class: "mono" }, e.facts[name])])),
      kind === "node" ? this.#actions(id) : "",
      kind === "object" ? look(id) : "",
    ].filter(Boolean);
  }

  #actions(address) {
    const node = this.cluster.node(address);
    if (!node) return "";
    const undo = node.by_operator;
    if (node.state === "draining" && !undo) return "";
    const result = el("p", { role: "status" });
    const button = el("button", { type: "button", id: "drain" }, undo ? "Take the draining back" : "Drain this node…");
    button.addEventListener("click", async () => {
      if (!(await confirmed(this.cluster, node, undo))) return;
      button.disabled = true;
      try {
        const answer = await ask(`/api/v1/nodes/${encodeURIComponent(address)}/drain`, { undo, force: false });
        result.textContent = answer.changed ? (undo ? "It takes shards again." : `It drains: ${answer.held} shards to go.`) : "It was so already.";
        setTimeout(() => this.show(`node:${address}`), 700);
      } catch (e) {
        result.textContent = e.message;
        button.disabled = false;
      }
    });
    return el("div", {}, el("h3", {}, "Actions"), button, result);
  }
}
