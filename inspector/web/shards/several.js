// Several shards at once: what a drag over the map selects.

import { el, link, swatch } from "../draw.js";

/** Numbers as they stand in an address: 3-9,131-137. */
export function asText(ids) {
  const parts = [];
  for (let i = 0; i < ids.length; i++) {
    const from = ids[i];
    while (ids[i + 1] === ids[i] + 1) i++;
    parts.push(from === ids[i] ? `${from}` : `${from}-${ids[i]}`);
  }
  return parts.join(",");
}

/** The numbers of a text, each below many. */
export function fromText(text, many) {
  const ids = new Set();
  for (const part of text.split(",")) {
    const [from, to = from] = part.split("-").map(Number);
    for (let id = from; id <= Math.min(to, many - 1); id++) ids.add(id);
  }
  return [...ids];
}

/** The sidebar's body for several shards; null for other kinds. */
export function severalTold(cluster, kind, text) {
  if (kind !== "shards") return null;
  const ids = fromText(text, cluster.shards.length);
  const count = (of) => [...Map.groupBy(ids, of)].map(([value, list]) => [value, list.length]).sort((a, b) => b[1] - a[1]);
  const moving = ids.filter((id) => cluster.shards[id][2] >= 0 && cluster.shards[id][1] !== cluster.shards[id][2]).length;
  return [
    el("p", {}, `${ids.length} shards: ${count((id) => cluster.shards[id][3]).map(([state, n]) => `${n} ${state}`).join(", ")}. ${moving ? `${moving} are on their way to another node.` : "None is on its way."}`),
    el("h3", {}, "Held by"),
    el("ul", {}, count((id) => cluster.name(cluster.shards[id][1])).slice(0, 20).map(([address, n]) => el("li", {}, address ? [swatch(cluster, address), el("a", { href: link("node", address), class: "mono" }, address)] : "nobody", ` · ${n}`))),
    el("h3", {}, "Shards"),
    el("p", { class: "mono" }, ids.slice(0, 100).flatMap((id) => [el("a", { href: link("shard", id) }, String(id)), " "]), ids.length > 100 ? `and ${ids.length - 100} more` : ""),
  ];
}
