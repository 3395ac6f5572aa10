import { createHash, randomUUID } from "node:crypto";
import { once } from "node:events";
import { createServer } from "node:http";

/**
 * FakeGate speaks a gate's contract as far as tests need it, and can be told to misbehave.
 * Sessions are kept while it lives, as those of a real gate are.
 */
export class FakeGate {
  resumes = true; // false: it is of a version that knows no hello
  sockets = true; // false: it refuses WebSockets, as some proxies do
  early = false; // it says what is lost before it welcomes
  mute = false; // it says nothing at all to who connects
  refuse = () => null; // a hello: {http, error, code, outcome, retryAfter}, or something before the gate answers {http, type, body}
  answer = (frame) => ({ response: frame.request ?? {} }); // of a call; null is never
  clock = () => Date.now();
  said = []; // frames of clients, oldest first
  hellos = []; // of those, and headers and Last-Event-ID of event streams
  doors = new Set(); // connected clients
  sessions = new Map(); // by token
  #listeners = new Set();
  #open = new Set(); // TCP connections
  #server;

  static async start(settings = {}) {
    const gate = Object.assign(new FakeGate(), settings);
    await gate.listen(0);
    return gate;
  }

  async listen(port = this.port) {
    this.#server = createServer((q, r) => this.#request(q, r));
    this.#server.on("upgrade", (q, socket) => this.#upgrade(q, socket));
    this.#server.on("connection", (socket) => {
      this.#open.add(socket);
      socket.on("close", () => this.#open.delete(socket));
    });
    this.#server.listen(port, "127.0.0.1");
    await once(this.#server, "listening");
    this.port = this.#server.address().port;
    this.url = `http://127.0.0.1:${this.port}`;
  }

  /** Ends every connection without a word. */
  cut() {
    for (const door of this.doors) door.cut();
  }

  /** Is as if the process had been killed: connections, sessions, and the port are gone. */
  async stop() {
    this.sessions.clear();
    if (!this.#server.listening) return;
    const closed = once(this.#server, "close");
    this.#server.close();
    for (const socket of this.#open) socket.destroy();
    await closed;
  }

  /** Pushes to every session; those that are not connected find it when they resume. */
  push(message, type = "type.googleapis.com/test.News") {
    for (const s of this.#all()) {
      const frame = { op: "message", type, message, ...(this.resumes ? { seq: ++s.seq } : {}) };
      s.ring.push(frame);
      s.door?.say(frame);
    }
  }

  /** Says a frame to everyone who is connected, as it is. */
  say(frame) {
    for (const door of this.doors) door.say(frame);
  }

  /** Waits until n frames of this op have come, ever, and returns the nth. */
  async heard(op, n = 1) {
    for (;;) {
      const some = this.said.filter((f) => f.op === op);
      if (some.length >= n) return some[n - 1];
      await new Promise((wake) => this.#listeners.add(wake));
    }
  }

  #all() {
    return new Set([...this.sessions.values(), ...[...this.doors].map((d) => d.session).filter(Boolean)]);
  }

  /** A client has come in, with a hello or without. */
  #welcome(door, hello) {
    if (hello) this.hellos.push(hello);
    this.doors.add(door);
    door.cut = ((cut) => () => {
      this.doors.delete(door);
      if (door.session?.door === door) door.session.door = null;
      cut();
    })(door.cut);
    this.#wake();
    if (this.mute) return;
    const old = this.resumes && hello?.token ? this.sessions.get(hello.token) : undefined;
    if (hello?.token) this.sessions.delete(hello.token);
    const session = old ?? { clientId: `gate/${randomUUID()}`, seq: 0, ring: [] };
    session.door?.cut();
    session.door = door;
    door.session = session;
    const token = randomUUID();
    if (this.resumes) this.sessions.set(token, session);
    const resumed = old !== undefined;
    const lost = hello?.last !== undefined && !resumed && this.resumes;
    const sayLost = () => lost && door.say({ op: "reset", from: hello.last + 1, to: 0, reason: "unknown token" });
    if (this.early) sayLost();
    door.say({ op: "register", clientId: session.clientId, unixMillis: this.clock(), ...(this.resumes ? { token, resumed, resumeMillis: 60_000 } : {}) });
    door.token = token;
    if (!this.early) sayLost();
    if (resumed) for (const frame of session.ring) if (frame.seq > hello.last) door.say(frame);
  }

  #take(door, frame) {
    this.said.push(frame);
    if (frame.op !== "ack") this.#answer(frame).then((reply) => reply && door.say({ op: "reply", seq: frame.seq, ...reply }));
    this.#wake();
  }

  async #answer(frame) {
    return this.answer(frame, this.said.filter((f) => f.op !== "ack" && f.op !== "close").length);
  }

  #wake() {
    for (const wake of this.#listeners) wake();
    this.#listeners.clear();
  }

  #upgrade(q, socket) {
    socket.on("error", () => {});
    if (!this.sockets) return socket.end("HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n");
    const key = createHash("sha1").update(q.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest("base64");
    socket.write(`HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${key}\r\n\r\n`);
    const door = {
      kind: "websocket",
      say: (frame) => socket.writable && socket.write(textFrame(typeof frame === "string" ? frame : JSON.stringify(frame))),
      close: (code, reason) => socket.end(closeFrame(code, reason)),
      cut: () => socket.destroy(),
    };
    socket.on("close", () => door.cut());
    const waits = this.resumes && q.url.includes("hello=1");
    let greeted = !waits;
    if (greeted) this.#welcome(door, null);
    readFrames(socket, (text) => {
      const frame = JSON.parse(text);
      if (!greeted) {
        greeted = true;
        const no = this.refuse(frame);
        if (!no) return this.#welcome(door, frame);
        this.hellos.push(frame);
        door.say({ op: "goodbye", ...no });
        door.close(1008, no.error);
      } else if (frame.op === "hello") door.close(1008, "the frame has no seq");
      else this.#take(door, frame);
    }, (code) => {
      this.said.push({ op: "close", code });
      this.#wake();
    });
  }

  #request(q, r) {
    if (q.url.startsWith("/api/v1/events/stream")) return this.#events(q, r);
    let body = "";
    q.on("data", (b) => (body += b));
    q.on("end", async () => {
      const [, , , root, type, id, method] = q.url.split("/").map(decodeURIComponent);
      const op = root === "settle" ? root : { POST: "call", PUT: "create", DELETE: "delete" }[q.method];
      const frame = { op, type, id, method, callId: q.headers["x-goverse-call-id"], headers: q.headers, request: body ? JSON.parse(body) : undefined };
      this.said.push(frame);
      const answer = this.#answer(frame);
      this.#wake();
      const reply = await answer;
      if (!reply) return;
      const status = reply.error === undefined ? 200 : (reply.http ?? 503);
      r.writeHead(status, { "Content-Type": "application/json", ...(reply.retryAfterSeconds ? { "Retry-After": reply.retryAfterSeconds } : {}) });
      r.end(JSON.stringify(reply.error === undefined ? (op === "settle" ? reply : reply.response) : reply));
    });
  }

  #events(q, r) {
    const [token, last] = (q.headers["last-event-id"] ?? "").split("/");
    const hello = { headers: q.headers, ...(token ? { token, last: Number(last) } : {}) };
    const no = this.refuse(hello);
    if (no) {
      this.hellos.push(hello);
      const { http, type = "application/json", body, retryAfter, ...told } = no;
      r.writeHead(http, { "Content-Type": type, ...(retryAfter ? { "Retry-After": retryAfter } : {}) });
      return r.end(body ?? JSON.stringify(told));
    }
    r.writeHead(200, { "Content-Type": "text/event-stream" });
    r.flushHeaders();
    const door = {
      kind: "sse",
      say: ({ op, seq, ...data }) => r.write(`event: ${op}\n${seq ? `id: ${door.token}/${seq}\n` : ""}data: ${JSON.stringify(data)}\n\n`),
      end: () => r.end(),
      cut: () => r.destroy(),
    };
    r.on("close", () => door.cut());
    this.#welcome(door, hello);
  }
}

function textFrame(text) {
  return frameOf(0x81, Buffer.from(text));
}

function closeFrame(code, reason) {
  const body = Buffer.from("  " + reason);
  body.writeUInt16BE(code);
  return frameOf(0x88, body);
}

function frameOf(first, body) {
  const head = body.length < 126 ? Buffer.from([first, body.length]) : Buffer.alloc(body.length < 65536 ? 4 : 10);
  if (head.length > 2) {
    head[0] = first;
    head[1] = head.length === 4 ? 126 : 127;
    if (head.length === 4) head.writeUInt16BE(body.length, 2);
    else head.writeBigUInt64BE(BigInt(body.length), 2);
  }
  return Buffer.concat([head, body]);
}

/** Hands the texts that a client sends to take, and the code of its close to closed. */
function readFrames(socket, take, closed) {
  let rest = Buffer.alloc(0);
  socket.on("data", (data) => {
    rest = Buffer.concat([rest, data]);
    for (;;) {
      if (rest.length < 6) return;
      let size = rest[1] & 0x7f;
      let at = 2;
      if (size === 126) [size, at] = [rest.readUInt16BE(2), 4];
      else if (size === 127) [size, at] = rest.length < 10 ? [Infinity, 10] : [Number(rest.readBigUInt64BE(2)), 10];
      if (rest.length < at + 4 + size) return;
      const mask = rest.subarray(at, at + 4);
      const body = Buffer.from(rest.subarray(at + 4, at + 4 + size));
      for (let i = 0; i < body.length; i++) body[i] ^= mask[i % 4];
      const op = rest[0] & 0x0f;
      rest = rest.subarray(at + 4 + size);
      if (op === 8) {
        closed(body.length >= 2 ? body.readUInt16BE(0) : 1005);
        return socket.end(frameOf(0x88, Buffer.alloc(0)));
      }
      if (op === 1) take(body.toString());
    }
  });
}
