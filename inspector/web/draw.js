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

export const link = (kind, id) => `#/${location.hash.slice(2).split("?")[0] || "overview"}?sel=${kind}:${encodeURIComponent(id)}`;

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
