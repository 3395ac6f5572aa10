import { Call } from "./call.js";
import { GoverseError, errorOf, isPassing, notExecuted, unknown } from "./error.js";
import { delay } from "./pace.js";

/**
 * Calls holds the calls of a client: those that wait for a link, in order, and those that
 * pause. What is under way is with its link. Only what surely did not run is made again,
 * and what has a call id.
 */
export class Calls {
  #link = null; // where new calls go
  #waiting = new Set(); // in the order in which they came
  #pausing = new Set();
  #limit;
  #under = new Set(); // links with calls under way
  #seq = 0;
  #why = null; // it is closed
  #refusal = null; // the error that ended the attempts to connect

  /** At most limit calls wait; one more is refused. */
  constructor(limit) {
    this.#limit = limit;
  }

  make(ask, request, options) {
    let body;
    try {
      body = bodyOf(request);
    } catch (error) {
      return Promise.reject(error);
    }
    const call = new Call(ask, body, options, (c) => this.#forget(c));
    if (call.done) return call.promise;
    if (this.#why) call.giveUp("CLOSED", this.#why);
    else if (this.#refusal) this.#turnAway(call, this.#refusal);
    else if (!ask.op.endsWith("subscribe") && this.#waiting.size + this.#pausing.size >= this.#limit) {
      call.giveUp("OVERLOADED", `${this.#limit} calls wait for the gate; this one was not begun`);
    } else {
      this.#waiting.add(call);
      this.#pump();
    }
    return call.promise;
  }

  /** New calls go to link from now on; null: they wait. */
  use(link) {
    this.#link = link;
    this.#pump();
  }

  /** A reply has come. It reports whether the gate is well. */
  take(link, frame) {
    const call = link.calls.get(frame.seq);
    if (!call) return false;
    link.calls.delete(frame.seq);
    call.link = null;
    const error = frame.error === undefined ? null : errorOf(frame, frame.retryAfter);
    if (!call.done) {
      if (!error) call.ask.answered?.(frame.response, link); // before the next frame is read
      if (!error) call.succeed(call.ask.op === "settle" ? verdict(frame) : frame.response);
      else if (call.ask.op === "settle" && frame.status === "FAILED") call.succeed({ status: "FAILED", error: frame.error });
      else this.#failed(call, error);
    }
    this.#pump();
    return !error || !isPassing(error);
  }

  /** link has ended: nothing more is answered there. */
  drop(link, why) {
    if (this.#link === link) this.#link = null;
    this.#under.delete(link);
    const calls = [...link.calls.values()];
    link.calls.clear();
    for (const call of calls) {
      call.link = null;
      if (!call.done) this.#failed(call, new GoverseError(`${call.name}: ${why.message}`, { ...why, cause: why }));
    }
  }

  /** No gate lets this client in: who waits for one hears it. Subscriptions wait on, unless it is for good. */
  refuse(error) {
    for (const call of [...this.#waiting]) if (!call.ask.op.endsWith("subscribe")) this.#turnAway(call, error);
  }

  /** No gate will be asked any more, for this reason; null: one is. */
  endWith(refusal) {
    this.#refusal = refusal;
    if (refusal) for (const call of [...this.#waiting, ...this.#pausing]) this.#turnAway(call, refusal);
  }

  #turnAway(call, error) {
    call.giveUp(error.code, `the gate does not let this client in: ${error.message}`, error);
  }

  close(text) {
    this.#why = text;
    this.#link = null;
    const held = [...this.#waiting, ...this.#pausing];
    for (const link of this.#under) held.push(...link.calls.values());
    for (const call of held) call.giveUp("CLOSED", text);
  }

  #pump() {
    const link = this.#link;
    if (!link) return;
    for (const call of this.#waiting) {
      if (call.ask.only && call.ask.only !== link) { // its number means something else there
        call.giveUp("CANCELED", "its connection has ended");
        continue;
      }
      if (link.calls.size >= link.maxCalls) return;
      const seq = ++this.#seq;
      this.#waiting.delete(call);
      this.#under.add(link);
      link.calls.set(seq, call);
      call.link = link;
      call.tries++;
      if (link.call(seq, call)) continue;
      link.calls.delete(seq); // it was not sent: the link is about to end
      call.link = null;
      call.tries--;
      this.#link = null;
      this.#waiting = new Set([call, ...this.#waiting]);
      return;
    }
  }

  #failed(call, error) {
    if (error.outcome === unknown) call.unsure = true;
    if (isPassing(error) || (error.outcome === unknown && call.once)) {
      const pace = delay(call.tries - 1, 100, 5_000);
      this.#pausing.add(call);
      call.pause(error, Math.max(Math.min(error.retryAfter ?? 0, 2 ** 30), pace), () => this.#again(call)); // a timer takes no more
      return;
    }
    if (call.unsure && error.outcome === notExecuted && error.kind !== "CALL_SETTLED") error.outcome = unknown; // an earlier attempt may have run
    call.fail(error);
  }

  #again(call) {
    this.#pausing.delete(call);
    this.#waiting.add(call);
    this.#pump();
  }

  #forget(call) {
    this.#waiting.delete(call);
    this.#pausing.delete(call);
    call.link?.cancel?.(call); // it stays in the link's count until it is answered
  }
}

const maxBody = 4 * 2 ** 20 - 8192; // the gate's limit, less the rest of a frame

function bodyOf(request) {
  let text;
  try {
    text = JSON.stringify(request);
  } catch (cause) {
    throw new GoverseError(`the request is no JSON: ${cause.message}`, { code: "INVALID_JSON", outcome: notExecuted, cause });
  }
  if (text?.length * 3 > maxBody && new TextEncoder().encode(text).length > maxBody) {
    throw new GoverseError("the request has more than 4 MiB", { code: "TOO_LARGE", outcome: notExecuted });
  }
  return text;
}

function verdict({ status, response }) {
  return status === "SKIPPED" ? { status } : { status: "SUCCESS", response };
}
