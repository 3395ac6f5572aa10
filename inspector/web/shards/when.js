// The moment of which the map is: now, or one of those that the inspector remembers.

import { ago, clock, el } from "../draw.js";
import { ask } from "../feed.js";

/** A slider over the time that is kept. past is the map of its moment; null: it is now. */
export class When {
  past = null; // {at, from, names, shards}
  #from = 0;
  #asked = 0;
  #wait = 0;

  /** changed is called when the map is of another moment. */
  constructor(changed) {
    this.changed = changed;
    this.slider = el("input", { type: "range", min: "0", max: "1000", value: "1000", "aria-label": "The moment that the map shows; at the right it is now" });
    this.slider.addEventListener("input", () => this.#slid());
    this.words = el("span", { class: "soft" });
    this.back = el("button", { type: "button", hidden: true, onclick: () => this.now() }, "Back to now");
    this.element = el("div", { class: "when" }, el("span", { class: "soft" }, "as it was"), this.slider, this.words, this.back);
  }

  now() {
    this.#asked++;
    clearTimeout(this.#wait);
    this.past = null;
    this.slider.value = "1000";
    this.#say();
  }

  /** Shows the map of a moment, in unix milliseconds. */
  async go(at) {
    const asked = ++this.#asked;
    try {
      const past = await ask(`/api/v1/shards?at=${Math.round(at)}`);
      if (asked !== this.#asked) return; // it was slid on
      this.past = past;
      this.#from = past.from;
      this.slider.value = String(Math.round((1000 * (past.at - past.from)) / Math.max(1, Date.now() - past.from)));
      this.#say();
    } catch (e) {
      if (asked === this.#asked) this.words.textContent = e.message;
    }
  }

  async #slid() {
    clearTimeout(this.#wait);
    const part = Number(this.slider.value) / 1000;
    if (part === 1) return this.now();
    this.#wait = setTimeout(async () => {
      if (!this.#from) this.#from = (await ask("/api/v1/shards?at=0")).from;
      await this.go(this.#from + part * (Date.now() - this.#from));
    }, 60);
  }

  #say() {
    this.words.textContent = this.past ? `at ${clock(this.past.at)}, ${ago(this.past.at)}${this.past.at === this.past.from ? ": nothing earlier is kept" : ""}` : "now";
    this.slider.setAttribute("aria-valuetext", this.words.textContent);
    this.back.hidden = !this.past;
    this.changed();
  }
}
