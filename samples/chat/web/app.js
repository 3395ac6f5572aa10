// The page of the chat sample. It speaks to the gate through the JavaScript client, which
// the gate serves: calls of ChatRoom objects go out, the rooms' pushes come in.
// Whatever others wrote is put into the page as text, never as markup.

import { connect } from "/api/v1/client.js";

const PRESENCE = 20_000; // a room forgets who has not joined again for 45 s
const TRIES = 6; // of a message, over some 20 s, before the reader is asked

const gate = connect(location.origin);
const call = (room, method, request) => gate.call("ChatRoom", room, method, request);

/** Whether the same call may well succeed a little later. */
const isPassing = (error) => ["NOT_READY", "OVERLOADED", "UNKNOWN_OUTCOME", "TIMEOUT"].includes(error.code);

// ---- A room's messages ------------------------------------------------------

/**
 * Log is what is known of one room: each message once, by its number. Up to the
 * number complete nothing is missing that the room still has; what came later may
 * have a gap before it, which the next Join fills.
 */
class Log {
  constructor() {
    this.messages = []; // by number
    this.ids = new Set(); // sender and message id of those that have one
    this.complete = 0;
    this.whole = false; // also what the room has from before the first page is here
  }

  /** Adds a message and returns where, or -1 when it is there already. */
  add(m) {
    let i = this.messages.length;
    while (i > 0 && this.messages[i - 1].number > m.number) i--;
    if (i > 0 && this.messages[i - 1].number === m.number) return -1;
    this.messages.splice(i, 0, m);
    if (m.id) this.ids.add(m.sender + "\n" + m.id);
    this.advance();
    return i;
  }

  has(sender, id) {
    return this.ids.has(sender + "\n" + id);
  }

  /** The room has shown everything up to number. */
  completeUpTo(number) {
    this.complete = Math.max(this.complete, number);
    this.advance();
  }

  advance() {
    for (const m of this.messages) if (m.number === this.complete + 1) this.complete++;
  }

  get first() {
    return this.messages[0]?.number ?? 0;
  }

  get last() {
    return this.messages.at(-1)?.number ?? 0;
  }
}

function messageOf(json) {
  return {
    number: Number(json.number), // int64 is a string in JSON
    sender: json.userName ?? "",
    text: json.message ?? "",
    at: Number(json.sentUnixMs ?? 0),
    id: json.messageId ?? "",
  };
}

// ---- What the browser keeps -------------------------------------------------

function load(storage, key, fallback) {
  try {
    return JSON.parse(storage.getItem(key)) ?? fallback;
  } catch {
    return fallback; // no storage, or not ours
  }
}

const list = (value) => (Array.isArray(value) ? value : []);

function store(storage, key, value) {
  try {
    storage.setItem(key, JSON.stringify(value));
  } catch {
    // A private window may have no room: the page works, and forgets.
  }
}

// ---- The page ---------------------------------------------------------------

const $ = (id) => document.getElementById(id);

const page = {
  name: load(localStorage, "chat.name", ""),
  rooms: list(load(localStorage, "chat.rooms", ["general"])),
  room: "",
  log: new Log(),
  users: [],
  outbox: list(load(sessionStorage, "chat.outbox", [])), // {id, room, sender, text, error?}, oldest first
  joined: false,
  refused: false, // the room does not let us in
  joining: null, // the Join that is under way
  joinedAt: 0,
  leaving: new Map(), // by room, the Leave that is under way
  unseen: 0, // messages that came while nobody looked
};

const trouble = { tries: 0, timer: 0 }; // with the message that is next to go out

gate.onState(({ state }) => {
  page.joined = false;
  page.joining = null;
  showState();
  if (state === "open") join();
});

// Both pass over late news of a room that was left.
gate.onPush("chat.Presence", ({ room, users }) => room === page.room && showPeople(users ?? []));
gate.onPush("chat.ChatMessage", (body) => {
  if (body.room !== page.room) return;
  receive([messageOf(body)]);
  if (page.log.complete < page.log.last) join(); // something was missed
});
gate.onReset(() => join());
gate.onHeard(() => keepPresence()); // timers sleep in a background tab, messages do not

/** Joins the room, or says that we are still here, and fetches what was missed. */
function join() {
  if (gate.state !== "open" || !page.name || !page.room || page.joining) return;
  const left = page.leaving.get(page.room);
  if (left) return void left.then(join); // else the Leave might come last
  const log = page.log;
  const after = log.complete;
  const ask = call(page.room, "Join", { userName: page.name, after: String(after) });
  page.joining = ask;
  page.joinedAt = Date.now();
  ask.then((reply) => page.log === log && joined(after, reply), (error) => page.log === log && notJoined(error)).finally(() => {
    if (page.joining !== ask) return;
    page.joining = null;
    if (page.log !== log) join(); // the room or the name changed meanwhile
  });
}

function joined(after, reply) {
  const last = Number(reply.lastNumber ?? 0);
  if (last < after) return startOver(); // the room was deleted and began anew
  page.joined = true;
  page.refused = false;
  say("");
  receive((reply.messages ?? []).map(messageOf), after === 0);
  page.log.completeUpTo(last);
  showPeople(reply.users ?? []);
  showState();
  showEdges();
  sendNext();
}

function notJoined(error) {
  if (isPassing(error)) return void setTimeout(join, 1000);
  page.joined = false;
  page.refused = true;
  say(error.message);
  showState();
}

function startOver() {
  page.log = new Log();
  page.joining = null;
  $("log").replaceChildren();
  join();
}

function keepPresence() {
  if (Date.now() - page.joinedAt >= PRESENCE) join();
}

// ---- Writing ----------------------------------------------------------------

function write(text) {
  const bytes = crypto.getRandomValues(new Uint8Array(12));
  const id = Array.from(bytes, (b) => b.toString(16).padStart(2, "0")).join("");
  page.outbox.push({ id, room: page.room, sender: page.name, text });
  showOutbox();
  scrollDown();
  sendNext();
}

/** Sends the oldest waiting message. One at a time keeps them in order. */
async function sendNext() {
  const next = page.outbox.find((m) => !m.error);
  if (!next || next.sending || !page.joined) return;
  clearTimeout(trouble.timer);
  next.sending = true;
  try {
    const reply = await call(next.room, "SendMessage", { userName: next.sender, message: next.text, messageId: next.id });
    trouble.tries = 0;
    drop(next);
    if (next.room === page.room) {
      receive([messageOf(reply.message)]);
      if (!page.log.has(next.sender, next.id)) join(); // its number is taken: the room has begun anew
    }
  } catch (error) {
    next.sending = false;
    if (gate.state === "open") {
      join(); // the room may have begun anew, and forgotten who is here
      if (isPassing(error) && ++trouble.tries < TRIES) {
        trouble.timer = setTimeout(sendNext, 300 * 2 ** trouble.tries);
        return;
      }
    }
    if (gate.state === "open" || !isPassing(error)) {
      trouble.tries = 0;
      next.error = error.message;
    }
  }
  showOutbox();
  sendNext();
}

function drop(message) {
  page.outbox = page.outbox.filter((m) => m !== message);
}

function again(message) {
  delete message.error;
  showOutbox();
  sendNext();
}

// ---- Rooms and names --------------------------------------------------------

function roomInHash() {
  try {
    return cleanRoom(decodeURIComponent(location.hash.slice(1)));
  } catch {
    return ""; // not an escape sequence of ours
  }
}

/** A slash would make the id mean a place in the cluster. */
function cleanRoom(name) {
  return name.replace(/[/\p{Cc}]/gu, " ").replace(/\s+/g, " ").trim().slice(0, 60);
}

function enter(room) {
  if (room === page.room) return;
  leave();
  page.room = room;
  page.log = new Log();
  page.joined = page.refused = false;
  page.joining = null;
  page.unseen = 0;
  if (!page.rooms.includes(room)) page.rooms.push(room);
  store(localStorage, "chat.rooms", page.rooms);
  $("log").replaceChildren();
  say("");
  showPeople([]);
  showRooms();
  showOutbox();
  showEdges();
  showState();
  openSide(false);
  join();
}

function leave() {
  if (!page.room || !page.joined) return;
  const { room, leaving } = page;
  const left = call(room, "Leave", { userName: page.name }).catch(() => {}); // the room forgets us by itself
  leaving.set(room, left.then(() => leaving.delete(room)));
}

/** Leaves a page that is being closed. Its socket may end before a call on it is heard. */
function sayGoodbye() {
  if (!page.joined) return;
  const path = `/api/v1/objects/ChatRoom/${encodeURIComponent(page.room)}/Leave`;
  navigator.sendBeacon(path, JSON.stringify({ userName: page.name, clientId: gate.clientId }));
}

function forget(room) {
  page.rooms = page.rooms.filter((r) => r !== room);
  store(localStorage, "chat.rooms", page.rooms);
  if (room === page.room) location.hash = encodeURIComponent(page.rooms[0] ?? "general");
  showRooms();
}

function rename(name) {
  page.name = name;
  store(localStorage, "chat.name", name);
  showMe();
  for (const li of $("log").children) li.classList.toggle("own", li.dataset.sender === name);
  page.joining = null;
  join();
}

// ---- Showing ----------------------------------------------------------------

/** Takes messages in, wherever they came from: each is shown once, in its place. */
function receive(messages, quietly = false) {
  const wasDown = isDown();
  const list = $("log");
  list.setAttribute("aria-busy", String(messages.length > 5)); // a history is not read out
  let added = 0;
  for (const m of messages) {
    const i = page.log.add(m);
    if (i < 0) continue;
    list.insertBefore(rowOf(m), list.children[i] ?? null);
    dress(i);
    dress(i + 1);
    if (m.sender !== page.name) added++;
  }
  showOutbox();
  showEdges();
  if (wasDown || quietly) scrollDown();
  list.setAttribute("aria-busy", "false");
  if (!quietly && added && (document.hidden || !wasDown)) page.unseen += added;
  showUnseen();
}

function rowOf(m) {
  const li = document.createElement("li");
  li.dataset.number = m.number;
  li.dataset.sender = m.sender;
  li.classList.toggle("own", m.sender === page.name);
  const head = element("div", "head");
  const time = element("time", "", new Date(m.at).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" }));
  time.dateTime = new Date(m.at).toISOString();
  time.title = new Date(m.at).toLocaleString();
  head.append(element("span", "who", m.sender), time);
  li.append(faceOf(m.sender), head, element("div", "text", m.text));
  return li;
}

/** Says of the i-th message whether it continues its neighbour, or begins a day. */
function dress(i) {
  const m = page.log.messages[i];
  const li = $("log").children[i];
  if (!m) return;
  const before = page.log.messages[i - 1];
  const newDay = !before || dayOf(before.at) !== dayOf(m.at);
  li.classList.toggle("newday", newDay);
  if (newDay) li.dataset.day = dayOf(m.at);
  li.classList.toggle("cont", !newDay && before.sender === m.sender && m.at - before.at < 5 * 60_000);
}

function dayOf(at) {
  return new Date(at).toLocaleDateString([], { weekday: "long", day: "numeric", month: "long", year: "numeric" });
}

function showOutbox() {
  store(sessionStorage, "chat.outbox", page.outbox.map(({ sending, ...kept }) => kept));
  const mine = page.outbox.filter((m) => m.room === page.room && !page.log.has(m.sender, m.id));
  $("pending").replaceChildren(...mine.map(waitingRow));
}

function waitingRow(m) {
  const li = element("li", m.error ? "own pending failed" : "own pending");
  const head = element("div", "head");
  head.append(element("span", "who", m.sender));
  const status = element("div", "status", m.error ? "not sent: " + m.error : "sending…");
  if (m.error) {
    status.append(
      button("Try again", () => again(m)),
      button("Discard", () => (drop(m), showOutbox())),
    );
  }
  li.append(faceOf(m.sender), head, element("div", "text", m.text), status);
  return li;
}

function showState() {
  const open = page.joined ? "live" : page.refused ? "not in the room" : "connecting";
  const words = { connecting: "connecting", open };
  const seconds = Math.max(1, Math.ceil((gate.retryAt - Date.now()) / 1000));
  const text = words[gate.state] ?? `reconnecting in ${seconds} s`;
  const state = $("state");
  if (state.textContent !== text) state.textContent = text;
  const kind = gate.state === "waiting" ? "waiting" : text;
  if (state.dataset.state === kind) return;
  state.dataset.state = kind;
  $("spoken-state").textContent = kind === "waiting" ? "connection lost, reconnecting" : kind;
  $("retry").hidden = kind !== "waiting";
}

function showPeople(users) {
  page.users = users;
  $("people-count").textContent = users.length || "";
  $("top-count").textContent = users.length ? `${users.length} here` : "";
  $("people").replaceChildren(
    ...users.map((name) => {
      const li = element("li", "");
      li.append(faceOf(name), element("span", name === page.name ? "you" : "", name));
      return li;
    }),
  );
}

function showRooms() {
  $("title").textContent = page.room;
  $("text").placeholder = `Message #${page.room}`;
  $("rooms").replaceChildren(
    ...page.rooms.map((room) => {
      const li = element("li", "");
      const link = element("a", "", room);
      link.href = "#" + encodeURIComponent(room);
      if (room === page.room) link.setAttribute("aria-current", "page");
      li.append(link);
      if (room !== page.room) {
        const close = button("×", () => forget(room));
        close.setAttribute("aria-label", `Take ${room} off the list`);
        li.append(close);
      }
      return li;
    }),
  );
  showUnseen();
}

function showMe() {
  $("my-name").textContent = page.name;
  $("my-face").replaceWith(Object.assign(faceOf(page.name), { id: "my-face" }));
}

function showEdges() {
  $("empty").hidden = !page.joined || page.log.messages.length > 0 || $("pending").children.length > 0;
  $("earlier").hidden = page.log.first <= 1 || page.log.whole;
}

function showUnseen() {
  if (!document.hidden && isDown()) page.unseen = 0;
  $("jump").hidden = page.unseen === 0;
  $("jump").textContent = page.unseen === 1 ? "1 new message ↓" : `${page.unseen} new messages ↓`;
  document.title = `${page.unseen ? `(${page.unseen}) ` : ""}#${page.room} · Goverse chat`;
}

async function showEarlier() {
  const { log, room } = page;
  $("earlier-button").disabled = true;
  try {
    const reply = await call(room, "History", {});
    if (page.log !== log) return;
    const box = $("scroll");
    const fromEnd = box.scrollHeight - box.scrollTop;
    const first = log.first;
    receive((reply.messages ?? []).map(messageOf).filter((m) => m.number < first), true);
    box.scrollTop = box.scrollHeight - fromEnd;
    page.unseen = 0;
    showUnseen();
    log.whole = true;
    showEdges();
  } catch (error) {
    say(error.message);
  } finally {
    $("earlier-button").disabled = false;
  }
}

function say(text) {
  $("notice").textContent = text;
  $("notice").hidden = text === "";
}

const isDown = () => $("scroll").scrollHeight - $("scroll").scrollTop - $("scroll").clientHeight < 60;
const scrollDown = () => ($("scroll").scrollTop = $("scroll").scrollHeight);

function element(tag, className, text = "") {
  const e = document.createElement(tag);
  e.className = className;
  e.textContent = text;
  return e;
}

function button(text, onclick) {
  const b = element("button", "quiet", text);
  b.type = "button";
  b.onclick = onclick;
  return b;
}

function faceOf(name) {
  const face = element("span", "face", (Array.from(name)[0] ?? "?").toUpperCase());
  face.setAttribute("aria-hidden", "true");
  let hash = 0;
  for (const c of name) hash = (hash * 31 + c.codePointAt(0)) >>> 0;
  face.style.setProperty("--hue", (hash * 137.5) % 360);
  return face;
}

function openSide(open) {
  $("app").classList.toggle("open", open);
  $("menu").setAttribute("aria-expanded", String(open));
}

function askName() {
  $("name-input").value = page.name;
  if (!$("name-dialog").open) $("name-dialog").showModal();
  $("name-input").select();
}

function grow() {
  const text = $("text");
  text.style.height = "auto";
  text.style.height = text.scrollHeight + 2 + "px";
}

// ---- What the reader does ---------------------------------------------------

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (!text || !page.name) return;
  $("text").value = "";
  grow();
  write(text);
});
$("text").addEventListener("input", grow);
$("text").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
});
$("room-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const room = cleanRoom($("room-input").value);
  $("room-input").value = "";
  if (room) location.hash = encodeURIComponent(room);
  openSide(false);
});
$("name-form").addEventListener("submit", (event) => {
  const name = $("name-input").value.trim();
  if (!name) return event.preventDefault();
  if (name !== page.name) rename(name);
});
$("name-dialog").addEventListener("cancel", (event) => page.name || event.preventDefault());
$("name-dialog").addEventListener("close", () => (page.name ? $("text").focus() : askName()));
$("rename").addEventListener("click", askName);
$("retry").addEventListener("click", () => gate.reconnect());
$("earlier-button").addEventListener("click", showEarlier);
$("jump").addEventListener("click", () => (scrollDown(), showUnseen()));
$("scroll").addEventListener("scroll", () => page.unseen && showUnseen());
$("menu").addEventListener("click", () => openSide(!$("app").classList.contains("open")));
$("shade").addEventListener("click", () => openSide(false));

addEventListener("keydown", (event) => event.key === "Escape" && openSide(false));
addEventListener("hashchange", () => enter(roomInHash() || "general"));
addEventListener("resize", () => isDown() && scrollDown());
addEventListener("pagehide", sayGoodbye);
addEventListener("pageshow", (event) => event.persisted && join()); // we have said goodbye
document.addEventListener("visibilitychange", () => document.hidden || showUnseen());
setInterval(() => {
  keepPresence();
  if (gate.state === "waiting") showState();
}, 1000);

showMe();
enter(roomInHash() || page.rooms[0] || "general");
showState();
if (page.name) $("text").focus();
else askName();
