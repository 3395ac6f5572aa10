// Small things that all views draw with. Whatever the cluster says is put into the page
// as text, never as markup.

/** el makes an element: el("p", {class: "soft"}, "text", child). */
export function el(tag, attributes = {}, ...children) {
  const e = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) e.addEventListener(name.slice(2), value);
    else if (value === true) e.setAttribute(name, "");
    else if (value !== false && value !== undefined && value !== null) e.setAttribute(name, value);
  }
  e.append(...children.flat().filter((c) => c !== null && c !== undefined && c !== ""));
  return e;
}

/** Puts children into root anew, and the focus back to what had it, by where it leads. */
export function renew(root, children) {
  const focused = root.contains(document.activeElement) ? document.activeElement.getAttribute("href") : null;
  root.replaceChildren(...children);
  if (focused) [...root.querySelectorAll("a")].find((a) => a.getAttribute("href") === focused)?.focus({ preventScroll: true });
}

/**
 * Makes root's children be like these, and changes only what differs: what somebody is
 * pressing, or reads aloud, stays. Elements are the same if their tags and what they are
 * about are; they keep their listeners.
 */
export function become(root, children) {
  const left = [...root.childNodes];
  let at = root.firstChild;
  for (const fresh of children) {
    const i = left.findIndex((was) => alike(was, fresh));
    const now = i < 0 ? fresh : match(left.splice(i, 1)[0], fresh);
    if (now === at) at = at.nextSibling;
    else root.insertBefore(now, at);
  }
  for (const gone of left) gone.remove();
}

const about = (e) => e.dataset.node ?? e.dataset.type ?? e.dataset.gate ?? "";

function alike(a, b) {
  return a.nodeName === b.nodeName && (a.nodeType !== Node.ELEMENT_NODE || about(a) === about(b));
}

function match(was, fresh) {
  if (was.nodeType !== Node.ELEMENT_NODE) {
    if (was.nodeValue !== fresh.nodeValue) was.nodeValue = fresh.nodeValue;
    return was;
  }
  for (const { name } of [...was.attributes]) if (!fresh.hasAttribute(name)) was.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (name !== "style" && was.getAttribute(name) !== value) was.setAttribute(name, value);
  if (was.style.cssText !== fresh.style.cssText) was.style.cssText = fresh.style.cssText; // an attribute of style is not let in
  become(was, [...fresh.childNodes]);
  return was;
}

// Okabe and Ito's colours, which most people tell apart, and lighter ones of the same.
const COLOURS = ["#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b8a800", "#7a5cc4", "#4aa3a3", "#a05a2c", "#8b8f99", "#c2185b"];

/** The colour of a node, the same in every view: by the number of its address. */
export function colour(cluster, address) {
  const n = cluster.names.indexOf(address);
  return n < 0 ? "#8b8f99" : COLOURS[n % COLOURS.length];
}

/** A node's mark: its colour, and without colour what it is. */
export function swatch(cluster, address) {
  const node = cluster.node(address);
  const state = node ? node.state : "gone";
  const s = el("i", { class: `swatch ${state}`, "aria-hidden": "true" });
  s.style.backgroundColor = colour(cluster, address);
  if (!node) s.style.color = colour(cluster, address);
  return s;
}

/** How long ago, in words. */
export function ago(millis) {
  const s = Math.max(0, Math.round((Date.now() - millis) / 1000));
  if (s < 2) return "now";
  if (s < 100) return `${s} s ago`;
  if (s < 6000) return `${Math.round(s / 60)} min ago`;
  return `${Math.round(s / 3600)} h ago`;
}

export function clock(millis) {
  return new Date(millis).toLocaleTimeString([], { hour12: false });
}

export function exact(millis) {
  return new Date(millis).toISOString();
}

/** An id with a button that copies it. */
export function copyable(text) {
  const button = el("button", { class: "quiet", type: "button", "aria-label": `copy ${text}` }, "copy");
  button.addEventListener("click", async () => {
    await navigator.clipboard.writeText(text);
    button.textContent = "copied";
    setTimeout(() => { button.textContent = "copy"; }, 1200);
  });
  return el("span", {}, el("span", { class: "mono" }, text), button);
}

const FILTERS = ["type", "node", "prefix"]; // of the list of objects, in the address

/** The address of this page without a selection; the list of objects goes on being filtered. */
export function away() {
  const [view, query] = location.hash.slice(2).split("?");
  const given = new URLSearchParams(query);
  const kept = view === "objects" ? FILTERS.filter((name) => given.get(name)).map((name) => `${name}=${encodeURIComponent(given.get(name))}`) : [];
  return `#/${view || "overview"}${kept.length ? `?${kept.join("&")}` : ""}`;
}

/** The address of this page with something selected. */
export function link(kind, id) {
  const base = away();
  return `${base}${base.includes("?") ? "&" : "?"}sel=${kind}:${encodeURIComponent(id)}`;
}

/** A question with its consequences in words; true when it was answered with yes. */
export function confirm(title, text, yes) {
  const dialog = document.getElementById("ask");
  return new Promise((resolve) => {
    const answer = (value) => () => { dialog.close(); resolve(value); };
    dialog.replaceChildren(
      el("h2", {}, title),
      ...[text].flat().map((t) => el("p", {}, t)),
      el("div", { class: "tools" }, el("button", { type: "button", onclick: answer(false) }, "Cancel"), el("button", { type: "button", class: "primary", id: "yes", onclick: answer(true) }, yes)),
    );
    dialog.addEventListener("cancel", () => resolve(false), { once: true });
    dialog.showModal();
  });
}
