// The graph for those who cannot, or do not want to, see it as one.

import { el, link, swatch } from "../draw.js";
import { short } from "./picture.js";

const SHOWN = 200;
const PSEUDO = { client: "clients", program: "programs" };

/** The facts as tables, through the same filter as the picture. */
export function table(cluster, facts, { type, node, least, errors }) {
  const busy = (of) => of.calls >= least && (!errors || of.errors > 0);
  const nodes = [...facts.nodes.values()].filter((n) => busy(n) && (!node || node === n.address) && (!type || facts.types.get(type)?.at.has(n.address)));
  const rows = [...facts.types.values()].filter((t) => !type || t.name === type).flatMap((t) => [...t.at].filter(([at, of]) => (!node || at === node) && busy(of)).map(([at, of]) => ({ type: t.name, at, ...of })));
  const edges = facts.edges.filter((e) => e.calls >= least && (!type || e.from === type || e.to === type));
  const top = facts.top.filter((o) => (!type || o.type === type) && (!node || o.node === node) && o.calls >= least);
  const name = (who) => PSEUDO[who] ?? el("a", { href: link("type", who) }, who);
  const at = (address) => [swatch(cluster, address), el("a", { href: link("node", address), class: "mono" }, address)];
  return [
    section("Nodes", ["node", "state", "#objects", "#calls/s", "#errors/s"], nodes.sort((a, b) => b.calls - a.calls).map((n) => [at(n.address), n.state, short(n.objects), short(n.calls), short(n.errors)])),
    section("Gates", ["gate", "#clients", "#calls/s", "#pushes/s"], node || type || errors ? [] : [...facts.gates.values()].map((g) => [el("a", { href: link("gate", g.address), class: "mono" }, g.address), short(g.clients), short(g.calls), short(g.pushes)])),
    section("Who calls whom", ["caller", "called", "#calls/s"], node || errors ? [] : edges.sort((a, b) => b.calls - a.calls).map((e) => [name(e.from), name(e.to), short(e.calls)])),
    section("Types on nodes", ["type", "node", "#objects", "#calls/s", "#errors/s"], rows.sort((a, b) => b.calls - a.calls).map((r) => [el("a", { href: link("type", `${r.type}@${r.at}`) }, r.type), at(r.at), short(r.objects), short(r.calls), short(r.errors)])),
    section("The busiest objects", ["object", "node", "#calls/s"], errors ? [] : top.map((o) => [el("a", { href: link("object", `${o.type}/${o.id}`), class: "mono" }, `${o.type}/${o.id}`), at(o.node), short(o.calls)])),
  ].filter(Boolean);
}

function section(title, heads, rows) {
  if (!rows.length) return null;
  const number = (h) => (h.startsWith("#") ? "n" : "");
  return el("div", { class: "card" }, el("h2", {}, `${title} (${rows.length})`),
    el("table", {}, el("thead", {}, el("tr", {}, heads.map((h) => el("th", { class: number(h), scope: "col" }, h.replace("#", ""))))),
      el("tbody", {}, rows.slice(0, SHOWN).map((cells) => el("tr", {}, cells.map((c, i) => el("td", { class: number(heads[i]) }, c)))))),
    rows.length > SHOWN ? el("p", { class: "soft" }, `and ${rows.length - SHOWN} more`) : "");
}
