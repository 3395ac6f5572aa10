// The inspector's page: one feed, five views and a sidebar. What is selected is in the
// address, so that it can be shared.

import { Cluster } from "./feed.js";
import { Overview, words } from "./overview.js";
import { Graph } from "./graph/graph.js";
import { count, span } from "./load.js";
import { Objects } from "./objects.js";
import { Search } from "./search.js";
import { Shards } from "./shards.js";
import { Timeline } from "./timeline.js";
import { Side } from "./side.js";
import { el, away, ago } from "./draw.js";

const $ = (id) => document.getElementById(id);
const cluster = new Cluster();
const say = (text) => { $("say").textContent = text; };
const views = {
  overview: new Overview(cluster, $("overview")),
  graph: new Graph(cluster, $("graph"), say),
  objects: new Objects(cluster, $("objects"), say),
  shards: new Shards(cluster, $("shards"), say),
  timeline: new Timeline(cluster, $("timeline")),
};
const side = new Side(cluster, $("side"));

// ---- Where one is ------------------------------------------------------------

function place() {
  const [view, query] = location.hash.slice(2).split("?");
  return { view: views[view] ? view : "overview", selection: new URLSearchParams(query).get("sel") ?? "" };
}

function go() {
  const { view, selection } = place();
  const ready = cluster.scene !== null;
  for (const name of Object.keys(views)) $(name).hidden = name !== view || !ready;
  $("empty").hidden = ready;
  for (const a of document.querySelectorAll(".rail a")) {
    if (a.getAttribute("href") === `#/${view}`) a.setAttribute("aria-current", "page");
    else a.removeAttribute("aria-current");
  }
  views[view].draw();
  side.show(selection);
}

// ---- What is always there ----------------------------------------------------

function frame() {
  const { scene, state, stale } = cluster;
  document.body.classList.toggle("stale", state === "lost" || Boolean(stale));
  const pill = $("health");
  if (state === "lost") {
    pill.dataset.level = "stale";
    pill.textContent = "the inspector does not answer";
    $("health-why").textContent = cluster.heard ? `what is shown is from ${ago(cluster.heard)}; it is tried again` : "it is tried again";
  } else if (stale) {
    pill.dataset.level = "stale";
    pill.textContent = "not of now";
    $("health-why").textContent = stale;
  } else if (scene) {
    pill.dataset.level = scene.health.level;
    pill.textContent = words[scene.health.level] ?? scene.health.level;
    $("health-why").textContent = scene.health.reasons.join(" · ");
  }
  $("empty").replaceChildren(el("p", {}, state === "live" ? "Waiting for etcd's first answer…" : "Connecting to the inspector…"));
  if (!scene) return;
  $("cluster").textContent = scene.prefix.replace(/^\//, "") || "Goverse";
  $("cluster").title = `cluster ${scene.cluster} at ${scene.prefix}`;
  document.title = `${scene.health.level === "well" ? "" : `(${scene.health.level}) `}${scene.prefix.replace(/^\//, "")} – Goverse inspector`;
  const held = scene.nodes.reduce((n, node) => n + node.held, 0);
  const numbers = { nodes: scene.nodes.length, gates: scene.gates.length, "shards held": `${held} of ${cluster.shards.length}`, revision: scene.revision };
  if (cluster.rates) Object.assign(numbers, busy(cluster.rates));
  $("numbers").replaceChildren(...Object.entries(numbers).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, String(value)))));
  const last = cluster.changes.at(-1);
  $("latest").textContent = last ? `${last.text}${last.reason ? ` — ${last.reason}` : ""}` : "";
}

function busy({ nodes }) {
  const sum = (name) => nodes.reduce((n, node) => n + node[name], 0);
  return { objects: count(sum("objects")), "calls/s": count(sum("calls")), "errors/s": count(sum("errors")), p99: span(Math.max(0, ...nodes.map((n) => n.p99))) };
}

cluster.addEventListener("rates", frame);

function age() {
  const last = cluster.changes.at(-1);
  $("age").textContent = last ? ago(last.at) : "";
  if (cluster.state !== "live") frame();
}

cluster.addEventListener("change", ({ detail }) => {
  frame();
  const { view, selection } = place();
  if (detail.all) go();
  else {
    views.shards.changed(detail.shards, detail);
    if (view !== "shards") views[view].draw();
    if (selection && side.touched(selection, detail)) side.show(selection);
  }
  for (const c of detail.changes) if (c.kind !== "shards") say(`${c.text}. ${c.reason ?? ""}`);
});
cluster.addEventListener("state", () => { frame(); go(); });
addEventListener("hashchange", go);
setInterval(age, 1000);

// ---- Finding, keys, light and dark -------------------------------------------

new Search(cluster, $("search"), $("query"));
$("health").addEventListener("click", () => { location.hash = "#/overview"; });
addEventListener("keydown", (e) => {
  if (e.key === "/" && !/^(INPUT|TEXTAREA)$/.test(document.activeElement?.tagName)) {
    e.preventDefault();
    $("query").focus();
  }
  if (e.key === "Escape" && !$("side").hidden && !$("ask").open) location.hash = away();
});
const remembered = localStorage.getItem("theme");
if (remembered) document.documentElement.dataset.theme = remembered;
$("theme").addEventListener("click", () => {
  const root = document.documentElement;
  const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
  views.shards.draw();
});

frame();
go();
cluster.connect();
