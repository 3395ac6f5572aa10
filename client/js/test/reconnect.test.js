import assert from "node:assert/strict";
import { test } from "node:test";
import { clientOf, Diary, errorFrom, needsWebSocket, pair, quick } from "./kit.js";
import { advice } from "../client/connection.js";
import { FakeGate } from "./fakegate.js";

/** A client that has heard push 1. */
async function begun(t, settings, options) {
  const { gate, client } = await pair(t, settings, options);
  const diary = new Diary(client);
  await client.ready();
  gate.push({ n: 1 });
  await diary.has("push 1");
  return { gate, client, diary };
}

for (const transport of ["websocket", "sse"]) {
  const needs = transport === "websocket" ? needsWebSocket : {};

  test(`${transport}: a session is resumed, and nothing is missed or doubled`, needs, async (t) => {
    const { gate, client, diary } = await begun(t, {}, { transport });
    const id = client.clientId;
    gate.cut();
    gate.push({ n: 2 }); // while nobody is connected
    await diary.has("open", 2);
    gate.push({ n: 3 });
    await diary.has("push 3");
    gate.cut();
    await diary.has("open", 3);
    gate.push({ n: 4 });
    await diary.has("push 4");
    assert.deepEqual(diary.news, ["push 1", "push 2", "push 3", "push 4"]);
    assert.equal(client.clientId, id);
    assert.deepEqual(gate.hellos.map((h) => h.last), [undefined, 1, 3]);
    assert.equal(new Set(gate.hellos.map((h) => h.token)).size, 3, "a token was used twice");
  });

  for (const early of [false, true]) test(`${transport}: a gate that forgot the session says so, once (${early ? "before" : "after"} its welcome)`, needs, async (t) => {
    const { gate, client, diary } = await begun(t, { early }, { transport });
    const id = client.clientId;
    await gate.stop();
    await diary.has("waiting");
    await gate.listen();
    await diary.has("reset 2..0");
    gate.push({ n: 2 });
    await diary.has("push 2");
    gate.say({ op: "reset", from: 2, to: 0, reason: "a node is gone" });
    gate.push({ n: 3 });
    await diary.has("push 3");
    assert.deepEqual(diary.news, ["push 1", "reset 2..0", "push 2", "reset 2..0", "push 3"]);
    assert.notEqual(client.clientId, id);
  });

  test(`${transport}: a gate without sessions is one without a memory`, needs, async (t) => {
    const { gate, diary } = await begun(t, { resumes: false }, { transport });
    gate.cut();
    await diary.has("reset 1..0");
    gate.push({ n: 2 });
    await diary.has("push 2");
    assert.deepEqual(diary.news, ["push 1", "reset 1..0", "push 2"]);
  });

  test(`${transport}: gaps are told, repetitions are not`, needs, async (t) => {
    const { gate, diary } = await begun(t, {}, { transport });
    const push = (n, seq = n) => gate.say({ op: "message", type: "x/test.News", message: { n }, seq });
    push(1);
    push(4);
    push(3);
    gate.say({ op: "reset", from: 5, to: 9, reason: "too slow" });
    gate.say({ op: "reset", from: 5, to: 9, reason: "too slow" });
    push(10);
    gate.say({ op: "reset", from: 11, to: 0, reason: "a node is gone" });
    push(20);
    push(21);
    await diary.has("push 21");
    assert.deepEqual(diary.news, ["push 1", "reset 2..3", "push 4", "reset 5..9", "push 10", "reset 11..0", "push 20", "push 21"]);
  });

  test(`${transport}: a silent gate is given up`, needs, async (t) => {
    const { gate, diary } = await begun(t, {}, { transport, silence: 150 });
    await diary.has("waiting");
    await diary.has("open", 2);
    assert.ok(gate.hellos[1].token);
  });

  test(`${transport}: a gate that takes nobody in is given up`, needs, async (t) => {
    const { gate, client } = await pair(t, { mute: true }, { transport, connectTimeout: 100 });
    const diary = new Diary(client);
    await diary.has("waiting", 2);
    gate.mute = false;
    assert.deepEqual(await client.call("T", "x", "M", { n: 1 }), { n: 1 });
  });

  test(`${transport}: what was under way when the connection broke may have run`, needs, async (t) => {
    const { gate, client } = await begun(t, {}, { transport });
    gate.answer = (f, n) => (n <= 2 ? null : { response: { n } });
    const plain = client.call("T", "x", "M");
    await gate.heard("call");
    const withId = client.call("T", "x", "M", {}, { callId: client.newCallId() });
    await gate.heard("call", 2);
    await gate.stop();
    await gate.listen();
    const e = await errorFrom(plain);
    assert.deepEqual([e.code, e.outcome], ["UNKNOWN_OUTCOME", "unknown"]);
    assert.deepEqual(await withId, { n: 3 });
    const ids = gate.said.filter((f) => f.op === "call").map((f) => f.callId);
    assert.equal(ids[2], ids[1]);
  });

  test(`${transport}: credentials are given anew each time`, needs, async (t) => {
    let n = 0;
    const headers = async () => ({ Authorization: `Bearer ${++n}` });
    const { gate, diary } = await begun(t, {}, { transport, headers });
    gate.cut();
    await diary.has("open", 2);
    const given = gate.hellos.map(({ headers }) => headers.Authorization ?? headers.authorization);
    assert.deepEqual(given, ["Bearer 1", "Bearer 2"]);
  });
}

test("a gate's successor may know more than it did", needsWebSocket, async (t) => {
  const { gate, diary } = await begun(t, { resumes: false });
  gate.resumes = true;
  gate.cut();
  await diary.has("open", 2);
  assert.equal(gate.hellos.length, 1);
});

test("pushes are acknowledged", needsWebSocket, async (t) => {
  const { gate } = await begun(t);
  assert.equal((await gate.heard("ack")).last, 1);
  for (let n = 2; n <= 200; n++) gate.push({ n });
  while (gate.said.at(-1).last !== 200) await gate.heard("ack", gate.said.length + 1);
  assert.ok(gate.said.length < 20, `${gate.said.length} acknowledgements of 200 pushes`);
});

test("headers that cannot be had are asked for again", needsWebSocket, async (t) => {
  let n = 0;
  const headers = () => (++n === 1 ? Promise.reject(new Error("no token yet")) : { A: "b" });
  const { gate, client } = await pair(t, {}, { headers });
  const errors = [];
  client.onState(({ state, error }) => state === "waiting" && errors.push(error.message));
  await client.ready();
  assert.deepEqual(errors, ["no token yet"]);
  assert.deepEqual(gate.hellos, [{ op: "hello", headers: { A: "b" } }]);
  assert.equal(client.error, null);
});

test("a gate that leaves answers what it has, and the next one gets the rest", needsWebSocket, async (t) => {
  const one = await FakeGate.start();
  const two = await FakeGate.start();
  t.after(() => Promise.all([one.stop(), two.stop()]));
  const both = clientOf(t, [one.url, two.url]);
  await both.ready();
  let release;
  const held = new Promise((done) => (release = done));
  one.answer = async () => (await held, { response: { from: 1 } });
  two.answer = () => ({ response: { from: 2 } });
  const early = both.call("T", "x", "M");
  await one.heard("call");
  const again = new Diary(both).has("open");
  one.say({ op: "goodbye", error: "the gate stops", code: "NOT_READY", gates: [] });
  await again;
  assert.deepEqual(await both.call("T", "x", "M"), { from: 2 });
  release();
  assert.deepEqual(await early, { from: 1 });
  assert.equal(one.said.length, 1);
});

test("a goodbye that is not for leaving is a loss like any", needsWebSocket, async (t) => {
  const { gate, diary } = await begun(t);
  gate.say({ op: "goodbye", error: "you do not read", code: "OVERLOADED", outcome: "NotExecuted" });
  await diary.has("waiting");
  gate.push({ n: 2 });
  await diary.has("push 2");
  assert.deepEqual(diary.news, ["push 1", "push 2"]);
});

test("events: a gate that leaves answers what it has", async (t) => {
  const { gate, client } = await pair(t, {}, { transport: "sse" });
  let release;
  const held = new Promise((done) => (release = done));
  gate.answer = async (f) => (f.method === "Slow" && (await held), { response: {} });
  await client.ready();
  const slow = client.call("T", "x", "Slow");
  await gate.heard("call");
  const again = new Diary(client).has("open");
  const [door] = gate.doors;
  door.say({ op: "closed", error: "the gate stops", code: "NOT_READY" });
  door.end();
  await again;
  release();
  assert.deepEqual(await slow, {});
});

test("a client that is closed ends its session for good", needsWebSocket, async (t) => {
  const { gate, client } = await begun(t);
  client.close();
  assert.equal((await gate.heard("close")).code, 1000);
  const other = clientOf(t, gate.url, { silence: 100 });
  await new Diary(other).has("waiting");
  assert.notEqual((await gate.heard("close", 2)).code, 1000);
});

test("a client follows advice only if it was told to", needsWebSocket, async (t) => {
  const { gate: one } = await pair(t);
  const two = await FakeGate.start();
  t.after(() => two.stop());
  two.answer = () => ({ response: { from: 2 } });
  for (const [follow, from] of [[false, 1], [true, 2]]) {
    one.answer = () => ({ response: { from: 1 } });
    const client = clientOf(t, one.url, { follow });
    await client.ready();
    const again = new Diary(client).has("open");
    one.say({ op: "goodbye", error: "the gate stops", code: "NOT_READY", gates: [two.url] });
    await again;
    assert.deepEqual(await client.call("T", "x", "M"), { from });
    client.close();
  }
});

for (const transport of ["websocket", "sse"]) {
  const needs = transport === "websocket" ? needsWebSocket : {};

  test(`${transport}: of its gates a client goes to the one that a leaving gate names, at once, and shows it no token`, needs, async (t) => {
    const gates = await Promise.all([1, 2, 3].map(() => FakeGate.start()));
    t.after(() => Promise.all(gates.map((g) => g.stop())));
    const [one, two, three] = gates;
    const client = clientOf(t, gates.map((g) => g.url), { transport, backoff: { first: 60_000, longest: 60_000 } });
    const diary = new Diary(client);
    await client.ready();
    one.push({ n: 1 });
    await diary.has("push 1");
    leave(one, [one.url, `${three.url}/`, "http://stranger:1", 7]);
    await diary.has("open", 2);
    assert.deepEqual([two.hellos.length, three.hellos.length, three.hellos[0].token], [0, 1, undefined]);
    three.push({ n: 2 });
    await diary.has("push 2");
    three.cut();
    await diary.has("waiting");
    client.reconnect();
    await diary.has("open", 3);
    assert.ok(three.hellos[1].token, "the session is resumed where it is");
    assert.deepEqual(diary.news, ["push 1", "reset 2..0", "push 2"]);
    assert.equal(one.hellos.length + two.hellos.length, 1);
  });

  test(`${transport}: a session at a gate that was named is resumed there, and the given gates are for when it is gone`, needs, async (t) => {
    const { gate: one, client } = await pair(t, {}, { transport, follow: true });
    const two = await FakeGate.start();
    t.after(() => two.stop());
    const diary = new Diary(client);
    await client.ready();
    leave(one, [two.url]);
    await diary.has("open", 2);
    two.push({ n: 1 });
    await diary.has("push 1");
    two.cut();
    await diary.has("open", 3);
    two.push({ n: 2 });
    await diary.has("push 2");
    assert.deepEqual([one.hellos.length, two.hellos.length], [1, 2]);
    assert.deepEqual(diary.news, ["reset 1..0", "push 1", "push 2"]);
    await two.stop();
    await diary.has("open", 4);
    assert.equal(one.hellos.length, 2);
    assert.equal(one.hellos[1].token, undefined, "a token was shown to another gate than its own");
  });

  test(`${transport}: gates that take clients in only to send them away are not hammered`, needs, async (t) => {
    const { gate, client } = await pair(t, {}, { transport, backoff: { first: 60_000, longest: 60_000 } });
    const diary = new Diary(client);
    await client.ready();
    leave(gate, [gate.url]);
    await diary.has("open", 2);
    leave(gate, [gate.url]);
    await diary.has("waiting");
    assert.ok(client.retryAt - Date.now() > 20_000);
    assert.equal(gate.hellos.length, 2);
    client.reconnect();
    await diary.has("open", 3);
  });
}

/** All who are connected hear that the gate leaves, and where to go. */
function leave(gate, gates) {
  for (const door of gate.doors) {
    door.say({ op: door.kind === "sse" ? "closed" : "goodbye", error: "the gate stops", code: "NOT_READY", gates });
    door.end?.();
  }
}

test("advice leads nowhere that is not safe", () => {
  const named = ["http://a:1", "https://b:1", "https://c:1/", "javascript:alert(1)", "ftp://x", "https:///", "", null, { a: 1 }];
  const sorted = (from, bases, follow) => advice(named, from, bases, follow).sort();
  assert.deepEqual(sorted("http://z", ["http://z"], true), ["http://a:1", "https://b:1", "https://c:1"]);
  assert.deepEqual(sorted("https://z", ["https://z"], true), ["https://b:1", "https://c:1"]);
  assert.deepEqual(sorted("https://z", ["https://z", "http://a:1", "https://b:1"], false), ["http://a:1", "https://b:1"]);
  assert.deepEqual(sorted("https://b:1", ["https://b:1"], false), []);
  for (let i = 0; i < 50; i++) assert.equal(advice(named, "https://z", ["https://z", "https://c:1"], true)[0], "https://c:1");
  const first = new Set(Array.from({ length: 200 }, () => advice(named, "https://z", ["https://z"], true)[0]));
  assert.equal(first.size, 2, "all clients go to one gate");
  for (const nonsense of [undefined, null, "https://b:1", {}, 7]) assert.deepEqual(advice(nonsense, "https://z", ["https://z"], true), []);
});

test("where no WebSocket opens, events do", needsWebSocket, async (t) => {
  const { gate, client } = await pair(t, { sockets: false });
  const diary = new Diary(client);
  await client.ready();
  assert.deepEqual([...gate.doors].map((d) => d.kind), ["sse"]);
  gate.push({ n: 1 });
  await diary.has("push 1");
  assert.equal(diary.lines.filter((l) => l === "waiting").length, 2, "it gave a WebSocket two chances");
  gate.sockets = true;
  gate.cut();
  await diary.has("open", 2);
  assert.deepEqual([...gate.doors].map((d) => d.kind), ["websocket"]);
  gate.push({ n: 2 });
  await diary.has("push 2");
  assert.deepEqual(diary.news, ["push 1", "push 2"]);
});

test("where there is no WebSocket at all, neither is it tried", async (t) => {
  const { gate, client } = await pair(t, {}, { WebSocket: null });
  const diary = new Diary(client);
  await client.ready();
  assert.deepEqual([...gate.doors].map((d) => d.kind), ["sse"]);
  assert.deepEqual(diary.lines, ["open"]);
});

test("the connection is tried again with more and more patience, or at once", needsWebSocket, async (t) => {
  const { gate, client } = await pair(t, {}, { backoff: { first: 30_000, longest: 60_000 } });
  await client.ready();
  gate.cut();
  await new Diary(client).has("waiting");
  assert.ok(client.retryAt - Date.now() > 10_000 && client.retryAt - Date.now() <= 30_000);
  client.reconnect();
  await client.ready();
  assert.equal(client.retryAt, 0);
});

test("one gate of several is enough", needsWebSocket, async (t) => {
  const { gate } = await pair(t);
  const client = clientOf(t, ["http://127.0.0.1:1", gate.url], quick);
  assert.deepEqual(await client.call("T", "x", "M", { n: 1 }), { n: 1 });
});

test("nonsense from a gate ends the connection only", needsWebSocket, async (t) => {
  const { gate, client, diary } = await begun(t);
  for (const nonsense of ["null", "7", "[]", '{"op":"reply","seq":77}', '{"op":"who knows"}', '{"op":"register","clientId":"other","token":"x"}']) gate.say(nonsense);
  gate.push({ n: 2 });
  await diary.has("push 2");
  gate.say("{");
  await diary.has("open", 2);
  assert.deepEqual(await client.call("T", "x", "M", { n: 1 }), { n: 1 });
  assert.deepEqual(diary.news, ["push 1", "push 2"]);
});

test("pushes are iterated over, and what is not read in time is told", needsWebSocket, async (t) => {
  const { gate, client, diary } = await begun(t);
  const slow = client.pushes({ limit: 3 });
  const quick = client.pushes();
  for (let n = 2; n <= 9; n++) gate.push({ n });
  await diary.has("push 9");
  const take = async (stream, n) => {
    const taken = [];
    for await (const { push, reset } of stream) {
      taken.push(push ? push.message.n : `${reset.from}..${reset.to}`);
      if (taken.length === n) break;
    }
    return taken;
  };
  assert.deepEqual(await take(slow, 3), ["2..7", 8, 9]);
  assert.deepEqual(await take(quick, 8), [2, 3, 4, 5, 6, 7, 8, 9]);
  assert.deepEqual(await slow.next(), { value: undefined, done: true });
  const waiting = client.pushes().next();
  client.close();
  assert.deepEqual(await waiting, { value: undefined, done: true });
});

test("a listener that throws does not keep the news from the others", needsWebSocket, async (t) => {
  const { gate, client, diary } = await begun(t);
  const thrown = new Promise((seen) => {
    const others = process.listeners("uncaughtException");
    process.removeAllListeners("uncaughtException");
    process.once("uncaughtException", (error) => {
      for (const other of others) process.on("uncaughtException", other);
      seen(error);
    });
  });
  const off = client.onPush("test.News", () => {
    off();
    throw new Error("mine");
  });
  const types = [];
  client.onPush("test.News", (message, push) => types.push(push.type));
  client.onPush("test.Other", () => types.push("other"));
  gate.push({ n: 2 });
  gate.push({ n: 3 });
  await diary.has("push 3");
  assert.equal((await thrown).message, "mine");
  assert.deepEqual(types, ["test.News", "test.News"]);
});
