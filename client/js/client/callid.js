/**
 * Clock is the time of the gates, by which call ids are judged. This machine's may be far
 * from it: what passes since a gate was heard is measured. Before that it is this machine's.
 */
export class Clock {
  #told = 0;
  #heard = 0;

  hear(unixMillis) {
    if (!(unixMillis > 0 && unixMillis < 2 ** 48)) return;
    this.#told = unixMillis;
    this.#heard = performance.now();
  }

  now() {
    return this.#told ? this.#told + performance.now() - this.#heard : Date.now();
  }
}

/** A UUID of version 7, which carries the time. */
export function callIdAt(unixMillis) {
  const b = crypto.getRandomValues(new Uint8Array(16));
  let ms = Math.floor(unixMillis);
  for (let i = 5; i >= 0; i--, ms = Math.floor(ms / 256)) b[i] = ms % 256;
  b[6] = 0x70 | (b[6] & 0x0f);
  b[8] = 0x80 | (b[8] & 0x3f);
  const hex = Array.from(b, (x) => x.toString(16).padStart(2, "0")).join("");
  return hex.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-");
}

/** An id for an object that its creator does not name. */
export function objectId() {
  const letters = "abcdefghijklmnopqrstuvwxyz234567";
  return Array.from(crypto.getRandomValues(new Uint8Array(26)), (x) => letters[x % 32]).join("");
}
