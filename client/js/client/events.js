import { GoverseError, errorOf, lostConnection, notExecuted, unknown } from "./error.js";
import { readEvents } from "./sse.js";

/**
 * EventLink is for where no WebSocket can be had: pushes come as Server-Sent Events, and
 * each call is a request of its own. To the rest of the client it speaks the WebSocket's frames.
 */
export class EventLink {
  kind = "sse";
  lingers = true; // requests under way outlive the stream
  maxCalls = 64;
  calls = new Map(); // under way, by seq
  #base;
  #headers;
  #on;
  #clientId = "";
  #stream = new AbortController();
  #requests = new Map(); // by call, its AbortController

  /** hello has the headers to be sent, and perhaps the session's token and last. */
  constructor(base, { hello, on }) {
    this.#base = base;
    this.#headers = hello?.headers ?? {};
    this.#on = on;
    this.#follow(hello).catch((error) => this.#lost(error));
  }

  async #follow(hello) {
    const headers = { ...this.#headers, Accept: "text/event-stream" };
    if (hello?.token) headers["Last-Event-ID"] = `${hello.token}/${hello.last}`;
    const url = this.#base + "/api/v1/events/stream?resumable=1&json=1";
    const response = await fetch(url, { headers, signal: this.#stream.signal, cache: "no-store" });
    if (!response.ok) throw await failure(response);
    const type = response.headers.get("Content-Type") ?? "none";
    if (!type.startsWith("text/event-stream")) throw lostConnection(`an answer of type ${type}, and not from a gate`);
    for await (const event of readEvents(response.body)) this.#take(event);
    throw lostConnection("the gate ended the stream");
  }

  #take({ event, data, id }) {
    const frame = { ...JSON.parse(data), op: event };
    if (event === "register") this.#clientId = frame.clientId;
    if (event === "closed") {
      if (frame.code !== "NOT_READY") throw lostConnection(frame.error);
      frame.op = "goodbye"; // the gate leaves
    }
    const seq = Number(id?.slice(id.lastIndexOf("/") + 1));
    if (event === "message" && id && Number.isSafeInteger(seq)) frame.seq = seq;
    this.#on.heard(this, frame);
  }

  call(seq, call) {
    const request = new AbortController();
    this.#requests.set(call, request);
    this.#request(call, request.signal)
      .catch((error) => reply(refusal(error)))
      .then((frame) => {
        this.#requests.delete(call);
        this.#on.heard(this, { ...frame, seq }); // passed over, if this link was given up
      });
    return true;
  }

  async #request({ ask, body, remaining }, signal) {
    const headers = { ...this.#headers, "X-Client-ID": this.#clientId, "X-Goverse-Timeout": `${Math.ceil(remaining)}ms` };
    if (ask.callId) headers["X-Goverse-Call-ID"] = ask.callId;
    if (body !== undefined) headers["Content-Type"] = "application/json";
    const response = await fetch(this.#base + pathOf(ask), { method: verbs[ask.op], headers, body, signal, cache: "no-store" });
    if (!response.ok) return reply(await failure(response), response.headers.get("X-Goverse-Call-Status"));
    const answer = await response.json();
    return { op: "reply", ...(ask.op === "settle" ? answer : { response: answer }) };
  }

  /** Sends a frame that is no call: there is no way to, and none is needed. */
  say() {
    return false;
  }

  /** Nobody waits for call any more. */
  cancel(call) {
    this.#requests.get(call)?.abort();
  }

  close() {
    this.#stream.abort();
    for (const request of this.#requests.values()) request.abort();
  }

  #lost(error) {
    if (this.#stream.signal.aborted) return;
    this.#stream.abort();
    this.#on.lost(this, error instanceof GoverseError ? error : lostConnection(error.message, error));
  }
}

const verbs = { call: "POST", create: "PUT", delete: "DELETE", settle: "POST" };
const reserved = ["call", "create", "delete"]; // words of the API, where the path has a type

function pathOf({ op, type, id, method }) {
  if (!verbs[op]) throw new GoverseError("subscriptions need a WebSocket, and there is none", { code: "NOT_SUPPORTED", outcome: notExecuted });
  const segments = op === "call" ? [type, id, method] : [type, id];
  if (segments.some((s) => s === "" || s === "." || s === "..") || reserved.includes(type)) {
    const text = `${segments.join("/")} cannot be named in a URL, and there is no WebSocket`;
    throw new GoverseError(text, { code: "INVALID_PATH", outcome: notExecuted });
  }
  return `/api/v1/${op === "settle" ? "settle" : "objects"}/` + segments.map(encodeURIComponent).join("/");
}

/** What the gate, or something before it, says in an answer that is an error. */
async function failure(response) {
  const seconds = Number(response.headers.get("Retry-After"));
  const retryAfter = seconds > 0 ? seconds * 1000 : undefined;
  const told = await response.json().catch(() => null);
  if (typeof told?.error === "string") return errorOf(told, retryAfter);
  const text = `HTTP status ${response.status}, and not from a gate`;
  return new GoverseError(text, { code: "UNKNOWN_OUTCOME", outcome: unknown, retryAfter });
}

/** A request without an answer. Node.js tells where it was not even sent. */
function refusal(error) {
  if (error instanceof GoverseError) return error;
  if (error.cause?.code === "ECONNREFUSED") {
    return new GoverseError("the gate does not listen", { code: "NOT_READY", outcome: notExecuted, cause: error });
  }
  return lostConnection(error.message, error);
}

const spoken = { executed: "Executed", "not executed": "NotExecuted" };

function reply(error, status) {
  const { message, code, outcome, kind, retryAfter } = error;
  return { op: "reply", error: message, code, outcome: spoken[outcome] ?? "Unknown", kind, retryAfter, status };
}
