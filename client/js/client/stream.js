/**
 * Stream is an async iterator over what is put into it. What is not taken waits, up to a
 * limit; beyond it the oldest is dropped, and overflow() says what is read in its place.
 */
export class Stream {
  #items = [];
  #takers = [];
  #limit;
  #overflow;
  #ended;
  #done = false;
  #error = null;

  constructor(limit, overflow, ended) {
    this.#limit = limit;
    this.#overflow = overflow;
    this.#ended = ended;
  }

  put(item) {
    if (this.#done) return;
    const taker = this.#takers.shift();
    if (taker) return taker.resolve({ value: item, done: false });
    this.#items.push(item);
    if (this.#items.length <= this.#limit) return;
    const lost = this.#items.splice(0, 2); // one for the notice
    this.#items.unshift(this.#overflow(lost));
  }

  /** How many items wait. */
  get size() {
    return this.#items.length;
  }

  get done() {
    return this.#done;
  }

  /** Drops what waits. */
  clear() {
    this.#items = [];
  }

  /** Ends it behind what waits, with an error if there is one. */
  end(error = null) {
    if (this.#done) return;
    this.#done = true;
    this.#error = error;
    this.#ended?.();
    for (const taker of this.#takers.splice(0)) this.#last(taker);
  }

  #last({ resolve, reject }) {
    const error = this.#error;
    this.#error = null;
    if (error) reject(error);
    else resolve({ value: undefined, done: true });
  }

  next() {
    if (this.#items.length > 0) return Promise.resolve({ value: this.#items.shift(), done: false });
    return new Promise((resolve, reject) => {
      if (this.#done) this.#last({ resolve, reject });
      else this.#takers.push({ resolve, reject });
    });
  }

  return() {
    this.#items = [];
    this.end();
    return Promise.resolve({ value: undefined, done: true });
  }

  [Symbol.asyncIterator]() {
    return this;
  }
}
