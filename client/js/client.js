// The JavaScript client of Goverse: see README.md, and client.d.ts for what is exported.

import { callIdAt, Clock, objectId } from "./client/callid.js";
import { Calls } from "./client/calls.js";
import { Connection, trimmed } from "./client/connection.js";
import { GoverseError } from "./client/error.js";
import { Listeners } from "./client/listeners.js";
import { Session } from "./client/session.js";
import { Stream } from "./client/stream.js";
import { Subscription } from "./client/subscription.js";

export { GoverseError };

const defaults = {
  transport: "auto",
  headers: undefined,
  follow: false,
  callTimeout: 35_000, // the gate gives up after 30 s, and its answer says more
  connectTimeout: 10_000,
  silence: 50_000, // the gate says something at least every 20 s
  queue: 1_000,
  backoff: { first: 500, longest: 15_000 },
};

/** connect makes a client of one gate or of several. It returns at once: calls wait until it is connected. */
export function connect(urls, options) {
  return new Client(urls, options);
}

/** Client calls objects, hears what is pushed to it, and stays connected until it is closed. */
export class Client {
  #options;
  #session = new Session();
  #clock = new Clock();
  #calls;
  #connection;
  #pushed = new Listeners();
  #resets = new Listeners();
  #states = new Listeners();
  #heard = new Listeners();
  #streams = new Set();
  #subscriptions = new Set();
  #ack = 0; // a timer
  #acked = 0;
  #unwatch;

  constructor(urls, options = {}) {
    const bases = basesOf(urls);
    this.#options = optionsOf(options);
    this.#calls = new Calls(this.#options.queue);
    this.#connection = new Connection(bases, this.#options, this.#session, {
      opened: (link, frame, early) => this.#opened(link, frame, early),
      heard: () => this.#heard.tell(),
      frame: (link, frame) => this.#take(link, frame),
      leaving: () => this.#calls.use(null),
      lost: (link, error) => this.#calls.drop(link, error),
      refused: (error) => this.#calls.refuse(error),
      changed: () => this.#changed(),
    });
    this.#unwatch = watchPage(() => this.#connection.hurry());
    this.#connection.start();
  }

  /** connecting, open, waiting, refused or closed. */
  get state() {
    return this.#connection.state;
  }

  /** When waiting: the time of the next try, in Unix milliseconds; else 0. */
  get retryAt() {
    return this.#connection.retryAt;
  }

  /** Why the last connection ended or was not had; null for no reason. */
  get error() {
    return this.#connection.error;
  }

  /** The gate's name for this client's session; "" before the first. */
  get clientId() {
    return this.#session.clientId;
  }

  /** Resolves as soon as the client is connected; rejects when it is refused or closed before. */
  ready() {
    if (this.state === "open") return Promise.resolve();
    return new Promise((resolve, reject) => {
      const done = this.onState(({ state, error }) => {
        if (state === "open") resolve();
        else if (state === "refused") reject(error);
        else if (state === "closed") reject(new GoverseError("the client is closed", { code: "CLOSED", outcome: "not executed" }));
        else return;
        done();
      });
      if (this.state === "closed" || this.state === "refused") this.#tellState();
    });
  }

  /** Calls a method of an object and returns its response. */
  call(type, id, method, request, options = {}) {
    const { callId } = options;
    return this.#make({ op: "call", type, id, method, callId }, request, { ...options, once: callId !== undefined });
  }

  /** Creates an object, under an id of its own making if there is none, and returns the id. */
  async create(type, id, options = {}) {
    const created = await this.#make({ op: "create", type, id: id || objectId() }, undefined, options);
    return created.id;
  }

  /** Deletes an object. To delete what is not there does no harm. */
  async delete(type, id, options = {}) {
    await this.#make({ op: "delete", type, id }, undefined, options);
  }

  /** Ends the doubt about a call that had a call id: what it answered, or that it never runs. */
  settle(type, id, callId, options = {}) {
    return this.#make({ op: "settle", type, id, callId }, undefined, { ...options, once: true });
  }

  /** An id for call and settle: a UUID of version 7 by the gate's time. Good for 23 hours. */
  newCallId() {
    return callIdAt(this.#clock.now());
  }

  /** Calls f(message, push) for each push of a type, as "chat.ChatMessage"; "*" is any. Returns what ends that. */
  onPush(type, f) {
    return this.#pushed.add((push) => (type === "*" || type === push.type) && f(push.message, push));
  }

  /** Calls f({from, to, reason}) when pushes were lost: what they told is to be read anew. */
  onReset(f) {
    return this.#resets.add(f);
  }

  /** Calls f({state, retryAt, error, clientId}) at each change. */
  onState(f) {
    return this.#states.add(f);
  }

  /**
   * Calls f() whenever the gate was heard, be it by a heartbeat: at least every 20 s while connected. In a
   * page that nobody sees timers sleep, and this does not.
   */
  onHeard(f) {
    return this.#heard.add(f);
  }

  /** Iterates over pushes and resets, {push} or {reset}, in order. At most limit wait; the oldest are lost, and a reset says so. */
  pushes({ limit = 1_000 } = {}) {
    const stream = new Stream(limit, lostIn, () => this.#streams.delete(stream));
    this.#streams.add(stream);
    if (this.state === "closed") stream.end();
    return stream;
  }

  /**
   * Iterates over an object's state: {version, snapshot} first, then {version, change}, and {version, snapshot,
   * reset: true, reason} where changes may be missing. At most limit wait; then a reset stands for them.
   */
  subscribe(type, id, { limit = 1_000 } = {}) {
    const make = (ask) => this.#make(ask, undefined, { timeout: Infinity, once: ask.op === "subscribe" });
    const subscription = new Subscription({ type, id, limit }, make, (s) => this.#subscriptions.delete(s));
    this.#subscriptions.add(subscription);
    subscription.begin();
    return subscription.stream;
  }

  /** Tries to connect now, if the client waits. */
  reconnect() {
    this.#connection.hurry();
  }

  /** Ends the client. Calls that have no answer are rejected. */
  close() {
    if (this.state === "closed") return;
    this.#unwatch();
    clearTimeout(this.#ack);
    this.#calls.close("the client was closed");
    this.#connection.close();
    for (const stream of [...this.#streams]) stream.end();
    for (const subscription of [...this.#subscriptions]) subscription.stream.end();
  }

  #make(ask, request, { timeout = this.#options.callTimeout, signal, once = false }) {
    const disconnected = () => (this.state === "open" ? null : this.error);
    return this.#calls.make(ask, request, { timeout, signal, once, disconnected });
  }

  #opened(link, frame, early) {
    this.#clock.hear(frame.unixMillis);
    const reset = this.#session.begin(link.base, frame, early);
    this.#acked = this.#session.last;
    this.#tellState();
    if (reset) this.#tellReset(reset);
    if (this.state !== "open") return; // a listener has closed the client
    for (const subscription of this.#subscriptions) subscription.begin();
    this.#calls.use(link);
  }

  #take(link, frame) {
    switch (frame.op) {
      case "reply":
        if (this.#calls.take(link, frame)) this.#connection.proved();
        return this.#connection.answered(link);
      case "message":
        return this.#takePush(link, frame);
      case "published":
      case "unsubscribed":
        for (const subscription of [...this.#subscriptions]) subscription.take(link, frame);
        return;
      case "reset": {
        const reset = this.#session.reset(frame);
        if (reset) this.#tellReset(reset);
      }
    }
  }

  #takePush(link, frame) {
    const { isNew, reset } = this.#session.push(frame);
    if (reset) this.#tellReset(reset);
    if (!isNew) return;
    const push = { type: String(frame.type).split("/").pop(), message: frame.message, payload: frame.payload, seq: frame.seq };
    this.#pushed.tell(push);
    for (const stream of this.#streams) stream.put({ push });
    this.#acknowledge(link);
  }

  /** Tells the gate soon what has come, so that it keeps no more of it than it must. */
  #acknowledge(link) {
    const { last } = this.#session;
    if (last === this.#acked) return;
    clearTimeout(this.#ack);
    const say = () => {
      if (link.say({ op: "ack", last: this.#session.last })) this.#acked = this.#session.last;
    };
    if (last - this.#acked >= 64) say();
    else this.#ack = setTimeout(say, 250);
  }

  #changed() {
    this.#calls.endWith(this.state === "refused" ? this.error : null);
    for (const subscription of this.#subscriptions) subscription.lost();
    this.#tellState();
  }

  #tellReset(reset) {
    this.#resets.tell(reset);
    for (const stream of this.#streams) stream.put({ reset });
  }

  #tellState() {
    const { state, retryAt, error, clientId } = this;
    this.#states.tell({ state, retryAt, error, clientId });
  }
}

/** ref is an object as a thing with methods: ref(client, "ChatRoom", "tea").Join(request, options). */
export function ref(client, type, id) {
  const methods = new Map();
  return new Proxy(Object.freeze({}), {
    get(_, name) {
      if (typeof name !== "string" || name === "then" || name === "toJSON") return undefined; // it is no promise
      if (!methods.has(name)) methods.set(name, (request, options) => client.call(type, id, name, request, options));
      return methods.get(name);
    },
  });
}

function basesOf(urls) {
  const bases = [urls].flat().map((url) => trimmed(String(url)));
  if (bases.length === 0) throw new TypeError("connect needs the URL of a gate, as http://localhost:48000");
  for (const base of bases) {
    if (!/^https?:$/.test(URL.parse?.(base)?.protocol ?? new URL(base).protocol)) throw new TypeError(`${base} is no URL of a gate, as http://localhost:48000`);
  }
  return bases;
}

function optionsOf(given) {
  const options = { ...defaults, WebSocket: globalThis.WebSocket };
  for (const [name, value] of Object.entries(given)) {
    if (!(name in options)) throw new TypeError(`connect has no option ${name}`);
    if (value !== undefined) options[name] = name === "backoff" ? { ...defaults.backoff, ...value } : value;
  }
  if (!["auto", "websocket", "sse"].includes(options.transport)) throw new TypeError(`transport is ${options.transport}; it is auto, websocket or sse`);
  if (options.transport === "websocket" && !options.WebSocket) throw new TypeError("there is no WebSocket here: give one as an option, or another transport");
  return options;
}

/** A reader who comes back, or a network that does, is no time to wait. */
function watchPage(hurry) {
  if (typeof document === "undefined" || typeof addEventListener !== "function") return () => {};
  const seen = () => document.hidden || hurry();
  addEventListener("online", hurry);
  addEventListener("pageshow", hurry);
  document.addEventListener("visibilitychange", seen);
  return () => {
    removeEventListener("online", hurry);
    removeEventListener("pageshow", hurry);
    document.removeEventListener("visibilitychange", seen);
  };
}

function lostIn(items) {
  const seqs = items.flatMap(({ push, reset }) => (push ? [push.seq] : [reset.from, reset.to])).filter((n) => n > 0);
  const whole = items.every(({ push, reset }) => (push ? push.seq > 0 : reset.to > 0));
  return { reset: { from: Math.min(...seqs, Infinity) === Infinity ? 0 : Math.min(...seqs), to: whole ? Math.max(...seqs) : 0, reason: "they were not read in time" } };
}
