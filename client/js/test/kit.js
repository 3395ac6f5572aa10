import { connect } from "../client.js";
import { FakeGate } from "./fakegate.js";

/** Back-off as short as a test likes it. */
export const quick = { backoff: { first: 10, longest: 40 } };

/** Where the tests run on a Node.js without a WebSocket, they say so. */
export const needsWebSocket = globalThis.WebSocket ? {} : { skip: "NOT TESTED: there is no WebSocket in this Node.js; run it with --experimental-websocket" };

/** A fake gate and a client of it; both end with the test. */
export async function pair(t, settings = {}, options = {}) {
  const gate = await FakeGate.start(settings);
  const client = clientOf(t, gate.url, options);
  t.after(() => gate.stop());
  return { gate, client };
}

export function clientOf(t, url, options = {}) {
  const client = connect(url, { ...quick, ...options });
  t.after(() => client.close());
  return client;
}

/** A client's news, as they come: states, pushes, resets. */
export class Diary {
  lines = [];
  #wake = new Set();

  constructor(client) {
    client.onState(({ state }) => this.#write(state));
    client.onPush("*", (message) => this.#write(`push ${message.n}`));
    client.onReset(({ from, to }) => this.#write(`reset ${from}..${to}`));
  }

  #write(line) {
    this.lines.push(line);
    for (const wake of this.#wake) wake();
    this.#wake.clear();
  }

  /** Waits until line was written n times. */
  async has(line, n = 1) {
    while (this.lines.filter((l) => l === line).length < n) await new Promise((wake) => this.#wake.add(wake));
  }

  /** Of pushes and resets only. */
  get news() {
    return this.lines.filter((l) => / /.test(l));
  }
}

/** The error of a promise that must fail. */
export async function errorFrom(promise) {
  try {
    await promise;
  } catch (error) {
    return error;
  }
  throw new Error("it did not fail");
}

