import { errorOf, isCredentials, isRefusal, lostConnection } from "./error.js";
import { EventLink } from "./events.js";
import { delay } from "./pace.js";
import { SocketLink } from "./socket.js";

const proven = 1_000; // ms that a link lasts that is no failed attempt

/**
 * Connection keeps a client connected: one link at a time, and after its end another, until
 * it is closed. It decides where to go next, how, and when.
 */
export class Connection {
  state = "connecting"; // connecting, open, waiting, refused, closed
  retryAt = 0; // when waiting: the time of the next try, in Unix ms
  error = null; // why it is not open
  #bases;
  #options;
  #session;
  #on;
  #turn = 0; // which base
  #advised = []; // where to go before those: where a leaving gate said, or where the session is
  #attempt = 0;
  #link = null; // the one that opens or is open
  #leaving = new Set(); // links that still bring answers
  #failures = 0; // in a row
  #refusals = 0; // hellos in a row that a gate did not take
  #noSocket = 0; // WebSockets in a row that did not open
  #plain = new Set(); // gates that know no hello
  #openedAt = 0;
  #retry = 0;
  #watch = 0;

  /**
   * on.heard() follows whatever comes from the gate, on.frame(link, frame) is of an open link.
   * on.changed() follows every change of state but that to open, which is on.opened(link, register,
   * early); on.leaving(link) says that it takes no more calls, on.lost(link, error) that it has ended,
   * on.refused(error) that no gate lets this client in.
   */
  constructor(bases, options, session, on) {
    this.#bases = bases;
    this.#options = options;
    this.#session = session;
    this.#on = on;
  }

  /** Tries now, unless it is open or already trying. */
  hurry() {
    if (this.state === "waiting" || this.state === "refused") this.start();
  }

  start() {
    clearTimeout(this.#retry);
    const attempt = ++this.#attempt;
    this.#become("connecting");
    this.#expect(this.#options.connectTimeout, `no answer within ${this.#options.connectTimeout} ms`);
    this.#headers().then(
      (headers) => attempt === this.#attempt && this.#dial(headers),
      (error) => attempt === this.#attempt && this.#failed(error),
    );
  }

  close() {
    this.#attempt++;
    clearTimeout(this.#retry);
    clearTimeout(this.#watch);
    for (const link of this.#leaving) link.close();
    this.#leaving.clear();
    this.#link?.close(true);
    this.#link = null;
    this.#become("closed");
  }

  /** A call was answered by a cluster that is well. */
  proved() {
    this.#failures = 0;
  }

  async #headers() {
    const { headers } = this.#options;
    return typeof headers === "function" ? headers() : headers;
  }

  get #base() {
    return this.#advised[0] ?? this.#bases[this.#turn % this.#bases.length];
  }

  #dial(headers) {
    const base = this.#base;
    const hello = { ...this.#session.helloTo(base), ...(headers ? { headers } : {}) };
    const on = { heard: (link, frame) => this.#heard(link, frame), lost: (link, error) => this.#lost(link, error) };
    try {
      this.#link = this.#usesSocket()
        ? new SocketLink(base, { WebSocket: this.#options.WebSocket, hello: this.#plain.has(base) ? null : hello, on })
        : new EventLink(base, { hello, on });
      this.#link.base = base;
      this.#link.resumes = hello.token !== undefined;
    } catch (error) {
      this.#noSocket++; // a WebSocket that may not be made
      this.#failed(error);
    }
  }

  /** Where two WebSockets in a row did not open, the third attempt is without. */
  #usesSocket() {
    const { transport, WebSocket } = this.#options;
    if (transport !== "auto") return transport === "websocket";
    return Boolean(WebSocket) && this.#noSocket < 2;
  }

  #heard(link, frame) {
    if (this.#leaving.has(link)) return frame.op === "reply" ? this.#on.frame(link, frame) : undefined; // its pushes are of a session that goes on elsewhere
    if (link !== this.#link) return;
    this.#expect(this.#options.silence, `nothing was heard for ${this.#options.silence} ms`);
    switch (frame.op) {
      case "register":
        return this.#registered(link, frame);
      case "goodbye":
        if (this.state !== "open") {
          link.refused = true;
          return this.#lost(link, errorOf(frame));
        }
        if (frame.code === "NOT_READY") return this.#goodbye(link, frame);
        return this.#lost(link, lostConnection(frame.error)); // it is this client's connection that ends
      case "reset":
        if (this.state !== "open") link.early = frame;
    }
    if (this.state === "open") this.#on.frame(link, frame);
    this.#on.heard();
  }

  #registered(link, frame) {
    if (this.state === "open") return;
    if (link.kind === "websocket" && !this.#plain.has(link.base) && !frame.token) {
      this.#plain.add(link.base); // it did not wait for the hello, which is an error to it
      link.close();
      this.#link = null;
      return this.start();
    }
    this.#openedAt = performance.now();
    this.#refusals = 0;
    const given = this.#bases.indexOf(link.base);
    this.#advised = given < 0 ? [link.base] : []; // the session is resumed where it is
    if (given >= 0) this.#turn = given;
    if (link.kind === "websocket") this.#noSocket = 0;
    else if (this.#noSocket > 0) this.#noSocket = 1; // next time the WebSocket has one more chance
    this.#set("open", null);
    this.#on.opened(link, frame, link.early);
  }

  /** The gate leaves: what is under way is answered there, all else is for another one. */
  #goodbye(link, { gates }) {
    if (performance.now() - this.#openedAt >= proven) this.#failures = 0;
    this.#leaving.add(link);
    setTimeout(() => this.#hangUp(link), 15_000).unref?.();
    this.#link = null;
    this.#turn++;
    this.#advised = advice(gates, link.base, this.#bases, this.#options.follow);
    this.#on.leaving(link);
    if (link.calls.size === 0) this.#hangUp(link);
    if (this.#failures++ === 0) return this.start();
    clearTimeout(this.#watch);
    this.#pause(lostConnection("the gate leaves")); // one after the other leaves: there is no hurry
    this.#on.changed();
  }

  /** Ends a leaving link that has brought its last answer. */
  answered(link) {
    if (link.calls.size === 0 && this.#leaving.has(link)) this.#hangUp(link);
  }

  #hangUp(link) {
    if (!this.#leaving.delete(link)) return;
    link.close();
    this.#on.lost(link, lostConnection("the gate has left"));
  }

  #lost(link, error) {
    if (this.#leaving.has(link)) {
      if (link.lingers && link.calls.size > 0) return;
      this.#leaving.delete(link);
      return this.#on.lost(link, error);
    }
    if (link !== this.#link) return;
    if (this.state === "open") {
      this.#plain.delete(link.base); // its successor may know more
      if (performance.now() - this.#openedAt >= proven) this.#failures = 0;
    } else if (link.kind === "websocket") this.#noSocket += link.refused ? 0 : 1;
    else this.#noSocket = 0;
    this.#failed(error);
  }

  /** An attempt or a link has failed: the next is tried after a while. */
  #failed(error) {
    const link = this.#link;
    const wasOpen = this.state === "open";
    this.#attempt++;
    clearTimeout(this.#watch);
    this.#link = null;
    if (!wasOpen && this.#advised.shift() === undefined) this.#turn++; // a session is resumed where it was
    this.#failures++;
    const hopeless = isRefusal(error) ? this.#refused(error, link) : (this.#refusals = 0) > 0;
    if (hopeless) this.#set("refused", error);
    else this.#pause(error);
    if (link) this.#end(link, error);
    this.#on.changed();
  }

  /**
   * A gate says what is wrong with the hello, and will say it again: first of all the session is
   * given up. New credentials may come, so it is asked on for these. It reports whether to go on
   * makes no sense.
   */
  #refused(error, link) {
    if (!isCredentials(error) && link?.resumes) {
      this.#session.forget();
      return false;
    }
    const all = this.#bases.length * (typeof this.#options.headers === "function" ? 2 : 1);
    if (++this.#refusals < all) return false;
    this.#on.refused(error);
    return !isCredentials(error);
  }

  /** Waits before the next attempt. */
  #pause(error) {
    const { backoff } = this.#options;
    const pace = delay(Math.floor((this.#failures - 1) / this.#bases.length), backoff.first, backoff.longest);
    const ms = Math.max(pace, Math.min(error.retryAfter ?? 0, 300_000));
    this.retryAt = Date.now() + ms;
    this.#retry = setTimeout(() => this.start(), ms);
    this.#set("waiting", error);
  }

  /** Ends a link; one that can brings the answers still that are under way. */
  #end(link, error) {
    if (link.lingers && link.calls.size > 0) {
      this.#leaving.add(link);
      return this.#on.leaving(link);
    }
    link.close();
    this.#on.lost(link, error);
  }

  /** Notices a link that is dead although nobody has closed it. */
  #expect(ms, text) {
    clearTimeout(this.#watch);
    this.#watch = setTimeout(() => {
      const error = lostConnection(text);
      if (this.#link) this.#lost(this.#link, error);
      else this.#failed(error); // the headers have not come
    }, ms);
  }

  #set(state, error = this.error) {
    this.state = state;
    this.error = error;
    if (state !== "waiting") this.retryAt = 0;
  }

  #become(state) {
    const same = this.state === state;
    this.#set(state);
    if (!same) this.#on.changed();
  }
}

/**
 * Which of the gates that a leaving one names are gone to, and in which order: those that the
 * program gave, then others, if they may be. Each is by chance, so that not all clients go to
 * one. Credentials are not led off an encrypted road.
 */
export function advice(named, from, bases, follow) {
  if (!Array.isArray(named)) return [];
  const others = [...new Set(named.filter((g) => typeof g === "string").map(trimmed))].filter((g) => g !== from);
  const given = others.filter((g) => bases.includes(g));
  if (!follow) return shuffled(given);
  const safe = from.startsWith("https:") ? /^https:\/\/[^/]/ : /^https?:\/\/[^/]/;
  return [...shuffled(given), ...shuffled(others.filter((g) => !bases.includes(g) && safe.test(g)))];
}

function shuffled(list) {
  return list.map((item) => [Math.random(), item]).sort(([a], [b]) => a - b).map(([, item]) => item);
}

/** An address without what would double the slash of a path. */
export const trimmed = (url) => url.replace(/\/+$/, "");
