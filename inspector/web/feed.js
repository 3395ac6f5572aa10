// The feed: one connection, a snapshot, then deltas. It comes back by itself and goes
// on where it was; what cannot be continued begins with a snapshot again.

const SILENCE = 12_000; // the inspector says something at least every 5 s

/** The cluster as it was last heard of, and what has changed in it. */
export class Cluster extends EventTarget {
  state = "connecting"; // connecting, live, lost
  scene = null; // null: nothing was seen yet
  names = []; // addresses, by number
  shards = []; // [epoch, current, target, state]
  changes = []; // oldest first
  stale = ""; // why it is not of now
  heard = 0; // when, by this clock
  rates = null; // the latest frame of rates; null: none came yet
  #life = "";
  #number = 0;
  #failures = 0;
  #sockets = 0; // that failed in a row before they opened
  #end = () => {};
  #watch = 0;

  connect() {
    this.#end();
    const after = this.#life ? `?after=${this.#life}.${this.#number}` : "";
    const take = (text) => this.#take(JSON.parse(text));
    if (this.#sockets < 2) {
      const socket = new WebSocket(location.origin.replace(/^http/, "ws") + "/api/v1/feed" + after);
      let opened = false;
      socket.onopen = () => { opened = true; this.#sockets = 0; };
      socket.onmessage = (e) => take(e.data);
      socket.onclose = () => { if (!opened) this.#sockets++; this.#lost(); };
      this.#end = () => { socket.onmessage = socket.onclose = null; socket.close(); };
    } else { // a proxy that lets no WebSocket through
      const source = new EventSource("/api/v1/feed/events" + after);
      source.onmessage = (e) => take(e.data);
      source.onerror = () => this.#lost();
      this.#end = () => source.close();
    }
    this.#expect();
  }

  #expect() {
    clearTimeout(this.#watch);
    this.#watch = setTimeout(() => this.#lost(), SILENCE);
  }

  #lost() {
    clearTimeout(this.#watch);
    this.#end();
    this.#become("lost");
    const wait = Math.min(10_000, 300 * 2 ** this.#failures++) * (0.5 + Math.random() / 2);
    this.#watch = setTimeout(() => this.connect(), wait);
  }

  #become(state) {
    if (state === this.state) return;
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }

  #take(frame) {
    this.#failures = 0;
    this.heard = Date.now();
    this.#expect();
    if (frame.op === "snapshot") this.#begin(frame);
    if (frame.op === "delta" && !this.#follow(frame)) return;
    if (frame.op === "rates") {
      this.rates = frame;
      this.dispatchEvent(new Event("rates"));
    }
    this.#become("live");
  }

  #begin(f) {
    this.#life = f.life;
    this.#number = f.number;
    this.scene = f.scene;
    this.names = f.names;
    this.shards = f.shards;
    this.changes = f.changes;
    this.stale = f.stale ?? "";
    this.#tell({ all: true, shards: [], changes: [] });
  }

  /** Applies a delta; one that does not follow makes it begin anew. */
  #follow(f) {
    if (f.number !== this.#number + 1) {
      this.#life = "";
      this.connect();
      return false;
    }
    this.#number = f.number;
    if (f.scene) this.scene = f.scene;
    this.names.push(...(f.names ?? []));
    this.stale = f.stale ?? "";
    const was = new Map((f.shards ?? []).map(([id]) => [id, this.shards[id]]));
    for (const [id, ...row] of f.shards ?? []) this.shards[id] = row;
    const fresh = f.changes ?? [];
    this.changes.push(...fresh);
    this.changes.splice(0, this.changes.length - 1000);
    this.#tell({ all: false, shards: (f.shards ?? []).map((s) => s[0]), changes: fresh, was });
    return true;
  }

  #tell(detail) {
    this.dispatchEvent(new CustomEvent("change", { detail }));
  }

  node(address) {
    return this.scene?.nodes.find((n) => n.address === address);
  }

  name(number) {
    return number < 0 ? "" : this.names[number];
  }
}

/** What an operator's request came to; its error has the inspector's words. */
export async function ask(path, body) {
  const response = await fetch(path, body === undefined ? {} : { method: "POST", body: JSON.stringify(body) });
  const answer = await response.json().catch(() => ({ error: `the inspector answered ${response.status}` }));
  if (!response.ok) throw new Error(answer.error);
  return answer;
}
