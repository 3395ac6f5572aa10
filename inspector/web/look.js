// What an object's node knows of it: the sidebar's part for an object.

import { ago, confirm, el, exact } from "./draw.js";
import { ask } from "./feed.js";
import { span } from "./load.js";

const AGAIN = 2000; // ms

/** An element that shows an object, and goes on showing it for as long as it is on the page. */
export function look(id) {
  const [type, rest] = [id.slice(0, id.indexOf("/")), id.slice(id.indexOf("/") + 1)];
  const which = new URLSearchParams({ type, id: rest }).toString();
  const facts = el("div", { id: "look" }, el("p", { class: "soft" }, "Its node is asked…"));
  const state = el("div", { id: "state" });
  const read = async () => {
    state.replaceChildren(...shown(await sight(`${which}&state=true`), read));
  };
  const again = async () => {
    const s = await sight(which);
    facts.replaceChildren(...(s.error ? [el("p", { "data-level": "troubled" }, s.error)] : told(s)));
  };
  const timer = setInterval(() => {
    if (facts.isConnected) again();
    else clearInterval(timer);
  }, AGAIN);
  again();
  read();
  return el("div", {}, el("h3", {}, "In memory"), facts, el("h3", {}, "State"), state, actions(type, rest, again));
}

const sight = (query) => ask(`/api/object?${query}`).catch((e) => ({ error: e.message }));

function told(s) {
  const time = (millis) => (millis ? el("span", { title: exact(millis) }, ago(millis)) : "–");
  const pairs = [
    ["lives", s.live ? `${s.phase} on ${s.node}` : `no; its node is ${s.node}`],
    ["shard", s.shard < 0 ? "none: pinned to its node" : String(s.shard)], ["epoch", s.epoch ? String(s.epoch) : "–"],
    ["stored version", s.version ? `${s.version}${s.unsaved ? ", and not all is stored" : ""}` : "–"],
    ["mode", s.mode], ["durability", s.durability], ["created", time(s.created)], ["last call", time(s.lastUsed)],
  ];
  return [
    el("dl", { class: "facts" }, pairs.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)])),
    ...calls("Inside now", s.running), ...calls(`Waiting for a turn (${s.queued})`, s.queue), ...calls("Recent calls", s.recent),
    s.recent.length ? "" : el("p", { class: "soft" }, "No call was seen since somebody looks."),
  ].filter(Boolean);
}

function calls(title, list) {
  if (!list.length) return [];
  return [el("h3", {}, title), el("ul", { class: "calls" }, list.map((c) => el("li", {},
    el("span", { class: "mono" }, c.method), " ", el("span", { "data-level": c.outcome && c.outcome !== "ok" ? "troubled" : undefined }, c.outcome ?? ""),
    el("span", { class: "soft" }, ` by ${c.caller}${c.outcome ? `, ${span(c.took)}` : ""}${c.at ? `, ${ago(c.at)}` : ""}`))))];
}

function shown(s, read) {
  return [
    s.error ? "" : s.state === undefined ? el("p", { class: "soft" }, `Not shown: ${s.noState || "there is none"}.`) : el("div", { class: "tree mono" }, ...tree(s.state)),
    s.hidden ? el("p", { class: "soft" }, `Hidden, because they are marked debug_redact: ${s.hidden.join(", ")}`) : "",
    el("button", { type: "button", class: "quiet", onclick: read }, "read it again"),
  ].filter(Boolean);
}

/** JSON as a tree that opens. */
function tree(value, name = "") {
  const label = name === "" ? "" : `${name}: `;
  if (value === null || typeof value !== "object") return [el("div", {}, label, JSON.stringify(value))];
  const entries = Object.entries(value);
  const inside = entries.slice(0, 200).flatMap(([n, v]) => tree(v, n));
  if (entries.length > 200) inside.push(el("div", { class: "soft" }, `and ${entries.length - 200} more`));
  if (name === "") return inside;
  return [el("details", { open: entries.length <= 12 }, el("summary", {}, `${label}${Array.isArray(value) ? `[${entries.length}]` : "{…}"}`), ...inside)];
}

function actions(type, id, again) {
  const result = el("p", { role: "status" });
  const button = el("button", { type: "button", id: "deactivate" }, "Deactivate…");
  const order = async (force) => {
    const answer = await ask("/api/object/deactivate", { type, id, force });
    result.textContent = answer.wasLive ? "It has ended. Its next call begins it again." : "It was not in memory.";
    again();
  };
  button.addEventListener("click", async () => {
    if (!(await confirm(`Deactivate ${type}/${id}?`, ["Its state is stored first; if that fails it stays. Calls that are inside end first, and those that come wait for milliseconds.", "Its next call begins it again, from its stored state."], "Deactivate it"))) return;
    button.disabled = true;
    try {
      await order(false);
    } catch (e) {
      result.textContent = e.message;
      if (e.message.includes("say force") && (await confirm("Lose its state?", e.message, "Deactivate it all the same"))) await order(true).catch((e) => { result.textContent = e.message; });
    }
    button.disabled = false;
  });
  return el("div", {}, el("h3", {}, "Actions"), button, result);
}
