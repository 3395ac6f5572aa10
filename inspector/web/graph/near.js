// The objects of what one looks at from near. Of each bubble so many are asked for, and
// again only after a while: a picture of 50,000 objects would say less, and cost more.

import { ask } from "../feed.js";
import { Seats } from "./place.js";

const NEAR = 90; // px of a node's radius from which its objects are shown
const HUBS = 6; // so many nodes at once
const EACH = 200; // objects of a bubble are known
const SHOWN = 1200; // objects are shown at once: the bubbles that are in sight share them
const TOGETHER = 100; // ms in which answers of nodes become one change of the picture
const OFTEN = 3000; // ms between two times that a node is asked

/** What is known of the objects of bubbles: loaded has a list of {id, seat} for each. */
export class Near {
  loaded = new Map(); // bubble's key → [{id, seat}]
  #seats = new Map(); // bubble's key → Seats
  #asked = new Map(); // bubble's key → when
  #busy = 0;
  #telling = 0;
  each = EACH; // objects of a bubble that are shown: its first

  /** changed is called when there is more to see. */
  constructor(changed) {
    this.changed = changed;
  }

  /** The addresses of nodes that are near enough, nearest to the middle first. */
  static hubs(stage, facts) {
    const middle = { x: stage.box.clientWidth / 2, y: stage.box.clientHeight / 2 };
    const near = [];
    for (const address of facts.nodes.keys()) {
      const at = stage.at(`node:${address}`);
      if (!at || at.size < NEAR) continue;
      const [dx, dy] = [Math.abs(at.x - middle.x), Math.abs(at.y - middle.y)];
      if (dx < middle.x + at.size && dy < middle.y + at.size) near.push({ address, far: Math.hypot(dx, dy) });
    }
    return near.sort((a, b) => a.far - b.far).slice(0, HUBS).map((n) => n.address);
  }

  /** Loads what is missing of the bubbles at these nodes that are in sight, and forgets the rest. */
  look(addresses, facts, sees) {
    const wanted = new Map();
    for (const address of addresses) {
      for (const t of facts.types.values()) if (t.at.get(address)?.objects > 0 && sees(`type:${t.name}@${address}`)) wanted.set(`type:${t.name}@${address}`, { type: t.name, node: address });
    }
    this.each = Math.max(1, Math.min(EACH, Math.floor(SHOWN / Math.max(1, wanted.size))));
    for (const of of [this.loaded, this.#seats, this.#asked]) for (const key of of.keys()) if (!wanted.has(key)) of.delete(key);
    const waited = (key) => this.#asked.get(key) ?? 0;
    for (const key of [...wanted.keys()].sort((a, b) => waited(a) - waited(b))) this.#load(key, wanted.get(key), facts); // who was never asked comes first
  }

  async #load(key, { type, node }, facts) {
    const now = performance.now();
    if (this.#busy >= 6 || now - (this.#asked.get(key) ?? -Infinity) < OFTEN) return;
    this.#asked.set(key, now);
    this.#busy++;
    try {
      const query = new URLSearchParams({ type, node, limit: EACH });
      const page = await ask(`/api/objects?${query}`);
      if (!this.#asked.has(key)) return; // one looks elsewhere by now
      const ids = new Set(facts.top.filter((o) => o.type === type && o.node === node).map((o) => o.id));
      for (const o of page.objects) if (ids.size < EACH) ids.add(o.id);
      if (!this.#seats.has(key)) this.#seats.set(key, new Seats());
      const seats = this.#seats.get(key);
      seats.seat(ids);
      this.loaded.set(key, [...ids].map((id) => ({ id, seat: seats.of(id) })));
      this.#telling ||= setTimeout(() => { this.#telling = 0; this.changed(); }, TOGETHER);
    } catch {
      // The node does not say. What is known of it stays, and it is asked again.
    } finally {
      this.#busy--;
    }
  }
}
