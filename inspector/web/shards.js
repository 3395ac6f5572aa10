import { ago, colour, el, link, swatch } from "./draw.js";
import { orderOf, wordsOf } from "./shards/orders.js";
import { asText, fromText } from "./shards/several.js";
import { Table } from "./shards/table.js";
import { When } from "./shards/when.js";

const COLUMNS = 128;
const FLASH = 1500; // ms that a move flashes
const TRAIL = 8000; // ms that one still sees where a shard came from
const CALM = matchMedia("(prefers-reduced-motion: reduce)");

/** The map of all shards, now or at a moment that is kept, and the same as a table. */
export class Shards {
  #moves = new Map(); // shard → {when, from}, while it is seen
  #last = new Map(); // shard → {at, text, reason} of its last move
  #frame = 0;
  #at = -1; // the shard under the pointer or the keyboard
  #drag = null; // [first, last] of a rectangle
  #asTable = false;

  constructor(cluster, root, say) {
    Object.assign(this, { cluster, root, say });
    this.canvas = el("canvas", { tabindex: "0", role: "img", "aria-label": "All shards, coloured by holder. The arrow keys go from shard to shard, Enter opens one. Dragging, or the arrow keys with Shift, selects several; what is opened can be moved and pinned." });
    this.tip = el("p", { class: "tip", hidden: true });
    this.legend = el("ul", { class: "legend", "aria-label": "Shards of each node, against an even share" });
    this.table = new Table();
    this.when = new When(() => this.draw());
    this.toggle = el("button", { type: "button", "aria-pressed": "false", onclick: () => this.#switch() }, "As a table");
    this.counts = el("span", { class: "soft grow" });
    root.append(el("div", { class: "tools" }, this.counts, this.when.element, this.toggle), el("div", { class: "map" }, this.canvas, this.tip), this.table.element, this.legend);
    this.#listen();
    new ResizeObserver(() => this.draw()).observe(this.canvas.parentElement);
  }

  #listen() {
    const { canvas } = this;
    canvas.addEventListener("pointerdown", (e) => {
      if (e.pointerType === "mouse" && e.button === 0) this.#drag = [this.#shardAt(e), this.#shardAt(e)];
    });
    canvas.addEventListener("pointermove", (e) => {
      const id = this.#shardAt(e);
      if (this.#drag && e.buttons && id >= 0) this.#drag[1] = id;
      this.#point(id);
    });
    canvas.addEventListener("pointerleave", () => { this.#drag = null; this.#point(-1); });
    canvas.addEventListener("pointerup", (e) => this.#up(e));
    canvas.addEventListener("keydown", (e) => this.#key(e));
    addEventListener("hashchange", () => this.#arrive());
    this.#arrive();
  }

  /** A link of the timeline names a moment. */
  #arrive() {
    const [view, query] = location.hash.slice(2).split("?");
    const at = new URLSearchParams(query).get("at");
    if (view === "shards" && at) this.when.go(Number(at));
    if (view === "shards") this.draw();
  }

  /** What happened: shards that have changed, and as what they were shown before. */
  changed(ids, { was, changes }) {
    const now = performance.now();
    for (const id of ids) {
      const [[, from], [, to]] = [was.get(id), this.cluster.shards[id]];
      if (from === to) continue;
      const [source, target] = [this.cluster.name(from), this.cluster.name(to)];
      const change = changes.find((c) => c.kind === "shards" && (c.shards.includes(id) || (c.node === target && c.from === source)));
      if (change) this.#last.set(id, { at: change.at, text: source ? `from ${source}` : "claimed", reason: change.reason });
      if (!CALM.matches) this.#moves.set(id, { when: now, from });
    }
    this.draw();
  }

  /** The map that is shown. */
  get #map() {
    const { past } = this.when;
    return past ? { shards: past.shards, name: (n) => (n < 0 ? "" : past.names[n]) } : { shards: this.cluster.shards, name: (n) => this.cluster.name(n) };
  }

  draw() {
    if (this.root.hidden || !this.cluster.scene) return;
    cancelAnimationFrame(this.#frame);
    this.#frame = requestAnimationFrame(() => this.#paint());
  }

  #paint() {
    const map = this.#map;
    this.#words(map);
    if (this.#asTable) return;
    const { shards } = map;
    const width = this.canvas.parentElement.clientWidth;
    if (!width || !shards.length) return;
    const scale = devicePixelRatio || 1;
    const cell = this.#measure(width, shards.length, scale);
    const pen = this.canvas.getContext("2d");
    const names = this.when.past?.names ?? this.cluster.names;
    const colours = names.map((n) => colour(this.cluster, n));
    const draining = names.map((n) => this.cluster.node(n)?.state === "draining");
    const place = (id) => [(id % this.columns) * cell, Math.floor(id / this.columns) * cell];
    for (let id = 0; id < shards.length; id++) this.#cell(pen, shards[id], ...place(id), cell, colours, draining);
    if (!this.when.past) this.#trails(pen, place, cell, colours);
    pen.strokeStyle = getComputedStyle(document.body).color;
    pen.lineWidth = Math.max(2, scale);
    const selected = this.#drag ? this.#within() : this.#selected(shards.length);
    for (const id of this.#at >= 0 && !this.#drag ? [...selected, this.#at] : selected) pen.strokeRect(...place(id), cell - 1, cell - 1);
    if (this.#moves.size && !this.when.past) this.draw();
  }

  /** Makes the canvas fit, and tells a cell's size in its pixels. */
  #measure(width, many, scale) {
    this.columns = Math.min(COLUMNS, width < 500 ? 64 : COLUMNS);
    const cell = Math.max(2, Math.floor((width * scale) / this.columns));
    this.canvas.width = cell * this.columns;
    this.canvas.height = cell * Math.ceil(many / this.columns);
    this.canvas.style.width = `${this.canvas.width / scale}px`;
    return cell;
  }

  /** A move flashes, and for a while one sees in its middle where the shard came from. */
  #trails(pen, place, cell, colours) {
    const now = performance.now();
    for (const [id, { when, from }] of this.#moves) {
      const since = now - when;
      if (since > TRAIL) {
        this.#moves.delete(id);
        continue;
      }
      const [x, y] = place(id);
      pen.fillStyle = from >= 0 ? colours[from] : "#8b8f99";
      const size = (cell - 1) * 0.55 * (1 - since / TRAIL);
      pen.fillRect(x + (cell - 1 - size) / 2, y + (cell - 1 - size) / 2, size, size);
      if (since > FLASH) continue;
      pen.fillStyle = `rgb(255 255 255 / ${0.85 * (1 - since / FLASH)})`;
      pen.fillRect(x, y, cell - 1, cell - 1);
    }
  }

  /** A shard: its holder's colour; hatched draining, hollow dead, a corner of the target's colour when it moves, a light middle when it is pinned. */
  #cell(pen, [, current, target, state, , ordered], x, y, size, colours, draining) {
    const s = size - 1;
    const dead = state === "orphaned" || (state === "adrift" && current >= 0);
    if (current >= 0 && !dead) {
      pen.fillStyle = colours[current];
      pen.fillRect(x, y, s, s);
      if (draining[current] && s > 3) {
        pen.strokeStyle = "rgb(0 0 0 / .5)";
        pen.beginPath();
        pen.moveTo(x, y + s);
        pen.lineTo(x + s, y);
        pen.stroke();
      }
    } else {
      pen.strokeStyle = current >= 0 ? colours[current] : "#8b8f99";
      pen.lineWidth = 1;
      pen.strokeRect(x + 0.5, y + 0.5, s - 1, s - 1);
    }
    if (target >= 0 && target !== current) {
      pen.fillStyle = colours[target];
      pen.beginPath();
      pen.moveTo(x + s, y);
      pen.lineTo(x + s, y + s);
      pen.lineTo(x, y + s);
      pen.fill();
    }
    if (ordered === "pin" && s > 3) {
      pen.fillStyle = "rgb(255 255 255 / .9)";
      pen.fillRect(x + s / 3, y + s / 3, s / 3, s / 3);
    }
  }

  #words(map) {
    const states = {};
    const holders = new Map(this.cluster.scene.nodes.filter((n) => n.state === "ready").map((n) => [n.address, 0]));
    const even = map.shards.length / Math.max(1, holders.size);
    for (const [, current, , state] of map.shards) {
      states[state] = (states[state] ?? 0) + 1;
      if (current >= 0) holders.set(map.name(current), (holders.get(map.name(current)) ?? 0) + 1);
    }
    this.counts.textContent = Object.entries(states).map(([s, n]) => `${n} ${s}`).join(", ");
    const list = [...holders].sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
    const most = Math.max(even, list[0]?.[1] ?? 0, 1);
    this.legend.replaceChildren(...list.map(([address, count]) => this.#share(address, count, even, most)));
    if (this.#asTable) this.table.draw(map);
  }

  /** A node's bar: what it holds, against an even share. */
  #share(address, count, even, most) {
    const bar = el("div", { class: "bar" }, el("i"), el("b"));
    bar.children[0].style.cssText = `width:${(100 * count) / most}%;background:${colour(this.cluster, address)}`;
    bar.children[1].style.left = `${Math.min(99, (100 * even) / most)}%`;
    return el("li", { title: `${address} holds ${count}; ${Math.round(even)} would be even` }, swatch(this.cluster, address), el("a", { href: link("node", address), class: "mono" }, address), el("span", {}, String(count)), bar);
  }

  #switch() {
    this.#asTable = !this.#asTable;
    this.toggle.setAttribute("aria-pressed", String(this.#asTable));
    this.toggle.textContent = this.#asTable ? "As a map" : "As a table";
    this.canvas.parentElement.hidden = this.#asTable;
    this.table.element.hidden = !this.#asTable;
    this.draw();
  }

  #shardAt(e) {
    const box = this.canvas.getBoundingClientRect();
    const size = box.width / this.columns;
    const id = Math.floor((e.clientY - box.top) / size) * this.columns + Math.floor((e.clientX - box.left) / size);
    return id >= 0 && id < this.cluster.shards.length ? id : -1;
  }

  #point(id) {
    if (id === this.#at) return;
    this.#at = id;
    this.tip.hidden = id < 0;
    if (id >= 0) {
      this.tip.textContent = this.#sentence(id);
      const box = this.canvas.getBoundingClientRect();
      const size = box.width / this.columns;
      const x = (id % this.columns) * size;
      this.tip.style.top = `${(Math.floor(id / this.columns) + 1.6) * size}px`;
      this.tip.style.left = `${Math.min(x, box.width - 240)}px`;
    }
    this.draw();
  }

  #sentence(id) {
    const { shards, name } = this.#map;
    const [epoch, current, target, state] = shards[id];
    const to = target >= 0 && target !== current ? `, to go to ${name(target)}` : "";
    const order = this.when.past ? null : orderOf(this.cluster, shards[id]);
    const last = this.when.past ? null : this.#last.get(id);
    const move = last ? `; moved ${ago(last.at)}, ${last.text}${last.reason ? `: ${last.reason}` : ""}` : "";
    return `shard ${id}: ${state}, ${name(current) || "no holder"}${to}, epoch ${epoch}${order ? `, ${wordsOf(order)} by an operator` : ""}${move}`;
  }

  /** The shards of the rectangle that is dragged. */
  #within() {
    const [[x1, y1], [x2, y2]] = this.#drag.map((id) => [id % this.columns, Math.floor(id / this.columns)]);
    const ids = [];
    for (let y = Math.min(y1, y2); y <= Math.max(y1, y2); y++) for (let x = Math.min(x1, x2); x <= Math.max(x1, x2); x++) ids.push(y * this.columns + x);
    return ids.filter((id) => id < this.cluster.shards.length);
  }

  /** The shards that the address says are selected. */
  #selected(many) {
    const selection = new URLSearchParams(location.hash.split("?")[1]).get("sel") ?? "";
    const [kind, text] = [selection.slice(0, selection.indexOf(":")), selection.slice(selection.indexOf(":") + 1)];
    return kind === "shards" || kind === "shard" ? fromText(text, many) : [];
  }

  /** What was dragged over, by the mouse or by keys, or else the one shard, is opened. */
  #up(e) {
    const ids = this.#drag?.[0] >= 0 ? this.#within() : [];
    this.#drag = null;
    if (ids.length > 1) location.hash = link("shards", asText(ids));
    else this.#open(e ? this.#shardAt(e) : this.#at);
    this.draw();
  }

  #key(e) {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns }[e.key];
    if (e.key === "Enter" && this.#at >= 0) this.#up(null);
    if (step === undefined) return;
    e.preventDefault();
    const many = this.cluster.shards.length;
    const from = this.#at >= 0 ? this.#at : this.#selected(many)[0] ?? -step; // the pointer may have left
    const id = Math.min(many - 1, Math.max(0, from + step));
    this.#drag = e.shiftKey ? [this.#drag?.[0] ?? Math.max(0, from), id] : null;
    this.#point(id);
    this.say(this.#drag ? `${this.#within().length} shards, to ${id}. Enter opens them.` : this.#sentence(id));
  }

  #open(id) {
    if (id >= 0) location.hash = link("shard", id);
  }
}
