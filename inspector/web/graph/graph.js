import { el, link } from "../draw.js";
import { Near } from "./near.js";
import { EVERYTHING, Facts, picture } from "./picture.js";
import { Places } from "./place.js";
import { openStage } from "./stage.js";
import { table } from "./table.js";

/** The graph: nodes and gates, their types around them, who calls whom, and from near the objects. */
export class Graph {
  #places = new Places(innerWidth > innerHeight);
  #filter = { ...EVERYTHING };
  #opening = null; // a promise, once the libraries are asked for
  #stage = null;
  #facts = null;
  #paused = 0; // since when; 0: it goes on
  #asTable = false;
  #selection = "";
  #pointed = "";

  constructor(cluster, root, say) {
    Object.assign(this, { cluster, root, say });
    root.view = this; // for whoever looks from the console
    this.near = new Near(() => this.#show());
    this.box = el("div", { class: "stage", tabindex: "0", role: "application", "aria-roledescription": "graph",
      "aria-label": "The cluster as a graph. The arrow keys go from mark to mark, Enter opens one, plus and minus zoom, 0 shows all. The same is there as a table." });
    this.tip = el("p", { class: "tip", hidden: true });
    this.note = el("p", { class: "soft note", role: "status" });
    this.table = el("div", { hidden: true });
    this.toggle = this.#button("As a table", () => this.#switch(!this.#asTable), { "aria-pressed": "false" });
    this.pause = this.#button("Pause", () => this.#pause(), { "aria-pressed": "false" });
    root.append(this.#tools(), el("div", { class: "frame" }, this.box, this.note, this.tip), this.table);
    this.box.addEventListener("keydown", (e) => this.#key(e));
    cluster.addEventListener("rates", () => this.draw());
    addEventListener("hashchange", () => this.#select());
    new MutationObserver(() => this.#stage?.repaint()).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#stage?.repaint());
  }

  #button(text, onclick, attributes = {}) {
    return el("button", { type: "button", onclick, ...attributes }, text);
  }

  #tools() {
    const choice = (what, label, set) => el("select", { "aria-label": label, onchange: (e) => { set(e.target.value); this.draw(); } }, el("option", { value: "" }, what));
    this.byType = choice("every type", "Show one type", (v) => { this.#filter.type = v; });
    this.byNode = choice("every node", "Show one node", (v) => { this.#filter.node = v; });
    this.byRate = choice("any rate", "Show what is called at least so often", (v) => { this.#filter.least = Number(v); });
    this.byRate.append(...[1, 10, 100, 1000].map((n) => el("option", { value: n }, `≥ ${n}/s`)));
    const errors = el("input", { type: "checkbox", onchange: (e) => { this.#filter.errors = e.target.checked; this.draw(); } });
    return el("div", { class: "tools" }, this.byType, this.byNode, this.byRate, el("label", {}, errors, " with errors"), el("span", { class: "grow" }),
      this.#button("−", () => this.#stage?.zoom(1.6), { class: "zoom", "aria-label": "Zoom out" }), this.#button("+", () => this.#stage?.zoom(1 / 1.6), { class: "zoom", "aria-label": "Zoom in" }), this.#button("Show all", () => this.#stage?.fit()), this.pause, this.toggle);
  }

  draw() {
    if (this.root.hidden || !this.cluster.scene || this.#paused) return;
    this.#facts = new Facts(this.cluster);
    this.#offer(this.byType, this.#facts.types.keys());
    this.#offer(this.byNode, this.#facts.nodes.keys());
    this.#show();
  }

  /** What can be chosen, without a change where nothing is new. */
  #offer(select, values) {
    const list = [...values].sort();
    if (list.join() === [...select.options].slice(1).map((o) => o.value).join()) return;
    const chosen = select.value;
    select.replaceChildren(select.options[0], ...list.map((v) => el("option", { value: v }, v)));
    select.value = list.includes(chosen) ? chosen : "";
    if (select.value !== chosen) select.dispatchEvent(new Event("change"));
  }

  #show() {
    const facts = this.#facts;
    if (!facts || this.root.hidden) return;
    this.#words(facts);
    if (this.#asTable) {
      this.table.replaceChildren(this.reason ? el("p", { class: "soft" }, this.reason) : "", ...table(this.cluster, facts, this.#filter));
      return;
    }
    this.#places.seat([...facts.nodes.keys()], [...facts.gates.keys()], [...facts.types.keys()]);
    if (!this.#stage) {
      this.#opening ??= this.#open();
      return;
    }
    this.#look();
    const p = picture(facts, this.#places, this.#filter, this.near);
    this.#stage.show(p, this.#places.extent([...[...facts.nodes.keys()].map((n) => `node:${n}`), ...[...facts.gates.keys()].map((g) => `gate:${g}`)]));
    Object.assign(this.root.dataset, { marks: p.marks.size, lines: p.lines.size });
    this.#select();
  }

  async #open() {
    try {
      const stage = await openStage(this.cluster, this.box);
      this.#listen(stage);
      this.#stage = stage;
      this.#show();
      performance.mark("graph drawn");
      this.root.stage = stage; // for whoever looks from the console
    } catch (e) {
      this.#switch(true);
      this.toggle.disabled = true;
      this.reason = `The graph cannot be drawn, so it is a table: ${e.message}.`;
      this.#show();
    }
  }

  #listen(stage) {
    stage.addEventListener("point", (e) => this.#point(e.detail));
    stage.addEventListener("choose", (e) => this.#choose(e.detail));
    stage.addEventListener("view", () => { this.#point(""); if (this.#look()) this.#show(); });
    stage.addEventListener("drawn", () => this.#tip(), { passive: true });
  }

  /** Looks nearer at what is near; true when something changed at once. */
  #look() {
    const { near } = this;
    const before = [near.loaded.size, near.each].join();
    near.look(Near.hubs(this.#stage, this.#facts), this.#facts, (key) => this.#stage.sees(key));
    return [near.loaded.size, near.each].join() !== before;
  }

  #words(facts) {
    const { type, node, least, errors } = this.#filter;
    const sampled = [...this.near.loaded].filter(([key, list]) => {
      const [name, address] = key.slice(5).split("@");
      return facts.types.get(name)?.at.get(address)?.objects > Math.min(list.length, this.near.each);
    }).length;
    const filtered = type || node || least || errors ? "filtered" : "";
    const words = [this.#paused ? `paused since ${new Date(this.#paused).toLocaleTimeString([], { hour12: false })}` : "", filtered,
      facts.rated ? "" : "no rates yet: what is drawn is who is there", sampled ? "the busiest and some others of the objects are shown" : ""].filter(Boolean).join(" · ");
    if (words !== this.note.textContent) this.note.textContent = words; // said aloud once
  }

  #pause() {
    this.#paused = this.#paused ? 0 : Date.now();
    this.pause.setAttribute("aria-pressed", String(Boolean(this.#paused)));
    this.pause.textContent = this.#paused ? "Go on" : "Pause";
    if (this.#paused) this.#words(this.#facts ?? new Facts(this.cluster));
    this.draw();
  }

  #switch(asTable) {
    this.#asTable = asTable;
    this.toggle.setAttribute("aria-pressed", String(asTable));
    this.toggle.textContent = asTable ? "As a graph" : "As a table";
    this.box.parentElement.hidden = asTable;
    this.table.hidden = !asTable;
    this.#show();
  }

  // Pointing, choosing, and what the address says is chosen.

  #point(key) {
    this.#pointed = key;
    this.#tip();
  }

  #tip() {
    const key = this.#pointed || (document.activeElement === this.box ? this.#stage.marked : "");
    const words = key && this.#stage.words(key);
    this.tip.hidden = !words;
    if (!words) return;
    const at = this.#stage.at(key);
    this.tip.textContent = words;
    const { clientWidth: width, clientHeight: height } = this.box;
    const x = at?.x ?? width / 2, y = at ? at.y + Math.min(at.size, height / 3) + 22 : 8;
    this.tip.style.left = `${Math.max(4, Math.min(x - 120, width - 288))}px`;
    this.tip.style.top = `${Math.max(4, Math.min(y, height - 60))}px`;
  }

  #choose(key) {
    if (key === "client" || key === "program") return;
    location.hash = key ? link(key.slice(0, key.indexOf(":")), key.slice(key.indexOf(":") + 1)) : location.hash.split("?")[0];
  }

  #select() {
    if (this.root.hidden || !this.#stage) return;
    const selection = new URLSearchParams(location.hash.split("?")[1]).get("sel") ?? "";
    const fresh = selection !== this.#selection;
    this.#selection = selection;
    if (fresh && this.#stage.at(selection)) this.#stage.marked = selection; // the keyboard goes on from there
    this.#stage.emphasise(selection);
    if (fresh && selection && this.#stage.at(selection) && !this.#stage.sees(selection)) this.#stage.go(selection);
  }

  #key(e) {
    const stage = this.#stage;
    const way = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[e.key];
    const does = { "+": () => stage.zoom(1 / 1.6), "=": () => stage.zoom(1 / 1.6), "-": () => stage.zoom(1.6), 0: () => stage.fit(), Enter: () => { this.#choose(stage.marked); stage.go(stage.marked); } }[e.key];
    if (!stage || !(way || does) || e.ctrlKey || e.metaKey || e.altKey) return;
    e.preventDefault();
    if (does) return void does();
    const next = this.#next(way);
    if (!next) return;
    stage.mark(next);
    if (!stage.sees(next)) stage.go(next);
    this.say(stage.words(next));
    this.#tip();
  }

  /** The nearest mark in a direction; at first the one in the middle. */
  #next([dx, dy]) {
    const from = this.#stage.at(this.#stage.marked);
    const here = from ?? { x: this.box.clientWidth / 2, y: this.box.clientHeight / 2 };
    let best = "", least = Infinity;
    for (const key of this.#stage.keys()) {
      const at = this.#stage.at(key);
      const along = (at.x - here.x) * dx + (at.y - here.y) * dy;
      const aside = Math.abs((at.x - here.x) * dy) + Math.abs((at.y - here.y) * dx);
      if (at.size < 3 || (from && along < 1)) continue;
      const cost = from ? along + 2 * aside : Math.hypot(along, aside);
      if (cost < least) [best, least] = [key, cost];
    }
    return best;
  }
}
