/** Listeners are the program's functions for one kind of news. */
export class Listeners {
  #all = new Set();

  /** Adds f, and returns what takes it away again. */
  add(f) {
    if (typeof f !== "function") throw new TypeError("a listener is a function");
    const entry = { f };
    this.#all.add(entry);
    return () => void this.#all.delete(entry);
  }

  /** Tells all. One that throws does not keep the news from the others. */
  tell(...news) {
    for (const { f } of [...this.#all]) {
      try {
        f(...news);
      } catch (error) {
        report(error);
      }
    }
  }
}

/** An error of the program's own goes where errors go that nobody catches. */
function report(error) {
  if (typeof reportError === "function") reportError(error);
  else queueMicrotask(() => { throw error; });
}
