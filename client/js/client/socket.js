import { lostConnection } from "./error.js";

/** SocketLink is one WebSocket to a gate: calls, answers and pushes as JSON texts. */
export class SocketLink {
  kind = "websocket";
  maxCalls = 256; // the gate refuses more
  calls = new Map(); // under way, by seq
  #socket;

  /** hello is null for a gate that knows none. on.heard gets frames, on.lost the end. */
  constructor(base, { WebSocket, hello, on }) {
    const socket = new WebSocket(base.replace(/^http/, "ws") + "/api/v1/ws" + (hello ? "?hello=1" : ""));
    this.#socket = socket;
    const mine = () => this.#socket === socket;
    socket.onopen = () => mine() && hello && socket.send(JSON.stringify({ op: "hello", ...hello }));
    socket.onmessage = ({ data }) => mine() && this.#take(data, on);
    const ended = (why) => {
      if (!mine()) return;
      this.close();
      on.lost(this, lostConnection(why));
    };
    socket.onerror = () => ended("the WebSocket failed"); // Node.js 20 says no more than that
    socket.onclose = ({ code, reason }) => ended(reason || `it was closed (${code})`);
  }

  #take(data, on) {
    let frame;
    try {
      frame = JSON.parse(data);
    } catch (cause) {
      this.close();
      on.lost(this, lostConnection("what came is no JSON", cause));
      return;
    }
    if (frame && typeof frame === "object") on.heard(this, frame);
  }

  /** Sends a call; false: the link has ended. */
  call(seq, { ask, body }) {
    const { op, type, id, method, callId, subscription, incarnation, version } = ask;
    const head = JSON.stringify({ op, seq, type, id, method, callId, subscription, incarnation, version });
    return this.#send(body === undefined ? head : `${head.slice(0, -1)},"request":${body}}`);
  }

  /** Sends a frame that is no call. */
  say(frame) {
    return this.#send(JSON.stringify(frame));
  }

  #send(text) {
    if (this.#socket?.readyState !== 1) return false;
    this.#socket.send(text);
    return true;
  }

  /** Hangs up; on.lost is not called. For good: the session ends with it. */
  close(forGood = false) {
    const socket = this.#socket;
    this.#socket = null;
    if (forGood) socket?.close(1000);
    else socket?.close();
  }
}
