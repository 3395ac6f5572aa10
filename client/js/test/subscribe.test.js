import assert from "node:assert/strict";
import { test } from "node:test";
import { errorFrom, needsWebSocket, pair } from "./kit.js";

/** A gate whose one object has a state, n, and publishes each change of it. */
async function published(t, options) {
  const { gate, client } = await pair(t, {}, options);
  let version = 7;
  let subscriptions = 0;
  const here = new Set();
  const say = (frame, n) => gate.say({ op: "published", subscription: n, version: String(version), ...frame });
  gate.answer = (f) => {
    if (f.op === "unsubscribe") return here.delete(f.subscription), { response: {} };
    const n = ++subscriptions;
    here.add(n);
    queueMicrotask(() => queueMicrotask(() => queueMicrotask(() => say({ snapshot: { n: version } }, n)))); // right behind the reply
    return { response: { subscription: n } };
  };
  const change = () => {
    version++;
    for (const n of here) say({ change: { n: version } }, n);
  };
  return { gate, client, change, say, here };
}

test("an object is followed: its state, then each change", needsWebSocket, async (t) => {
  const { gate, client, change, say, here } = await published(t);
  const room = client.subscribe("Room", "tea");
  assert.deepEqual((await room.next()).value, { version: "7", snapshot: { n: 7 } });
  const { op, type, id } = await gate.heard("subscribe");
  assert.deepEqual([op, type, id], ["subscribe", "Room", "tea"]);
  change();
  say({ change: { n: "again" } }, 1);
  say({ change: { n: "another's" } }, 99);
  change();
  assert.deepEqual((await room.next()).value, { version: "8", change: { n: 8 } });
  assert.deepEqual((await room.next()).value, { version: "9", change: { n: 9 } });
  say({ snapshot: { n: 9 }, reset: true, reason: "the node is gone" }, 1);
  assert.deepEqual((await room.next()).value, { version: "9", snapshot: { n: 9 }, reset: true, reason: "the node is gone" });
  await room.return();
  assert.equal((await gate.heard("unsubscribe")).subscription, 1);
  assert.equal(here.size, 0);
});

test("a lost connection is a reset with a fresh snapshot", needsWebSocket, async (t) => {
  const { gate, client, change, here } = await published(t);
  const room = client.subscribe("Room", "tea");
  await room.next();
  here.clear();
  gate.cut();
  change();
  assert.deepEqual((await room.next()).value, { version: "8", snapshot: { n: 8 }, reset: true, reason: "the connection was lost" });
  change();
  assert.deepEqual((await room.next()).value, { version: "9", change: { n: 9 } });
});

test("after a lost connection an object is followed behind what came", needsWebSocket, async (t) => {
  const { gate, client } = await published(t);
  const first = { subscription: 1, incarnation: "42" };
  gate.answer = () => ({ response: { subscription: 1 } });
  const say = (frame) => gate.say({ op: "published", ...first, ...frame });
  const room = client.subscribe("Room", "tea");
  const asked = await gate.heard("subscribe");
  assert.deepEqual([asked.incarnation, asked.version], [undefined, undefined]);
  await new Promise((done) => setTimeout(done)); // the reply is behind us
  say({ version: "7", snapshot: { n: 7 } });
  say({ version: "8", change: { n: 8 } });
  await room.next();
  await room.next();
  gate.cut();
  const again = await gate.heard("subscribe", 2);
  assert.deepEqual([again.incarnation, again.version], ["42", "8"]);
  await new Promise((done) => setTimeout(done));
  say({ version: "9", change: { n: 9 } });
  assert.deepEqual((await room.next()).value, { version: "9", change: { n: 9 } });
  gate.cut();
  await gate.heard("subscribe", 3);
  await new Promise((done) => setTimeout(done));
  say({ version: "2", snapshot: { n: 2 }, reset: true, reason: "it began anew", incarnation: "43" });
  assert.deepEqual((await room.next()).value, { version: "2", snapshot: { n: 2 }, reset: true, reason: "it began anew" });
});

test("what is not read in time is a snapshot again", needsWebSocket, async (t) => {
  const { gate, client, change } = await published(t);
  const room = client.subscribe("Room", "tea", { limit: 3 });
  await room.next();
  for (let n = 0; n < 4; n++) change();
  await gate.heard("subscribe", 2);
  const { value } = await room.next();
  assert.deepEqual(value, { version: "11", snapshot: { n: 11 }, reset: true, reason: "changes were not read in time" });
});

test("a refusal ends the subscription, and so does the client", needsWebSocket, async (t) => {
  const { gate, client } = await published(t);
  const follow = gate.answer;
  gate.answer = () => ({ error: "not for you", code: "ACCESS_DENIED", outcome: "NotExecuted" });
  const refused = client.subscribe("Room", "secret");
  assert.equal((await errorFrom(refused.next())).code, "ACCESS_DENIED");
  assert.equal((await refused.next()).done, true);
  gate.answer = (f, n) => (n < 3 ? { error: "not yet", code: "NOT_READY", outcome: "NotExecuted" } : follow(f));
  const room = client.subscribe("Room", "tea");
  assert.equal((await room.next()).value.version, "7");
  client.close();
  assert.equal((await room.next()).done, true);
});

test("a gate may end a subscription", needsWebSocket, async (t) => {
  const { gate, client } = await published(t);
  const room = client.subscribe("Room", "tea");
  await room.next();
  gate.say({ op: "unsubscribed", subscription: 1, error: "no longer", code: "ACCESS_DENIED", outcome: "NotExecuted" });
  assert.equal((await errorFrom(room.next())).code, "ACCESS_DENIED");
  assert.equal((await room.next()).done, true);
});

test("without a WebSocket there are no subscriptions", async (t) => {
  const { client } = await published(t, { transport: "sse" });
  assert.equal((await errorFrom(client.subscribe("Room", "tea").next())).code, "NOT_SUPPORTED");
});
