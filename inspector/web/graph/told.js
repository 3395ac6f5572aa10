// What the sidebar says of what only rates know: types, types on a node, and gates.

import { el, link, swatch } from "../draw.js";
import { Facts, short } from "./picture.js";

const PSEUDO = { client: "clients", program: "programs" };

/** The sidebar's body for a type or a gate; null for what the inspector explains. */
export function told(cluster, kind, id) {
  if (kind !== "type" && kind !== "gate") return null;
  const facts = new Facts(cluster);
  if (kind === "gate") return gate(facts.gates.get(id), id);
  const [name, address] = id.split("@");
  const type = facts.types.get(name);
  if (!type) return [el("p", {}, `Nothing is known of a type ${name}: no node has it, and nobody has called it since the inspector began to look.`)];
  return address ? typeAt(cluster, type, address) : whole(cluster, facts, type);
}

const numbers = (pairs) => el("dl", { class: "facts" }, pairs.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
const rates = (of) => [["objects", of.objects.toLocaleString("en")], ["calls", `${short(of.calls)}/s`], ["errors", `${short(of.errors)}/s`]];

function gate(g, address) {
  if (!g) return [el("p", {}, `There is no gate ${address} now.`)];
  return [el("p", {}, g.silent ? `It does not say what it does: ${g.silent}.` : "Clients reach the cluster through it."),
    numbers([["clients", g.clients.toLocaleString("en")], ["calls", `${short(g.calls)}/s`], ["pushes to clients", `${short(g.pushes)}/s`]])];
}

function typeAt(cluster, type, address) {
  const at = type.at.get(address) ?? { objects: 0, calls: 0, errors: 0 };
  const share = type.calls ? Math.round((100 * at.calls) / type.calls) : 0;
  return [el("p", {}, "The objects of ", el("a", { href: link("type", type.name) }, type.name), " on ", swatch(cluster, address), el("a", { href: link("node", address), class: "mono" }, address), `: ${share} % of this type's calls run here.`), numbers(rates(at))];
}

function whole(cluster, facts, type) {
  const who = (name) => (PSEUDO[name] ? PSEUDO[name] : el("a", { href: link("type", name) }, name));
  const list = (title, edges, end) => (edges.length ? [el("h3", {}, title), el("ul", {}, edges.sort((a, b) => b.calls - a.calls).map((e) => el("li", {}, who(e[end]), ` · ${short(e.calls)} calls/s`)))] : []);
  const at = [...type.at].filter(([, of]) => of.objects > 0 || of.calls > 0).sort((a, b) => b[1].calls - a[1].calls || b[1].objects - a[1].objects);
  return [
    numbers(rates(type)),
    ...list("Called by", facts.edges.filter((e) => e.to === type.name), "from"),
    ...list("Calls", facts.edges.filter((e) => e.from === type.name), "to"),
    el("h3", {}, at.length === 1 ? "On 1 node" : `On ${at.length} nodes`),
    el("ul", {}, at.slice(0, 12).map(([address, of]) => el("li", {}, swatch(cluster, address), el("a", { href: link("type", `${type.name}@${address}`), class: "mono" }, address), ` · ${short(of.objects)} objects · ${short(of.calls)}/s`))),
    at.length > 12 ? el("p", { class: "soft" }, `and ${at.length - 12} more, with less to do`) : "",
  ].filter(Boolean);
}
