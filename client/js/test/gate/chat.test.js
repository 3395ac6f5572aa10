// Against a real gate and the chat sample, which test/e2e starts: GOVERSE_TEST_GATE is its
// URL, and POST to GOVERSE_TEST_CONTROL /kill and /start does that to its process.
import assert from "node:assert/strict";
import { once } from "node:events";
import { createConnection, createServer } from "node:net";
import { test } from "node:test";
import { ref } from "../../client.js";
import { clientOf, Diary, errorFrom, needsWebSocket } from "../kit.js";

const { GOVERSE_TEST_GATE: url, GOVERSE_TEST_CONTROL: control } = process.env;
const order = async (what) => assert.equal((await fetch(control + what, { method: "POST" })).status, 200);

for (const transport of ["websocket", "sse"]) {
  const needs = transport === "websocket" ? needsWebSocket : {};
  const open = (t) => clientOf(t, url, { transport, backoff: { first: 50, longest: 200 } });

  test(`${transport}: rooms are called, and push`, needs, async (t) => {
    const ann = open(t);
    const bob = open(t);
    const room = (client) => ref(client, "ChatRoom", `a room ü ${transport}`);
    const heard = [];
    const all = new Promise((done) => bob.onPush("chat.ChatMessage", ({ message }) => heard.push(message) === 20 && done()));
    await room(bob).Join({ userName: "bob" });
    const { users, lastNumber } = await room(ann).Join({ userName: "ann" });
    assert.deepEqual([users, lastNumber], [["ann", "bob"], undefined]);
    for (let n = 1; n <= 20; n++) {
      const { message } = await room(ann).SendMessage({ userName: "ann", message: `ü ${n}` });
      assert.equal(message.number, String(n));
    }
    await all;
    assert.deepEqual(heard, Array.from({ length: 20 }, (_, n) => `ü ${n + 1}`));
    assert.ok(bob.clientId && bob.clientId !== ann.clientId);
  });

  test(`${transport}: errors are the gate's`, needs, async (t) => {
    const client = open(t);
    const errors = [
      [() => client.call("ChatRoom", "general", "Nope"), "OBJECT_NOT_FOUND"],
      [() => client.call("Nope", "general", "Join"), "OBJECT_NOT_FOUND"],
      [() => client.call("ChatRoom", "general", "Join", { nope: 1 }), "INVALID_BODY"],
    ];
    for (const [call, code] of errors) {
      const e = await errorFrom(call());
      assert.deepEqual([e.code, e.outcome], [code, "not executed"], e.message);
    }
    const refused = await errorFrom(client.call("ChatRoom", "general", "Join", { userName: "" }));
    assert.equal(refused.outcome, "executed");
  });

  test(`${transport}: a call with an id runs once`, needs, async (t) => {
    const client = open(t);
    const id = `once ${transport}`;
    await client.ready();
    const callId = client.newCallId();
    const say = () => client.call("ChatRoom", id, "SendMessage", { userName: "ann", message: "once" }, { callId });
    const [first, second] = [await say(), await say()];
    assert.deepEqual(first, second);
    assert.deepEqual(await client.settle("ChatRoom", id, callId), { status: "SUCCESS", response: first });
    const never = client.newCallId();
    assert.deepEqual(await client.settle("ChatRoom", id, never), { status: "SKIPPED" });
    const e = await errorFrom(client.call("ChatRoom", id, "SendMessage", { userName: "ann", message: "late" }, { callId: never }));
    assert.deepEqual([e.code, e.kind, e.outcome], ["CONFLICT", "CALL_SETTLED", "not executed"]);
    const { messages } = await client.call("ChatRoom", id, "History", {});
    assert.equal(messages.length, 1);
  });

  test(`${transport}: objects are created and deleted`, needs, async (t) => {
    const client = open(t);
    const id = await client.create("ChatRoom");
    await client.call("ChatRoom", id, "SendMessage", { userName: "ann", message: "x" });
    await client.delete("ChatRoom", id);
    assert.deepEqual(await client.call("ChatRoom", id, "History"), {});
  });

  test(`${transport}: a connection that is cut is resumed`, { ...needs, timeout: 60_000 }, async (t) => {
    const wire = await Wire.to(url);
    t.after(() => wire.close());
    const bob = clientOf(t, wire.url, { transport, backoff: { first: 50, longest: 200 } });
    const ann = open(t);
    const diary = new Diary(bob);
    const room = `cut ${transport}`;
    const say = (n) => ann.call("ChatRoom", room, "SendMessage", { userName: "ann", message: String(n) });
    let heard = 0;
    const all = new Promise((done) => bob.onPush("chat.ChatMessage", ({ message }) => {
      assert.equal(message, String(++heard));
      if (heard === 30) done();
    }));
    await bob.call("ChatRoom", room, "Join", { userName: "bob" });
    const id = bob.clientId;
    for (let n = 1; n <= 30; n++) {
      if (n % 10 === 5) {
        await diary.has("open", (n + 5) / 10);
        wire.cut();
        await diary.has("waiting", (n + 5) / 10);
      }
      await say(n);
    }
    await all;
    assert.equal(bob.clientId, id);
    assert.ok(!diary.lines.some((l) => l.startsWith("reset")), `${diary.lines}`);
  });

  test(`${transport}: a killed process is come back to`, { ...needs, timeout: 60_000 }, async (t) => {
    const client = open(t);
    const diary = new Diary(client);
    const room = `killed ${transport}`;
    const say = (message, callId) => client.call("ChatRoom", room, "SendMessage", { userName: "ann", message }, { callId, timeout: 100_000 });
    await say("before", client.newCallId());
    const began = client.clientId;
    await order("/kill");
    await diary.has("waiting");
    const during = [say("during 1", client.newCallId()), say("during 2", client.newCallId())];
    await order("/start");
    await Promise.all(during);
    await say("after", client.newCallId());
    const { messages } = await client.call("ChatRoom", room, "History");
    const said = messages.map((m) => m.message);
    assert.deepEqual([said[0], ...said.slice(1, 3).sort(), ...said.slice(3)], ["before", "during 1", "during 2", "after"]);
    assert.notEqual(client.clientId, began);
    assert.equal(diary.news.length, 1, `${diary.news}`);
    assert.match(diary.news[0], /^reset /);
  });
}

/** Wire leads to a gate, and can be cut. */
class Wire {
  #ends = new Set();
  #server;

  static async to(url) {
    const { hostname, port } = new URL(url);
    const wire = new Wire();
    wire.#server = createServer((near) => {
      const far = createConnection({ host: hostname, port });
      for (const [end, other] of [[near, far], [far, near]]) {
        wire.#ends.add(end);
        end.on("error", () => {});
        end.on("close", () => (wire.#ends.delete(end), other.destroy()));
        end.pipe(other);
      }
    });
    wire.#server.listen(0, "127.0.0.1");
    await once(wire.#server, "listening");
    wire.url = `http://127.0.0.1:${wire.#server.address().port}`;
    return wire;
  }

  cut() {
    for (const end of this.#ends) end.destroy();
  }

  close() {
    this.#server.close();
    this.cut();
  }
}
