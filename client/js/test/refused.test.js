import assert from "node:assert/strict";
import { test } from "node:test";
import { clientOf, Diary, errorFrom, needsWebSocket, pair } from "./kit.js";
import { FakeGate } from "./fakegate.js";

const invalid = { http: 400, error: "it claims what it was never sent", code: "INVALID_BODY", outcome: "NotExecuted" };
const who = { http: 401, error: "who are you?", code: "UNAUTHENTICATED", outcome: "NotExecuted" };
const never = { first: 60_000, longest: 60_000 };

for (const transport of ["websocket", "sse"]) {
  const needs = transport === "websocket" ? needsWebSocket : {};

  test(`${transport}: a token that a gate refuses is not shown again, and the loss is told`, needs, async (t) => {
    const { gate, client } = await pair(t, {}, { transport });
    const diary = new Diary(client);
    await client.ready();
    gate.push({ n: 1 });
    await diary.has("push 1");
    gate.refuse = ({ token }) => (token ? invalid : null);
    gate.cut();
    await diary.has("open", 2);
    assert.deepEqual(gate.hellos.map((h) => Boolean(h.token)), [false, true, false]);
    assert.deepEqual(diary.news, ["push 1", "reset 2..0"]);
  });

  test(`${transport}: a hello that no gate takes is not said for ever`, needs, async (t) => {
    const gates = await Promise.all([1, 2].map(() => FakeGate.start({ refuse: () => invalid })));
    t.after(() => Promise.all(gates.map((g) => g.stop())));
    const client = clientOf(t, gates.map((g) => g.url), { transport });
    const diary = new Diary(client);
    const early = client.call("T", "x", "M");
    const followed = client.subscribe("T", "x").next();
    for (const e of [await errorFrom(early), await errorFrom(followed), await errorFrom(client.call("T", "x", "M"))]) {
      assert.deepEqual([e.code, e.outcome], ["INVALID_BODY", "not executed"]);
      assert.match(e.message, /never sent/);
    }
    assert.equal((await errorFrom(client.ready())).code, "INVALID_BODY");
    assert.deepEqual([client.state, client.retryAt, client.error.code], ["refused", 0, "INVALID_BODY"]);
    assert.deepEqual(gates.map((g) => g.hellos.length), [1, 1], "each was asked once");
    assert.equal(diary.lines.at(-1), "refused");
    for (const gate of gates) gate.refuse = () => null;
    client.reconnect();
    await client.ready();
    assert.deepEqual(await client.call("T", "x", "M", { n: 1 }), { n: 1 });
  });

  test(`${transport}: without credentials calls do not wait, and the session does`, needs, async (t) => {
    const { gate, client } = await pair(t, {}, { transport });
    const diary = new Diary(client);
    await client.ready();
    gate.push({ n: 1 });
    await diary.has("push 1");
    gate.refuse = () => who;
    gate.cut();
    await diary.has("waiting");
    const e = await errorFrom(client.call("T", "x", "M"));
    assert.deepEqual([e.code, e.outcome], ["UNAUTHENTICATED", "not executed"]);
    gate.push({ n: 2 });
    gate.refuse = () => null;
    await diary.has("push 2");
    assert.deepEqual(diary.news, ["push 1", "push 2"]);
  });

  test(`${transport}: credentials that can be had anew are, before a call fails`, needs, async (t) => {
    let n = 0;
    const headers = () => ({ Authorization: ++n === 1 ? "stale" : "fresh" });
    const { client } = await pair(t, { refuse: (h) => ((h.headers.Authorization ?? h.headers.authorization) === "stale" ? who : null) }, { transport, headers });
    assert.deepEqual(await client.call("T", "x", "M", { n: 1 }), { n: 1 });
    assert.equal(n, 2);
  });
}

test("what stands before the gate is waited for: pages of errors, and pages", async (t) => {
  const { gate, client } = await pair(t, {}, { transport: "sse" });
  const diary = new Diary(client);
  await client.ready();
  const errors = [];
  client.onState(({ state, error }) => state === "waiting" && errors.push(error.message));
  const html = (http) => ({ http, type: "text/html; charset=utf-8", body: "<html><body>data: {}\n\n</body></html>" });
  const answers = [html(404), html(401), html(400), html(503), html(200), { http: 200, type: "application/json", body: "{}" }, { http: 500, body: '{"error":"oops"}' }];
  gate.refuse = () => answers.shift() ?? null;
  gate.cut();
  await diary.has("open", 2);
  assert.deepEqual(errors.slice(1).map((m) => /HTTP status (\d+)|of type ([^,;]+)|(oops)/.exec(m)?.slice(1).find(Boolean)), ["404", "401", "400", "503", "text/html", "application/json", "oops"]);
  assert.ok(gate.hellos.every((h, i) => i === 0 || h.token), "the session is waited for, too");
});

test("a gate says when to come again", async (t) => {
  const { client } = await pair(t, { refuse: () => ({ http: 429, error: "full", code: "OVERLOADED", outcome: "NotExecuted", retryAfter: 3600 }) }, { transport: "sse" });
  await new Diary(client).has("waiting");
  const ms = client.retryAt - Date.now();
  assert.ok(ms > 200_000 && ms <= 300_000, `it comes in ${ms} ms`);
});

test("a call that waited in vain says why there was no connection", async (t) => {
  const { client } = await pair(t, { refuse: () => ({ http: 503, type: "text/html", body: "<p>" }) }, { transport: "sse", backoff: never });
  await new Diary(client).has("waiting");
  const e = await errorFrom(client.call("T", "x", "M", {}, { timeout: 300 }));
  assert.deepEqual([e.code, e.outcome], ["TIMEOUT", "not executed"]);
  assert.match(e.message, /HTTP status 503/);
});

test("a pause that no timer can hold is not one of none", async (t) => {
  const { gate, client } = await pair(t, {}, { transport: "sse" });
  await client.ready();
  gate.answer = () => ({ error: "later", code: "OVERLOADED", outcome: "NotExecuted", http: 429, retryAfterSeconds: 10_000_000 });
  const call = errorFrom(client.call("T", "x", "M", {}, { timeout: 3_000 }));
  await gate.heard("call");
  assert.equal((await call).code, "TIMEOUT");
  assert.equal(gate.said.length, 1);
});
