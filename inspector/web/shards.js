import { el, link, swatch, colour } from "./draw.js";

const COLUMNS = 128;
const FLASH = 1500; // ms that a move is seen
const CALM = matchMedia("(prefers-reduced-motion: reduce)");

/** The map of all shards, and the same as a table. */
export class Shards {
  #flashes = new Map(); // shard → when
  #frame = 0;
  #at = -1; // the shard under the pointer or the keyboard
  #asTable = false;

  constructor(cluster, root, say) {
    Object.assign(this, { cluster, root, say });
    this.canvas = el("canvas", { tabindex: "0", role: "img", "aria-label": "All shards, coloured by holder. The arrow keys go from shard to shard, Enter opens one." });
    this.tip = el("p", { class: "tip", hidden: true });
    this.legend = el("div", { class: "legend" });
    this.table = el("div", { hidden: true });
    this.toggle = el("button", { type: "button", "aria-pressed": "false", onclick: () => this.#switch() }, "As a table");
    this.counts = el("span", { class: "soft grow" });
    root.append(el("div", { class: "tools" }, this.counts, this.toggle), this.legend, el("div", { class: "map" }, this.canvas, this.tip), this.table);
    this.canvas.addEventListener("pointermove", (e) => this.#point(this.#shardAt(e)));
    this.canvas.addEventListener("pointerleave", () => this.#point(-1));
    this.canvas.addEventListener("click", (e) => this.#open(this.#shardAt(e)));
    this.canvas.addEventListener("keydown", (e) => this.#key(e));
    new ResizeObserver(() => this.draw()).observe(this.canvas.parentElement);
  }

  changed(ids) {
    const now = performance.now();
    if (!CALM.matches) for (const id of ids) this.#flashes.set(id, now);
    this.draw();
  }

  draw() {
    if (this.root.hidden || !this.cluster.scene) return;
    cancelAnimationFrame(this.#frame);
    this.#frame = requestAnimationFrame(() => this.#paint());
  }

  #paint() {
    this.#words();
    if (this.#asTable) return;
    const { shards } = this.cluster;
    const width = this.canvas.parentElement.clientWidth;
    if (!width || !shards.length) return;
    this.columns = Math.min(COLUMNS, width < 500 ? 64 : COLUMNS);
    const scale = devicePixelRatio || 1;
    const cell = Math.max(2, Math.floor((width * scale) / this.columns));
    const rows = Math.ceil(shards.length / this.columns);
    this.canvas.width = cell * this.columns;
    this.canvas.height = cell * rows;
    this.canvas.style.width = `${this.canvas.width / scale}px`;
    const pen = this.canvas.getContext("2d");
    const colours = this.cluster.names.map((n) => colour(this.cluster, n));
    const draining = this.cluster.names.map((n) => this.cluster.node(n)?.state === "draining");
    const now = performance.now();
    for (let id = 0; id < shards.length; id++) {
      this.#cell(pen, shards[id], (id % this.columns) * cell, Math.floor(id / this.columns) * cell, cell, colours, draining);
      const since = now - (this.#flashes.get(id) ?? -FLASH);
      if (since < FLASH) {
        pen.fillStyle = `rgb(255 255 255 / ${0.85 * (1 - since / FLASH)})`;
        pen.fillRect((id % this.columns) * cell, Math.floor(id / this.columns) * cell, cell - 1, cell - 1);
      } else this.#flashes.delete(id);
    }
    if (this.#at >= 0) {
      pen.strokeStyle = getComputedStyle(document.body).color;
      pen.lineWidth = Math.max(2, scale);
      pen.strokeRect((this.#at % this.columns) * cell, Math.floor(this.#at / this.columns) * cell, cell - 1, cell - 1);
    }
    if (this.#flashes.size) this.draw();
  }

  /** A shard: its holder's colour; hatched draining, hollow dead, a corner of the target's colour when it moves. */
  #cell(pen, [, current, target, state], x, y, size, colours, draining) {
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
  }

  #words() {
    const states = {};
    const holders = new Map();
    for (const [, current, , state] of this.cluster.shards) {
      states[state] = (states[state] ?? 0) + 1;
      if (current >= 0) holders.set(current, (holders.get(current) ?? 0) + 1);
    }
    this.counts.textContent = Object.entries(states).map(([s, n]) => `${n} ${s}`).join(", ");
    const list = [...holders].sort((a, b) => b[1] - a[1]);
    this.legend.replaceChildren(...list.map(([n, count]) => {
      const address = this.cluster.name(n);
      return el("a", { href: link("node", address) }, swatch(this.cluster, address), `${address}: ${count}`);
    }));
    if (this.#asTable) this.#tabulate();
  }

  #tabulate() {
    const odd = this.cluster.shards.map((row, id) => ({ id, row })).filter(({ row }) => row[3] !== "held");
    this.table.replaceChildren(el("div", { class: "card" },
      el("h2", {}, odd.length ? `${odd.length} shards that are not simply held` : "Every shard is held by the node that should hold it"),
      odd.length === 0 ? "" : el("table", {},
        el("thead", {}, el("tr", {}, ["shard", "state", "holder", "should be", "epoch"].map((h) => el("th", {}, h)))),
        el("tbody", {}, odd.slice(0, 500).map(({ id, row: [epoch, current, target, state] }) => el("tr", {},
          el("td", {}, el("a", { href: link("shard", id) }, String(id))), el("td", {}, state),
          el("td", { class: "mono" }, this.cluster.name(current) || "–"), el("td", { class: "mono" }, this.cluster.name(target) || "–"), el("td", {}, String(epoch)))))),
      odd.length > 500 ? el("p", { class: "soft" }, `and ${odd.length - 500} more`) : ""));
  }

  #switch() {
    this.#asTable = !this.#asTable;
    this.toggle.setAttribute("aria-pressed", String(this.#asTable));
    this.toggle.textContent = this.#asTable ? "As a map" : "As a table";
    this.canvas.parentElement.hidden = this.#asTable;
    this.table.hidden = !this.#asTable;
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
    const [epoch, current, target, state] = this.cluster.shards[id];
    const to = target >= 0 && target !== current ? `, to go to ${this.cluster.name(target)}` : "";
    return `shard ${id}: ${state}, ${this.cluster.name(current) || "no holder"}${to}, epoch ${epoch}`;
  }

  #key(e) {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns }[e.key];
    if (e.key === "Enter" && this.#at >= 0) this.#open(this.#at);
    if (step === undefined) return;
    e.preventDefault();
    const id = this.#at < 0 ? 0 : Math.min(this.cluster.shards.length - 1, Math.max(0, this.#at + step));
    this.#point(id);
    this.say(this.#sentence(id));
  }

  #open(id) {
    if (id >= 0) location.hash = link("shard", id);
  }
}
