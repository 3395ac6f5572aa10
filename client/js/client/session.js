/**
 * Session is what the client knows of its session at a gate: how to resume it, and up to
 * which push nothing is missing. What it returns as a reset, {from, to, reason}, is to be
 * told to the program: the pushes from..to are lost, and to is 0 where nobody knows how many.
 */
export class Session {
  clientId = "";
  #token = "";
  #home = ""; // the gate that it is of, and the only one that is shown the token
  #last = 0; // push
  #loose = false; // a reset left open how many were lost: the next push goes on from where it is
  #said = false; // that this session is another one

  /** What a hello says of it to the gate at base. */
  helloTo(base) {
    return this.#token && base === this.#home ? { token: this.#token, last: this.#last } : {};
  }

  get last() {
    return this.#last;
  }

  /** The session is not gone on with: the next welcome is of another one. */
  forget() {
    this.#token = "";
  }

  /** The gate at base has taken the client in. early is a reset that it said before. */
  begin(base, { clientId, token, resumed }, early) {
    const goesOn = resumed === true && this.#token !== "" && base === this.#home;
    const from = this.#last + 1;
    const anew = !goesOn && this.clientId !== "";
    this.clientId = clientId;
    this.#token = typeof token === "string" ? token : "";
    this.#home = base;
    this.#said = anew && !early;
    if (goesOn) return early ? this.reset(early) : null;
    this.#last = 0;
    this.#loose = false;
    return anew ? { from, to: 0, reason: early?.reason ?? "the gate has begun a new session" } : null;
  }

  /** A push has come. Without a number it is new. */
  push({ seq }) {
    if (!Number.isSafeInteger(seq)) return { isNew: true, reset: null };
    if (seq <= this.#last) return { isNew: false, reset: null };
    const gap = seq > this.#last + 1 && !this.#loose;
    const reset = gap ? { from: this.#last + 1, to: seq - 1, reason: "pushes did not arrive" } : null;
    this.#last = seq;
    this.#loose = this.#said = false;
    return { isNew: true, reset };
  }

  /** The gate says that pushes are lost. */
  reset({ from, to, reason }) {
    if (!(to > 0)) {
      const twice = this.#said;
      this.#said = false;
      this.#loose = true;
      return twice ? null : { from, to: 0, reason };
    }
    if (to <= this.#last) return null;
    this.#last = to;
    return { from, to, reason };
  }
}
