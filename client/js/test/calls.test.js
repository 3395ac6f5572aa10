import assert from "node:assert/strict";
import { test } from "node:test";
import { GoverseError, ref } from "../client.js";
import { clientOf, errorFrom, needsWebSocket, pair } from "./kit.js";

const passing = { error: "not yet", code: "NOT_READY", outcome: "NotExecuted" };
const doubtful = { error: "who knows", code: "UNKNOWN_OUTCOME", outcome: "Unknown" };

for (const transport of ["websocket", "sse"]) {
  const needs = transport === "websocket" ? needsWebSocket : {};
  const pairOf = (t, settings, options) => pair(t, settings, { transport, ...options });

  test(`${transport}: a call is answered, in whatever order`, needs, async (t) => {
    const { gate, client } = await pairOf(t);
    let release;
    const held = new Promise((done) => (release = done));
    gate.answer = async (f) => (f.method === "Slow" && (await held), { response: { got: f.request } });
    const slow = client.call("T", "a/b ü", "Slow", { n: 1 });
    const fast = await ref(client, "T", "x").Fast({ n: 2 });
    assert.deepEqual(fast, { got: { n: 2 } });
    release();
    assert.deepEqual(await slow, { got: { n: 1 } });
    const { type, id, method } = await gate.heard("call");
    assert.deepEqual([type, id, method], ["T", "a/b ü", "Slow"]);
  });

  test(`${transport}: an error says whether the call ran`, needs, async (t) => {
    const { gate, client } = await pairOf(t);
    gate.answer = () => ({ error: "no such thing", code: "OBJECT_NOT_FOUND", outcome: "NotExecuted", kind: "X", http: 404 });
    const e = await errorFrom(client.call("T", "x", "M"));
    assert.ok(e instanceof GoverseError);
    assert.deepEqual([e.code, e.outcome, e.kind, e.message], ["OBJECT_NOT_FOUND", "not executed", "X", "no such thing"]);
    assert.equal(gate.said.length, 1);
  });

  test(`${transport}: what surely did not run is made again`, needs, async (t) => {
    const { gate, client } = await pairOf(t);
    gate.answer = (_, n) => (n < 3 ? passing : { response: { n } });
    assert.deepEqual(await client.call("T", "x", "M"), { n: 3 });
  });

  test(`${transport}: what may have run is not made again without a call id`, needs, async (t) => {
    const { gate, client } = await pairOf(t);
    gate.answer = () => doubtful;
    const e = await errorFrom(client.call("T", "x", "M"));
    assert.deepEqual([e.code, e.outcome, gate.said.length], ["UNKNOWN_OUTCOME", "unknown", 1]);
  });

  test(`${transport}: with a call id it is, under the same id`, needs, async (t) => {
    const { gate, client } = await pairOf(t);
    gate.answer = (_, n) => (n < 3 ? doubtful : { response: { n } });
    const callId = client.newCallId();
    assert.deepEqual(await client.call("T", "x", "M", {}, { callId }), { n: 3 });
    assert.deepEqual(gate.said.map((f) => f.callId), [callId, callId, callId]);
  });

  test(`${transport}: a later refusal does not make an earlier attempt undone`, needs, async (t) => {
    const { gate, client } = await pairOf(t);
    gate.answer = (_, n) => (n === 1 ? doubtful : { error: "no", code: "ACCESS_DENIED", outcome: "NotExecuted", http: 403 });
    const e = await errorFrom(client.call("T", "x", "M", {}, { callId: "a" }));
    assert.deepEqual([e.code, e.outcome], ["ACCESS_DENIED", "unknown"]);
    gate.said.length = 0;
    const settled = { error: "settled", code: "CONFLICT", kind: "CALL_SETTLED", outcome: "NotExecuted", http: 409 };
    gate.answer = (_, n) => (n === 1 ? doubtful : settled);
    assert.equal((await errorFrom(client.call("T", "x", "M", {}, { callId: "b" }))).outcome, "not executed");
  });

  test(`${transport}: time is up`, needs, async (t) => {
    const { gate, client } = await pairOf(t);
    await client.ready();
    gate.answer = () => null;
    const sent = await errorFrom(client.call("T", "x", "M", {}, { timeout: 50 }));
    assert.deepEqual([sent.code, sent.outcome], ["TIMEOUT", "unknown"]);
    gate.answer = () => passing;
    const refused = await errorFrom(client.call("T", "x", "M", {}, { timeout: 250 }));
    assert.deepEqual([refused.code, refused.cause?.code ?? "NOT_READY"], ["TIMEOUT", "NOT_READY"]);
  });

  test(`${transport}: a call is aborted`, needs, async (t) => {
    const { gate, client } = await pairOf(t);
    gate.answer = (f) => (f.method === "Never" ? null : { response: {} });
    const stop = new AbortController();
    const call = client.call("T", "x", "Never", {}, { signal: stop.signal });
    await gate.heard("call");
    stop.abort(new Error("enough"));
    const e = await errorFrom(call);
    assert.deepEqual([e.code, e.outcome, e.cause.message], ["CANCELED", "unknown", "enough"]);
    const before = await errorFrom(client.call("T", "x", "M", {}, { signal: stop.signal }));
    assert.deepEqual([before.code, before.outcome], ["CANCELED", "not executed"]);
    assert.deepEqual(await client.call("T", "x", "M"), {});
    assert.equal(gate.said.length, 2);
  });

  test(`${transport}: create, delete and settle`, needs, async (t) => {
    const { gate, client } = await pairOf(t);
    gate.answer = (f) => ({ response: f.op === "create" ? { id: f.id } : { success: true } });
    assert.equal(await client.create("T", "x"), "x");
    assert.match(await client.create("T"), /^[a-z2-7]{26}$/);
    assert.equal(await client.delete("T", "x"), undefined);
    gate.answer = () => ({ status: "SUCCESS", response: { n: 1 } });
    assert.deepEqual(await client.settle("T", "x", "id"), { status: "SUCCESS", response: { n: 1 } });
    gate.answer = () => ({ status: "SKIPPED", response: {} });
    assert.deepEqual(await client.settle("T", "x", "id"), { status: "SKIPPED" });
  });

  test(`${transport}: a client that is closed`, needs, async (t) => {
    const { gate, client } = await pairOf(t);
    gate.answer = () => null;
    const under = client.call("T", "x", "M");
    await gate.heard("call");
    client.close();
    const e = await errorFrom(under);
    assert.deepEqual([e.code, e.outcome], ["CLOSED", "unknown"]);
    const late = await errorFrom(client.call("T", "x", "M"));
    assert.deepEqual([late.code, late.outcome], ["CLOSED", "not executed"]);
    assert.equal((await errorFrom(client.ready())).code, "CLOSED");
    client.close();
  });
}

test("calls wait for the connection, in order and not without end", needsWebSocket, async (t) => {
  const { gate } = await pair(t);
  await gate.stop();
  const client = clientOf(t, gate.url, { queue: 10 });
  const calls = Array.from({ length: 10 }, (_, n) => client.call("T", "x", "M", { n }));
  const e = await errorFrom(client.call("T", "x", "M", {}));
  assert.deepEqual([e.code, e.outcome], ["OVERLOADED", "not executed"]);
  const late = await errorFrom(clientOf(t, gate.url).call("T", "x", "M", {}, { timeout: 30 }));
  assert.deepEqual([late.code, late.outcome], ["TIMEOUT", "not executed"]);
  await gate.listen();
  assert.deepEqual(await Promise.all(calls), Array.from({ length: 10 }, (_, n) => ({ n })));
  assert.deepEqual(gate.said.map((f) => f.request.n), Array.from({ length: 10 }, (_, n) => n));
});

test("no more calls are under way than a gate takes", needsWebSocket, async (t) => {
  const { gate, client } = await pair(t);
  let most = 0;
  let now = 0;
  gate.answer = async () => {
    most = Math.max(most, ++now);
    await new Promise(setImmediate);
    now--;
    return { response: {} };
  };
  await Promise.all(Array.from({ length: 900 }, () => client.call("T", "x", "M")));
  assert.ok(most <= 256, `${most} were under way`);
  assert.equal(gate.said.length, 900);
});

test("a request that cannot be sent is refused before it is", needsWebSocket, async (t) => {
  const { gate, client } = await pair(t);
  const circle = {};
  circle.circle = circle;
  for (const [request, code] of [[circle, "INVALID_JSON"], [{ n: 1n }, "INVALID_JSON"], [{ s: "ü".repeat(2 ** 21) }, "TOO_LARGE"]]) {
    const e = await errorFrom(client.call("T", "x", "M", request));
    assert.deepEqual([e.code, e.outcome], [code, "not executed"]);
  }
  const changing = { n: 1 };
  const call = client.call("T", "x", "M", changing);
  changing.n = 2; // it was taken as it was
  assert.deepEqual(await call, { n: 1 });
  assert.equal(gate.said.length, 1);
});

test("over HTTP some names cannot be said", async (t) => {
  const { gate, client } = await pair(t, {}, { transport: "sse" });
  for (const [type, id] of [["T", ".."], ["T", "."], ["T", ""], ["create", "x"]]) {
    const e = await errorFrom(client.call(type, id, "M"));
    assert.deepEqual([e.code, e.outcome], ["INVALID_PATH", "not executed"]);
  }
  assert.equal(gate.said.length, 0);
});

test("call ids are of the gate's time", needsWebSocket, async (t) => {
  const then = Date.UTC(2031, 1, 3);
  const { client } = await pair(t, { clock: () => then });
  await client.ready();
  const id = client.newCallId();
  assert.match(id, /^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
  const at = parseInt(id.replaceAll("-", "").slice(0, 12), 16);
  assert.ok(at >= then && at < then + 60_000, `${at} is not soon after ${then}`);
  assert.notEqual(id, client.newCallId());
});

test("what is no gate is said at once", () => {
  const gate = (url, options) => () => clientOf({ after() {} }, url, options);
  assert.throws(gate("localhost:48000"), TypeError);
  assert.throws(gate("nonsense"), TypeError);
  assert.throws(gate([]), TypeError);
  assert.throws(gate("http://localhost:1", { tranport: "sse" }), /no option tranport/);
  assert.throws(gate("http://localhost:1", { transport: "smoke" }), /auto, websocket or sse/);
});

test("a proxy's answer is not the gate's", async (t) => {
  const { gate, client } = await pair(t, {}, { transport: "sse" });
  gate.answer = () => ({ error: null, http: 502 });
  const e = await errorFrom(client.call("T", "x", "M"));
  assert.deepEqual([e.code, e.outcome], ["UNKNOWN_OUTCOME", "unknown"]);
});

test("a gate that asks for time is given it", async (t) => {
  const { gate, client } = await pair(t, {}, { transport: "sse" });
  gate.answer = (_, n) => (n > 1 ? { response: {} } : { error: "busy", code: "OVERLOADED", outcome: "NotExecuted", http: 429, retryAfterSeconds: 1 });
  const began = performance.now();
  await client.call("T", "x", "M");
  assert.ok(performance.now() - began > 900);
});

