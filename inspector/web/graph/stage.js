// Draws a picture with Sigma.js, and says what is done to it. The libraries are loaded
// when the graph is looked at for the first time.

import { colour } from "../draw.js";
import { mix, palette } from "./colours.js";
import { Lines, Marks, Nothing, Words, flat } from "./flat.js";

const CALM = matchMedia("(prefers-reduced-motion: reduce)");

const VIEWED = 200; // ms between two times that it is told what is looked at

/** Loads the libraries, and makes a stage in box. */
export async function openStage(cluster, box) {
  await Promise.all([import("../vendor/graphology.umd.min.js"), import("../vendor/sigma.min.js")]);
  return new Stage(cluster, box);
}

/** A picture on the screen. Events: "point" (detail: key or ""), "choose" (key or ""), "view" (it was zoomed or moved), "drawn". */
export class Stage extends EventTarget {
  #marks; // graphology's
  #sigma;
  #near = null; // keys that are not dimmed; null: nothing is
  #touched = false; // whether a person has moved the picture
  #viewing = 0;
  #words = new Words();
  marked = ""; // the key that the keyboard is at

  constructor(cluster, box) {
    super();
    const { Sigma, graphology } = globalThis;
    this.cluster = cluster;
    this.box = box;
    this.colours = palette(box);
    this.#marks = new graphology({ type: "directed", multi: false });
    this.#sigma = new (flat(Sigma))(this.#marks, box, {
      allowInvalidContainer: true, zIndex: true, itemSizesReference: "positions", zoomToSizeRatioFunction: (r) => r, minCameraRatio: 0.004, maxCameraRatio: 3, enableCameraRotation: false,
      stagePadding: 24, inertiaDuration: CALM.matches ? 0 : 200, defaultNodeType: "mark", nodeProgramClasses: { mark: Marks }, nodeHoverProgramClasses: { mark: Nothing },
      defaultEdgeType: "line", edgeProgramClasses: { line: Lines }, enableEdgeEvents: true,
      labelFont: getComputedStyle(document.body).fontFamily, labelSize: 12, labelDensity: 2, labelGridCellSize: 90, labelRenderedSizeThreshold: 9,
      nodeReducer: (key, mark) => this.#look(key, mark), edgeReducer: (key, line) => this.#lineLook(key, line),
      defaultDrawNodeLabel: (pen, mark) => this.#label(pen, mark), defaultDrawNodeHover: (pen, mark) => this.#outline(pen, mark),
    });
    this.#listen();
  }

  #listen() {
    const tell = (name) => (detail = "") => this.dispatchEvent(new CustomEvent(name, { detail }));
    const point = tell("point");
    const choose = tell("choose");
    const s = this.#sigma;
    s.on("enterNode", ({ node }) => point(node));
    s.on("leaveNode", () => point());
    s.on("enterEdge", ({ edge }) => point(edge));
    s.on("leaveEdge", () => point());
    s.on("clickNode", ({ node }) => choose(node));
    s.on("clickStage", () => choose());
    s.on("doubleClickNode", ({ node, preventSigmaDefault }) => { preventSigmaDefault(); this.go(node); });
    for (const what of ["wheel", "pointerdown", "touchstart"]) this.box.addEventListener(what, () => { this.#touched = true; }, { passive: true });
    s.getCamera().on("updated", () => {
      if (!this.#viewing) this.#viewing = setTimeout(() => this.#viewed(), VIEWED);
    });
    s.on("afterRender", () => this.dispatchEvent(new Event("drawn")));
    new ResizeObserver(() => { s.resize(); s.scheduleRender(); }).observe(this.box);
  }

  #viewed() {
    this.#viewing = 0;
    this.dispatchEvent(new Event("view"));
  }

  /** Shows a picture: what is there stays where it is. extent is what is to be seen at first. */
  show({ marks, lines }, extent) {
    this.#sigma.gather(() => this.#change(marks, lines));
    this.#hold(extent);
  }

  #change(marks, lines) {
    const g = this.#marks;
    for (const key of g.nodes()) if (!marks.has(key)) g.dropNode(key);
    for (const [key, mark] of marks) {
      if (!g.hasNode(key)) g.addNode(key, mark);
      else if (!same(g.getNodeAttributes(key), mark)) g.replaceNodeAttributes(key, mark);
    }
    for (const key of g.edges()) if (!lines.has(key)) g.dropEdge(key);
    for (const [key, line] of lines) {
      if (!g.hasEdge(key)) g.addEdgeWithKey(key, line.from, line.to, line);
      else if (!same(g.getEdgeAttributes(key), line)) g.replaceEdgeAttributes(key, line);
    }
  }

  /** Keeps the scale of the picture: only one whom nobody has moved gives way to newcomers. */
  #hold(extent) {
    const held = this.#sigma.getCustomBBox();
    const fits = held && held.x[0] <= extent.x[0] && held.y[0] <= extent.y[0] && held.x[1] >= extent.x[1] && held.y[1] >= extent.y[1];
    this.whole = extent;
    if (!held || (!fits && !this.#touched)) this.#sigma.setCustomBBox(extent).refresh();
  }

  /** Whether a person has zoomed or moved, and something is outside. */
  fit() {
    this.#touched = false;
    this.#sigma.setCustomBBox(this.whole).refresh();
    this.#move({ x: 0.5, y: 0.5, ratio: 1 });
  }

  zoom(by) {
    this.#touched = true;
    this.#move({ ratio: this.#sigma.getCamera().ratio * by });
  }

  #move(to) {
    const camera = this.#sigma.getCamera();
    if (CALM.matches) camera.setState(camera.validateState({ ...camera.getState(), ...to }));
    else camera.animate(to, { duration: 260 });
  }

  /** Goes to a mark, so near that what is in it is seen. */
  go(key) {
    const at = this.#sigma.getNodeDisplayData(key);
    if (!at) return;
    this.#touched = true;
    const { width, height } = this.#sigma.getDimensions();
    const kind = this.#marks.getNodeAttribute(key, "kind");
    const wanted = Math.min(width, height) / { node: 2.4, bubble: 3, object: 12 }[kind] || 0; // px for its radius
    const ratio = wanted ? (this.#sigma.getCamera().ratio * this.#sigma.scaleSize(at.size)) / wanted : this.#sigma.getCamera().ratio;
    this.#move({ x: at.x, y: at.y, ratio });
  }

  /** Whether some of a mark is on the screen. */
  sees(key) {
    const at = this.at(key);
    const { width, height } = this.#sigma.getDimensions();
    return at !== null && at.x >= -at.size && at.y >= -at.size && at.x <= width + at.size && at.y <= height + at.size;
  }

  /** Where a mark is, in pixels of the box; null: nowhere. */
  at(key) {
    const mark = this.#sigma.getNodeDisplayData(key);
    if (!mark) return null;
    const { x, y } = this.#sigma.framedGraphToViewport(mark);
    return { x, y, size: this.#sigma.scaleSize(mark.size) };
  }

  words(key) {
    if (this.#marks.hasNode(key)) return this.#marks.getNodeAttribute(key, "words");
    return this.#marks.hasEdge(key) ? this.#marks.getEdgeAttribute(key, "words") : "";
  }

  keys() {
    return this.#marks.nodes();
  }

  /** How many marks were on the screen in the last frame. */
  get drawn() {
    return this.#sigma.nodePrograms?.mark?.drawn ?? 0;
  }

  get lines() {
    return this.#marks.size;
  }

  /** Dims all but what belongs to a mark; "": nothing. */
  emphasise(key) {
    const near = this.#marks.hasNode(key) ? this.#belongings(key) : null;
    if (near === null && this.#near === null) return;
    this.#near = near;
    this.chosen = key;
    this.#sigma.refresh({ skipIndexation: true });
  }

  #belongings(key) {
    const near = new Set([key, ...this.#marks.neighbors(key)]);
    const [type, address] = key.startsWith("type:") ? key.slice(5).split("@") : [];
    this.#marks.forEachNode((other, mark) => {
      if (key === `node:${mark.node}`) near.add(other);
      if (type && !address && mark.type === type) near.add(other).add(`node:${mark.node}`);
      if (address && mark.node === address && (mark.kind === "node" || other.startsWith(`object:${type}/`))) near.add(other);
      if (key.startsWith("object:") && other !== key && mark.node === this.#marks.getNodeAttribute(key, "node") && mark.kind !== "object" && (mark.kind === "node" || key.startsWith(`object:${mark.type}/`))) near.add(other);
    });
    if (address) near.add(`type:${type}`);
    return near;
  }

  mark(key) {
    this.marked = key;
    this.#sigma.scheduleRefresh();
  }

  /** The colours have changed. */
  repaint() {
    this.colours = palette(this.box);
    this.#sigma.refresh({ skipIndexation: true });
  }

  // What a mark looks like.

  #look(key, mark) {
    const c = this.colours;
    const own = mark.node ? colour(this.cluster, mark.node) : mix(c.soft, c.panel, 1);
    const form = { node: { draining: "hatched", gone: "hollow" }[mark.state] ?? "ground", gate: "square", object: "disc" }[mark.kind] ?? "ring";
    const dim = this.#near && !this.#near.has(key);
    const weak = dim ? 0.35 : 1;
    const line = mark.alert && mark.kind !== "node" ? c.alert : own;
    const fill = mark.kind === "node" ? mix(own, c.page, (mark.state === "gone" ? 0 : 0.1) * weak) : mix(own, c.panel, (mark.kind === "bubble" ? 0.16 : 0.24) * weak);
    const object = mark.kind === "object" ? (mark.busy ? 1 : 0.7) : 0.9;
    return { ...mark, key, type: "mark", form, color: mix(line, c.page, weak * object), fill, zIndex: mark.z, label: dim ? "" : mark.label, forceLabel: !dim && (mark.kind === "node" || mark.kind === "type" || key === this.marked || key === this.chosen), highlighted: key === this.marked || key === this.chosen };
  }

  #lineLook(key, line) {
    const c = this.colours;
    const dim = this.#near && !(this.#near.has(line.from) && this.#near.has(line.to));
    return { ...line, key, type: "line", color: mix(c.ink, c.page, dim ? 0.09 : 0.34) };
  }

  #label(pen, mark) {
    if (!mark.label) return;
    const big = mark.kind === "node" || mark.kind === "gate" || mark.kind === "type" || mark.kind === "caller";
    const size = big ? 12.5 : 11;
    const font = this.#sigma.getSetting("labelFont");
    const align = mark.kind === "object" ? "left" : "center";
    const y = mark.kind === "object" ? mark.y + size / 3 : mark.kind === "bubble" && mark.size > 40 ? mark.y - mark.size - 4 : mark.y + mark.size + size;
    const x = mark.kind === "object" ? mark.x + mark.size + 4 : mark.x;
    const halo = mix(this.colours.page, this.colours.page, 1);
    const soft = mix(this.colours.soft, this.colours.page, 1);
    this.#words.write(pen, mark.label, x, y, { font: `${mark.kind === "node" ? 600 : 400} ${size}px ${font}`, ink: big ? mix(this.colours.ink, this.colours.page, 1) : soft, halo, align });
    if (mark.more && mark.size > (mark.kind === "node" ? 44 : 14)) this.#words.write(pen, mark.more, x, y + 14, { font: `400 11px ${font}`, ink: soft, halo, align });
  }

  #outline(pen, mark) {
    pen.strokeStyle = mix(this.colours.accent, this.colours.page, 1);
    pen.lineWidth = 2;
    pen.beginPath();
    if (mark.kind === "gate") pen.rect(mark.x - mark.size, mark.y - mark.size, 2 * mark.size, 2 * mark.size);
    else pen.arc(mark.x, mark.y, mark.size + 2, 0, 2 * Math.PI);
    pen.stroke();
    this.#label(pen, mark);
  }
}

function same(a, b) {
  for (const k in b) if (a[k] !== b[k]) return false;
  return true;
}
