import { errorOf } from "./error.js";
import { Stream } from "./stream.js";

/**
 * Subscription follows what one object publishes, over however many connections: a snapshot,
 * the changes after it, and a snapshot anew, as a reset, wherever changes may be missing. Over
 * another connection it goes on behind what came, where gate and object can.
 */
export class Subscription {
  stream;
  #ask;
  #make;
  #limit;
  #number = 0; // at #link; 0: none
  #link = null;
  #asking = false;
  #version = -1n;
  #incarnation; // of the last snapshot: which life of the object the version counts
  #why = ""; // the next snapshot is a reset, for this reason

  /** make(ask) makes a call that is repeated until it is refused. */
  constructor({ type, id, limit }, make, ended) {
    this.#ask = { op: "subscribe", type, id, answered: (response, link) => this.#answered(response, link) };
    this.#make = make;
    this.#limit = limit;
    this.stream = new Stream(Infinity, null, () => {
      this.#leave();
      ended(this);
    });
  }

  /** Asks for the object, when it is new and on each new connection. */
  begin() {
    if (this.#asking) return;
    this.#asking = true;
    this.#number = 0;
    this.#ask.incarnation = this.#incarnation; // to go on behind what came, if that is still there
    this.#ask.version = this.#incarnation && String(this.#version);
    this.#make(this.#ask).catch((error) => this.stream.end(error));
  }

  /** The connection is lost, and with it perhaps changes. */
  lost() {
    if (this.#number) this.#why ||= "the connection was lost";
    this.#number = 0;
  }

  #answered({ subscription }, link) {
    this.#asking = false;
    this.#number = subscription;
    this.#link = link;
    if (this.stream.done) this.#leave();
  }

  /** Takes a frame of the link, if it is of this subscription. */
  take(link, frame) {
    const { subscription, version, snapshot, change, reset, reason } = frame;
    if (link !== this.#link || subscription !== this.#number) return;
    if (frame.op === "unsubscribed") {
      this.#number = 0;
      return this.stream.end(errorOf(frame));
    }
    const now = BigInt(version);
    if (snapshot !== undefined) {
      const why = reset ? (reason ?? "changes are missing") : this.#why;
      this.stream.put(why ? { version, snapshot, reset: true, reason: why } : { version, snapshot });
      this.#why = "";
      this.#incarnation = frame.incarnation;
    } else {
      if (now <= this.#version) return; // it is here already
      this.#why = "";
      this.stream.put(change === undefined ? { version, payload: frame.payload } : { version, change }); // the node had no JSON
    }
    this.#version = now;
    if (this.stream.size > this.#limit) this.#startOver();
  }

  /** Nobody reads as fast as it comes: the next snapshot stands for all of it. */
  #startOver() {
    this.stream.clear();
    this.#why = "changes were not read in time";
    this.#incarnation = undefined;
    this.#leave();
    this.begin();
  }

  #leave() {
    if (!this.#number) return;
    this.#make({ op: "unsubscribe", subscription: this.#number, only: this.#link }).catch(() => {}); // it ends with the connection, too
    this.#number = 0;
  }
}
