// What the graph shows of a cluster, as values: marks and lines, without colours. What
// draws them, and the table, read the same.

import { inside } from "./place.js";

const PSEUDO = { client: "clients", program: "programs" }; // who calls and is no type

/** A filter that lets everything through. */
export const EVERYTHING = { type: "", node: "", least: 0, errors: false };

/** Numbers as people read them: 950, 4.3k, 1.2M. */
export function short(n) {
  if (n >= 999_500) return `${(n / 1e6).toPrecision(2)}M`;
  if (n >= 9950) return `${Math.round(n / 1000)}k`;
  if (n >= 1000) return `${(n / 1000).toFixed(1)}k`;
  return n >= 10 || Number.isInteger(n) ? String(Math.round(n)) : n.toFixed(1);
}

const long = (n) => Math.round(n).toLocaleString("en");
const time = (micros) => (micros >= 1000 ? `${(micros / 1000).toPrecision(3)} ms` : `${micros} µs`);
const plural = (n, word) => `${long(n)} ${word}${Math.round(n) === 1 ? "" : "s"}`;

/** Addresses without what all have in common: 10.0.0.7:47000 and 10.0.0.8:47000 are …7 and …8. */
export function shortened(addresses) {
  if (addresses.length < 2) return (a) => a;
  const ports = new Set(addresses.map((a) => a.slice(a.lastIndexOf(":"))));
  const hosts = [...new Set(addresses.map((a) => a.slice(0, a.lastIndexOf(":"))))];
  if (hosts.length === 1) return (a) => a.slice(a.lastIndexOf(":"));
  let same = 0;
  while (hosts.every((h) => h[same] !== undefined && h[same] === hosts[0][same])) same++;
  while (same > 0 && !/[.\-:]/.test(hosts[0][same - 1])) same--; // whole parts only
  return (a) => `${same > 3 ? "…" + a.slice(same) : a}`.slice(0, ports.size === 1 ? -ports.values().next().value.length : undefined);
}

/** What is known of a cluster at this moment, by what it is of. */
export class Facts {
  nodes = new Map(); // address → {state, held, …, objects, calls, errors, p50, p99, queued, commits}
  gates = new Map();
  types = new Map(); // name → {objects, calls, errors, at: Map of address → the same}
  edges = []; // {from, to, calls}
  top = [];
  rated = false;

  constructor(cluster) {
    const { scene, rates } = cluster;
    const none = { objects: 0, calls: 0, errors: 0, p50: 0, p99: 0, queued: 0, commits: 0 };
    const said = new Map(rates?.nodes.map((n) => [n.address, n]));
    this.rated = rates !== null;
    for (const n of scene?.nodes ?? []) this.nodes.set(n.address, { ...none, ...said.get(n.address), ...n });
    for (const [, current] of cluster.shards) {
      const address = cluster.name(current);
      if (address && !this.nodes.has(address)) this.nodes.set(address, { ...none, address, state: "gone", held: 0 });
      const n = this.nodes.get(address);
      if (n?.state === "gone") n.held++;
    }
    const of = new Map(rates?.gates.map((g) => [g.address, g]));
    for (const address of scene?.gates ?? []) this.gates.set(address, { address, clients: 0, calls: 0, pushes: 0, ...of.get(address) });
    for (const name of new Set([...this.nodes.values()].flatMap((n) => n.types ?? []))) this.#type(name);
    for (const [type, node, objects, calls, errors] of rates?.types ?? []) {
      const t = this.#type(type);
      t.objects += objects;
      t.calls += calls;
      t.errors += errors;
      t.at.set(node, { objects, calls, errors });
    }
    this.edges = (rates?.edges ?? []).map(([from, to, calls]) => ({ from, to, calls }));
    for (const { from, to } of this.edges) [from, to].filter((name) => !PSEUDO[name]).forEach((name) => this.#type(name));
    this.top = rates?.top ?? [];
  }

  #type(name) {
    if (!this.types.has(name)) this.types.set(name, { name, objects: 0, calls: 0, errors: 0, at: new Map() });
    return this.types.get(name);
  }
}

const busy = (of, filter) => of.calls >= filter.least && (!filter.errors || of.errors > 0);

/** Says in a sentence what a node does. */
export function nodeWords(n) {
  const state = n.state === "gone" ? `gone, but ${plural(n.held, "shard")} still name it` : `${n.state}, ${plural(n.held, "shard")}`;
  const silent = n.silent ? `; it does not say what it does: ${n.silent}` : "";
  return `${n.address}: ${state}, ${plural(n.objects, "object")}, ${long(n.calls)} calls/s${n.errors ? `, ${short(n.errors)} errors/s` : ""}${n.p99 ? `, p99 ${time(n.p99)}` : ""}${silent}`;
}

const typeWords = (name, t) => `${name}: ${plural(t.objects, "object")}, ${short(t.calls)} calls/s${t.errors ? `, ${short(t.errors)} errors/s` : ""}`;

/**
 * The graph: marks by key, and lines. near.loaded has, for bubbles that are looked at from
 * near, their objects as {id, seat}; near.each of a bubble are shown.
 */
export function picture(facts, places, filter, near) {
  const p = { marks: new Map(), lines: new Map(), hidden: 0 };
  const name = shortened([...facts.nodes.keys()]);
  const gate = shortened([...facts.gates.keys()]);
  const most = Math.max(1, ...[...facts.types.values()].flatMap((t) => [...t.at.values()].map((a) => a.objects)));
  const scale = 2 ** Math.ceil(Math.log2(most)); // in steps, so that bubbles do not all breathe with the largest
  for (const n of facts.nodes.values()) {
    const wanted = (!filter.node || filter.node === n.address) && busy(n, filter) && (!filter.type || facts.types.get(filter.type)?.at.has(n.address));
    if (!wanted) { p.hidden++; continue; }
    p.marks.set(`node:${n.address}`, { kind: "node", state: n.state, node: n.address, ...places.hub(`node:${n.address}`), size: 1, z: 0, alert: n.errors > 0,
      label: `${n.leader ? "★ " : ""}${name(n.address)}${{ draining: " draining", gone: " gone" }[n.state] ?? ""}${n.errors ? " ⚠" : ""}`, more: n.calls ? `${short(n.calls)}/s` : "", words: nodeWords(n) });
  }
  for (const g of facts.gates.values()) {
    if (filter.node || filter.type || filter.errors || g.calls < filter.least) { p.hidden++; continue; }
    p.marks.set(`gate:${g.address}`, { kind: "gate", ...places.hub(`gate:${g.address}`), size: 0.42, z: 0,
      label: `gate ${gate(g.address)}`, more: g.calls ? `${short(g.calls)}/s` : "", words: `gate ${g.address}: ${plural(g.clients, "client")}, ${short(g.calls)} calls/s, ${short(g.pushes)} pushes/s${g.silent ? `; ${g.silent}` : ""}` });
  }
  middle(p, facts, places, filter);
  for (const t of facts.types.values()) {
    for (const [address, at] of t.at) {
      if (!p.marks.has(`node:${address}`) || !busy(at, filter) || (filter.type && filter.type !== t.name)) continue;
      const { room, ...place } = places.around(address, t.name, facts.types.size);
      const size = room * Math.max(0.16, Math.sqrt(at.objects / scale));
      const bubble = { kind: "bubble", node: address, type: t.name, ...place, size, z: 1, alert: at.errors > 0, label: `${t.name} · ${short(at.objects)}`, words: `${typeWords(t.name, at)} on ${address}` };
      p.marks.set(`type:${t.name}@${address}`, bubble);
    }
  }
  objects(p, facts, filter, near);
  return p;
}

/** The types in the middle, and who calls whom. */
function middle(p, facts, places, filter) {
  const largest = Math.max(1, ...[...facts.types.values()].map((t) => t.objects));
  const scale = 2 ** Math.ceil(Math.log2(largest));
  const edges = facts.edges.filter((e) => e.calls >= filter.least && (!filter.type || e.from === filter.type || e.to === filter.type));
  const near = new Set(edges.flatMap((e) => [e.from, e.to]));
  if (!filter.node) {
    for (const t of facts.types.values()) {
      if (!busy(t, filter) || (filter.type && filter.type !== t.name && !near.has(t.name))) { p.hidden++; continue; }
      p.marks.set(`type:${t.name}`, { kind: "type", ...places.type(t.name), size: 0.24 + 0.34 * Math.sqrt(t.objects / scale), z: 1, alert: t.errors > 0,
        label: `${t.name}${t.errors ? " ⚠" : ""}`, more: t.calls ? `${short(t.calls)}/s` : "", words: typeWords(t.name, t) });
    }
    for (const who of ["client", "program"]) {
      const calls = facts.edges.filter((e) => e.from === who).reduce((n, e) => n + e.calls, 0);
      if (!filter.errors && (near.has(who) || (who === "client" && facts.gates.size && !filter.type))) p.marks.set(who, { kind: "caller", ...places.type(who), size: 0.24, z: 1, label: PSEUDO[who], words: `${PSEUDO[who]}: ${short(calls)} calls/s` });
    }
  }
  const line = (from, to, calls, words) => {
    const [key, back] = [`${from}>${to}`, `${to}>${from}`];
    if (from === to || !p.marks.has(from) || !p.marks.has(to)) return;
    const other = p.lines.get(back);
    if (other) Object.assign(other, { both: true, calls: other.calls + calls, width: thick(other.calls + calls), words: `${other.words}; ${words}` });
    else p.lines.set(key, { from, to, calls, width: thick(calls), both: false, words });
  };
  const end = (who) => (PSEUDO[who] ? who : `type:${who}`);
  for (const e of edges) line(end(e.from), end(e.to), e.calls, `${PSEUDO[e.from] ?? e.from} → ${e.to}: ${short(e.calls)} calls/s`);
  for (const g of facts.gates.values()) line(`gate:${g.address}`, "client", g.calls, `gate ${g.address}: ${plural(g.clients, "client")}, ${short(g.calls)} calls/s`);
}

const thick = (calls) => 0.5 + 0.55 * Math.log10(1 + calls); // px, where all is seen

/** Objects in their bubbles: the busiest of the cluster first, then those that were loaded. */
function objects(p, facts, filter, { loaded, each }) {
  const calls = new Map(facts.top.map((o) => [`object:${o.type}/${o.id}`, o.calls]));
  for (const [key, list] of loaded) {
    const bubble = p.marks.get(key);
    if (!bubble) continue;
    const many = list.reduce((most, o) => Math.max(most, o.seat + 1), 0);
    for (const { id, seat } of list.slice(0, each)) {
      const at = `object:${bubble.type}/${id}`;
      const rate = calls.get(at) ?? 0;
      if (rate < filter.least) continue;
      const place = inside(bubble, seat, many);
      p.marks.set(at, { kind: "object", node: bubble.node, ...place, size: place.size * (rate ? 1.25 : 0.8), z: 2, busy: rate > 0,
        label: rate ? `${id} · ${short(rate)}/s` : id, words: `${bubble.type}/${id} on ${bubble.node}${rate ? `: ${short(rate)} calls/s` : ""}` });
    }
  }
}
