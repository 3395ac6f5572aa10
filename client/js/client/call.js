import { GoverseError, notExecuted, unknown } from "./error.js";

/**
 * Call is one call of the program's, however many times it is made. It waits, is under
 * way on a link, or pauses before the next attempt, until its promise is settled.
 */
export class Call {
  link = null; // where an attempt is under way
  unsure = false; // an attempt may have run
  tries = 0;
  done = false;
  #why = null; // the last attempt's error
  #pause = 0;
  #timer;
  #signal;
  #resolve;
  #reject;

  /**
   * ask is {op, type, id, method, callId}, body the request as JSON; once says that it may be
   * made again whatever became of it; disconnected() is why there is no connection, or null. ended is called when the promise is settled.
   */
  constructor(ask, body, { timeout, signal, once, disconnected }, ended) {
    this.ask = ask;
    this.body = body;
    this.once = once;
    this.deadline = performance.now() + timeout;
    this.ended = ended;
    this.promise = new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
    });
    this.#signal = signal;
    signal?.addEventListener("abort", this.#abort);
    if (signal?.aborted) return this.#abort();
    const late = () => this.giveUp("TIMEOUT", `no answer within ${timeout} ms`, undefined, disconnected?.());
    if (timeout < 2 ** 31) this.#timer = setTimeout(late, timeout); // else it has all the time
  }

  /** What is left of its time, in ms. */
  get remaining() {
    return Math.max(1, this.deadline - performance.now());
  }

  /** Its name in errors. */
  get name() {
    const { op, type, id, method } = this.ask;
    if (type === undefined) return op;
    return `${op} ${type}/${id}${method ? "." + method : ""}`;
  }

  #abort = () => this.giveUp("CANCELED", "it was aborted", this.#signal.reason);

  succeed(value) {
    if (this.#end()) this.#resolve(value);
  }

  fail(error) {
    if (this.#end()) this.#reject(error);
  }

  /** Ends it before its last attempt has. */
  giveUp(code, text, cause = this.#why, disconnected = null) {
    const outcome = this.link || this.unsure ? unknown : notExecuted;
    let after = this.#why ? `; the last attempt: ${this.#why.message}` : "";
    if (!this.link && disconnected) after += `; there is no connection: ${disconnected.message}`;
    this.fail(new GoverseError(`${this.name}: ${text}${after}`, { code, outcome, cause: cause ?? disconnected ?? undefined }));
  }

  /** Notes why an attempt failed, and calls next after a while. */
  pause(error, ms, next) {
    this.#why = error;
    this.#pause = setTimeout(next, ms);
  }

  #end() {
    if (this.done) return false;
    this.done = true;
    clearTimeout(this.#timer);
    clearTimeout(this.#pause);
    this.#signal?.removeEventListener("abort", this.#abort);
    this.ended?.(this);
    return true;
  }
}
